"""Checks of GGUF files, of which transformers passes over in silence what it does not know."""

import json
import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tsdi.errors import MismatchError, ModelError

if TYPE_CHECKING:  # locating a model loads no torch
    import torch
    from transformers import PretrainedConfig, PreTrainedModel

_LOG = logging.getLogger(__name__)
_BLOCK = re.compile(r"blk\.(\d+)\.")
# Names of tokenizers that llama.cpp splits texts for as GPT-2's does.
_LIKE_GPT2 = ("gpt-2", "phi-2", "mpt", "olmo", "jais")
_ELSEWHERE = "Take the checkpoint that it was converted from, or --engine llama-cpp."


@dataclass(frozen=True)
class _Contents:
    """Single values by key, the number of elements by tensor, and the number of tokens."""

    values: Mapping[str, Any]
    sizes: Mapping[str, int]
    tokens: int


def check_gguf(name: str, file: Path) -> None:
    """Raise ModelError unless a file is a whole GGUF file, and gguf is there to read it."""
    if find_spec("gguf") is None:
        raise ModelError(f"Reading {name} needs gguf.", "pip install 'tsdi[real]'")
    parts = _contents(file).values.get("split.count", 1)
    if parts > 1:
        raise ModelError(
            f"{name} is one of {parts} parts of a model.", "Join them: llama-gguf-split --merge."
        )


def check_positions(name: str, file: Path, config: "PretrainedConfig") -> None:
    """Raise ModelError where a file stretches rotary positions, and transformers leaves that out.

    Llama 3.1 and later do, by a tensor of factors.
    """
    contents = _contents(file)
    told = [key for key in contents.sizes if key.startswith("rope_")]
    told += [
        key
        for key, value in contents.values.items()
        if key.endswith(".rope.scaling.type") and value != "none"
    ]
    if told and _rope_types(getattr(config, "rope_parameters", None)) <= {"default"}:
        raise ModelError(
            f"{name} stretches its positions ({told[0]}), which transformers does not read from"
            " GGUF files of this kind.",
            _ELSEWHERE,
        )


def misshapen(model: "PreTrainedModel") -> list[tuple[str, "torch.Size", "torch.Size"]]:
    """Tensors of another shape than the model's: name, shape and the model's shape.

    transformers 5.18 puts them in as they are.
    """
    import torch

    with torch.device("meta"):
        wanted = type(model)(model.config).state_dict()
    found = model.state_dict()
    keys = [key for key in wanted if key in found and found[key].shape != wanted[key].shape]
    return [(key, found[key].shape, wanted[key].shape) for key in keys]


def check_all_read(name: str, file: Path, model: "PreTrainedModel") -> None:
    """Raise MismatchError unless a model has taken all the numbers of its file.

    Blocks behind the last layer, which predict several tokens at once, are no part of it.
    """
    layers = model.config.get_text_config().num_hidden_layers
    total = sum(n for key, n in _contents(file).sizes.items() if _block(key) < layers)
    kept = model.state_dict().keys()
    held = sum(one.numel() for one in model.parameters())
    held += sum(one.numel() for key, one in model.named_buffers() if key in kept)
    if total > held:
        raise MismatchError(
            f"transformers passes over {total - held:,} of the {total:,} numbers in {name}.",
            _ELSEWHERE,
        )


def fit_tokenizer(file: Path, tokenizer: Any) -> None:
    """Take out of a tokenizer what is not in its file; warn once if it splits texts otherwise.

    transformers gives each byte-level one GPT-2's <|endoftext|>, behind the last row of a model
    that has none.
    """
    from tokenizers import Tokenizer
    from tokenizers.pre_tokenizers import ByteLevel

    contents = _contents(file)
    if len(tokenizer) > contents.tokens:
        state = json.loads(tokenizer.backend_tokenizer.to_str())
        added = [token for token in state["added_tokens"] if token["id"] < contents.tokens]
        tokenizer._tokenizer = Tokenizer.from_str(json.dumps({**state, "added_tokens": added}))
    split = contents.values.get("tokenizer.ggml.pre", "gpt-2")
    if split not in _LIKE_GPT2 and isinstance(tokenizer.backend_tokenizer.pre_tokenizer, ByteLevel):
        _warn_once(f"{file.name} splits texts as {split!r} says")


@cache
def _warn_once(what: str) -> None:
    _LOG.warning(
        "%s, which transformers does not know: it splits them as GPT-2 does, and may give a few"
        " texts other tokens than the model was trained on.",
        what,
    )


def _contents(file: Path) -> _Contents:
    known = file.stat()
    return _read(file, known.st_size, known.st_mtime_ns)


@cache
def _read(file: Path, size: int, changed: int) -> _Contents:
    """The contents of a file that had this size and time of change.

    Raises:
        ModelError: If it is no GGUF file, or not whole.
    """
    from gguf import GGUFReader

    try:
        reader = GGUFReader(file)
        values = {key: one.contents() for key, one in reader.fields.items() if len(one.data) == 1}
        sizes = {one.name: int(one.n_elements) for one in reader.tensors}
        tokens = reader.fields.get("tokenizer.ggml.tokens")
        return _Contents(values, sizes, len(tokens.data) if tokens else 0)
    except Exception as error:  # of whatever the numbers of a damaged file lead to
        reason = " ".join(str(error).split())[:120] or type(error).__name__
        raise ModelError(
            f"{file.name} is no GGUF file, or not all of one ({reason}).",
            "Copy or download it again.",
        ) from error


def _rope_types(parameters: object) -> set[object]:
    """The kinds of rotary positions in a config, which may have some for each kind of layer."""
    if not isinstance(parameters, Mapping):
        return set()
    found = {parameters["rope_type"]} if "rope_type" in parameters else set()
    return found.union(*(_rope_types(one) for one in parameters.values()))


def _block(tensor: str) -> int:
    """The number of a tensor's block; -1 of one outside."""
    found = _BLOCK.match(tensor)
    return int(found[1]) if found else -1
