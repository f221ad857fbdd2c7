"""What tells one model, pool or judge from another one at the same place."""

import hashlib
from functools import cache
from pathlib import Path

_DECIDING = ("*.safetensors", "*.bin", "*.json", "*.jinja", "*.model", "*.txt", "*.npz", "*.py")


def fingerprint(name: str) -> str:
    """A hash of a file, or of the files of a model's folder; any other name stands for itself."""
    place = Path(name)
    if place.is_file():
        return _hash(place)
    if not place.is_dir():
        return name
    files = sorted({file for pattern in _DECIDING for file in place.glob(pattern)})
    parts = [f"{file.name} {_hash(file)}" for file in files]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def _hash(file: Path) -> str:
    known = file.resolve().stat()
    return _hash_of(str(file.resolve()), known.st_size, known.st_mtime_ns)


@cache
def _hash_of(file: str, size: int, changed: int) -> str:
    with Path(file).open("rb") as data:
        return hashlib.file_digest(data, "sha256").hexdigest()[:16]
