"""Checks that checkpoints may be merged: equal configs, tokenizers and tensor shapes."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor
from transformers import AutoConfig

from tsdi.errors import MismatchError, ModelError
from tsdi.files import parse_json
from tsdi.models.compatibility import check_same_tokenizer, other_template
from tsdi.models.load import load_tokenizer
from tsdi.models.names import check_no_export

INDEX = "model.safetensors.index.json"
_ONE = "model.safetensors"
_AVERAGED = ("F16", "BF16", "F32", "F64")
# Keys of a config that decide no number of a forward pass. Any other difference is refused.
_UNDECIDING = (
    {"_name_or_path", "transformers_version", "unsloth_version"}  # what made it
    | {"dtype", "torch_dtype", "use_cache"}  # how it is run; the tensors have their own dtypes
    | {"bos_token_id", "eos_token_id", "pad_token_id"}  # where generation begins and ends
    | {"initializer_range", "attention_dropout", "hidden_dropout", "attn_pdrop", "embd_pdrop"}
    | {"resid_pdrop", "router_aux_loss_coef", "output_router_logits"}  # training alone
)
_REMEDY = "Merge models that were trained from one."
_LOG = logging.getLogger(__name__)

Places = Mapping[str, Path]
"""The file of every tensor of a model."""


def tensor_places(folder: Path) -> Places:
    """The file of every tensor of a model.

    Raises:
        ModelError: If the folder is an adapter or holds no whole model in safetensors.
        UsageError: If it is an export of tsdi.
    """
    if folder.is_file():
        raise ModelError(f"{folder} is a file.", "Merge folders with weights in safetensors.")
    if (folder / "adapter_config.json").exists():
        raise ModelError(f"{folder} is an adapter.", "Merge it into its base model first.")
    check_no_export(str(folder))
    try:
        if (folder / INDEX).exists():
            shards = parse_json((folder / INDEX).read_bytes())["weight_map"]
            return {name: folder / Path(file).name for name, file in shards.items()}
        with safe_open(folder / _ONE, "pt") as file:
            return dict.fromkeys(file.keys(), folder / _ONE)
    except (OSError, SafetensorError, ValueError, KeyError, TypeError) as error:
        reason = " ".join(str(error).split())[:120]
        raise ModelError(
            f"{folder} holds no whole model in safetensors ({reason}).",
            "Save it again with safe_serialization; pickles are not read.",
        ) from None


def opened(path: Path) -> Any:
    """A file of tensors, open.

    Raises:
        ModelError: If it cannot be read.
    """
    try:
        return safe_open(path, "pt")
    except (OSError, SafetensorError) as error:
        raise ModelError(f"Cannot read {path}: {' '.join(str(error).split())[:120]}.") from None


def check_mergeable(folders: Sequence[Path], places: Sequence[Places]) -> None:
    """Check that models may be merged, and say so where their chat templates differ.

    Configs must be equal but for what decides no number, and tokenizers give the same ids: the
    merged model has the first one's.

    Raises:
        MismatchError: If configs, tokenizers, or names or shapes of tensors differ.
        ModelError: If a tensor holds numbers that have no mean, such as packed 4-bit ones.
    """
    configs = [dict(_deciding(_config(folder))) for folder in folders]
    for folder, config, place in zip(folders, configs, places, strict=True):
        for key in sorted(configs[0].keys() | config.keys()):
            one, other = configs[0].get(key), config.get(key)
            if one != other:
                raise MismatchError(
                    f"The configs of {folders[0]} and {folder} differ in {key}: {one} and {other}.",
                    _REMEDY,
                )
        different = sorted(place.keys() ^ places[0].keys())
        if different:
            raise MismatchError(
                f"{folders[0]} and {folder} do not both have the tensor {different[0]!r}"
                f" ({len(different)} such tensors).",
                _REMEDY,
            )
    _check_tensors(places)
    _check_tokenizers(folders)


def _config(folder: Path) -> dict[str, Any]:
    """A model's config with all defaults, which other versions of transformers do not write."""
    try:
        config = parse_json((folder / "config.json").read_bytes(), finite=False)
    except (OSError, ValueError):
        raise ModelError(f"{folder} has no readable config.json.") from None
    try:
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False).to_dict()
    except Exception:  # of an architecture with code of its own; the file counts as it is
        _LOG.debug("%s is compared as it is written.", folder / "config.json")
    return config if isinstance(config, dict) else {}


def _deciding(config: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    """The entries of a config that decide numbers, nested keys joined by dots."""
    for key, value in config.items():
        if key in _UNDECIDING:
            continue
        if isinstance(value, dict):
            yield from _deciding(value, f"{before}{key}.")
        else:
            yield f"{before}{key}", value


def _check_tensors(places: Sequence[Places]) -> None:
    with ExitStack() as stack:
        files = [
            {path: stack.enter_context(opened(path)) for path in set(place.values())}
            for place in places
        ]
        for name in places[0]:
            parts = [open_[place[name]] for open_, place in zip(files, places, strict=True)]
            slices = [part.get_slice(name) for part in parts]
            for place, part in zip(places, slices, strict=True):
                if part.get_shape() != slices[0].get_shape():
                    raise MismatchError(
                        f"{place[name]}: the tensor {name!r} is {tuple(part.get_shape())}, the"
                        f" first model's {tuple(slices[0].get_shape())}.",
                        _REMEDY,
                    )
            kinds = [part.get_dtype() for part in slices]
            odd = next((i for i, kind in enumerate(kinds) if kind not in _AVERAGED), None)
            if odd is not None and not _same_integers([part.get_tensor(name) for part in parts]):
                raise ModelError(
                    f"{places[odd][name]}: the tensor {name!r} is {kinds[odd]}, which has no mean:"
                    " the weights are quantised.",
                    "Merge the models in bfloat16 or float32, then quantise the result.",
                )


def _same_integers(tensors: Sequence[Tensor]) -> bool:
    return not tensors[0].is_floating_point() and all(
        torch.equal(tensors[0], tensor) for tensor in tensors[1:]
    )


def _check_tokenizers(folders: Sequence[Path]) -> None:
    """Check that the models that have a tokenizer have equal ones."""
    having = [folder for folder in folders if any(folder.glob("tokenizer*"))]
    tokenizers = [load_tokenizer(str(folder)) for folder in having]
    for one, other in pairwise(tokenizers):
        check_same_tokenizer(one, other)
        if other_template(one, other):
            _LOG.info("The chat templates differ; the merged model has the first model's.")
