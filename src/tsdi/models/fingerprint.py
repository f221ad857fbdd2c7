"""Fingerprints of models, pools and judges: cheap hashes of file contents.

Files of up to 64 MiB count in full. Of larger ones count the size, and blocks: of safetensors the
header and the ends and middle of every tensor, so that no tensor changes unseen; of others
thousands of blocks from all of the file. A change of single numbers in large weights is not seen.
"""

import hashlib
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO

from tsdi.errors import ModelError
from tsdi.files import json_or_none, parse_json
from tsdi.models.names import is_local, locate, split_revision
from tsdi.models.shipped import resolve_model

_WHOLE = 64 << 20
_BLOCK = 4096
_BLOCKS = 4096  # blocks that are hashed of a large file other than safetensors
# What decides a model's answers; a folder may hold anything else, such as results.
_DECIDING = (
    "*.safetensors", "pytorch_model*.bin", "adapter_model*.bin", "*.gguf", "*.npz", "*.index.json",
    "*config*.json", "tokenizer*", "special_tokens_map.json", "added_tokens.json", "vocab*",
    "merges.txt", "*.model", "*.tiktoken", "*.jinja", "chat_template*", "*.py",
    "custom_generate/*.py", "tsdi/*", "additional_chat_templates/*.jinja",
)  # fmt: skip
_ADAPTER = "adapter_config.json"


def fingerprint(name: str) -> str:
    """A hash of a file, or of a model's deciding files; a hub name with its commit.

    An adapter's counts its base model too. Any other name stands for itself.
    """
    if not name:
        return ""
    place = Path(resolve_model(name))
    if place.is_file():
        return _hash(place)
    if place.is_dir():
        return _of_folder(place)
    return _of_hub(name)


def of_local(name: str) -> dict[str, str]:
    """{"fingerprint": hash} of a model in a local folder; {} for one of the hub."""
    return {"fingerprint": fingerprint(name)} if name and Path(resolve_model(name)).exists() else {}


def alike(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether two descriptions are equal; a fingerprint that only one of them has is ignored."""
    if not one.keys() ^ other.keys() <= {"fingerprint"}:
        return False
    return all(_alike(one[key], other[key]) for key in one.keys() & other.keys())


def _alike(one: Any, other: Any) -> bool:
    both = isinstance(one, dict) and isinstance(other, dict)
    return alike(one, other) if both else bool(one == other)


def _of_folder(folder: Path) -> str:
    files = {file for pattern in _DECIDING for file in folder.glob(pattern) if file.is_file()}
    parts = [f"{file.relative_to(folder)} {_hash(file)}" for file in sorted(files)]
    parts += _base(folder / _ADAPTER)
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def _of_hub(name: str) -> str:
    if is_local(name):
        return name
    try:
        place = locate(name)
        base = _base(place.fetch(_ADAPTER)) if _ADAPTER in place.files else []
    except (ModelError, OSError):  # loading speaks of it
        return name
    return " ".join([split_revision(name)[0], str(place.revision), *base])


def _base(config: Path) -> list[str]:
    """The name of an adapter's base model, in a list; empty for any other config."""
    found = json_or_none(config)
    if not isinstance(found, dict) or "base_model_name_or_path" not in found:
        return []  # no adapter, or one that loading speaks of
    base = found["base_model_name_or_path"]
    if not isinstance(base, str) or (Path(base) / _ADAPTER).exists():
        return [str(base)]  # an adapter on an adapter does not load
    return [f"base {fingerprint(base)}"]


def _hash(file: Path) -> str:
    known = file.resolve().stat()
    return _hash_of(str(file.resolve()), known.st_size, known.st_mtime_ns)


@cache
def _hash_of(file: str, size: int, changed: int) -> str:
    with Path(file).open("rb") as data:
        if size <= _WHOLE:
            return hashlib.file_digest(data, "sha256").hexdigest()[:16]
        digest = hashlib.sha256(str(size).encode())
        for start in _starts(data, size):
            data.seek(start)
            digest.update(data.read(_BLOCK))
        return digest.hexdigest()[:16]


def _starts(data: BinaryIO, size: int) -> Iterator[int]:
    """Offsets of the blocks of a large file that are hashed."""
    length = int.from_bytes(data.read(8), "little")
    header = _tensors(data.read(length)) if length <= _WHOLE else []
    if not header:
        yield from range(0, size, max(_BLOCK, size // _BLOCKS))
        return
    yield from range(0, 8 + length, _BLOCK)
    for begin, end in header:
        first, last = 8 + length + begin, 8 + length + max(begin, end - _BLOCK)
        yield from sorted({first, (first + last) // 2, last})


def _tensors(header: bytes) -> list[tuple[int, int]]:
    """Begin and end offsets of tensors, from a safetensors header; none if it is no header."""
    try:
        found: dict[str, Any] = parse_json(header)
        ends = [one["data_offsets"] for name, one in found.items() if name != "__metadata__"]
        return [(max(0, int(begin)), max(0, int(end))) for begin, end in ends]
    except (ArithmeticError, ValueError, KeyError, TypeError, AttributeError):
        return []  # damaged: loading speaks of it
