"""A bias's two files, ``bias_config.json`` and ``bias.safetensors`` (docs/reference/format.md)."""

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pydantic
import torch
from huggingface_hub import hf_hub_download
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from tsdi import __version__
from tsdi.bias.condition_file import (
    check_condition,
    condition_fields,
    condition_tensors,
    read_condition,
)
from tsdi.bias.info import AGAIN, SHA256, BiasInfo, first_problem
from tsdi.bias.slope_file import check_slope, read_slope, slope_fields, slope_tensors
from tsdi.bias.sparse_file import FIELD, check_tokens, dense_tensors, kept_tokens, sparse_tensors
from tsdi.decoding.condition import Condition
from tsdi.decoding.slope import Slope
from tsdi.errors import FormatError
from tsdi.files import parse_json, to_json, write_bytes
from tsdi.models.biases import CONFIG_FILE, NO_BIAS, locate_bias
from tsdi.models.names import Place, is_local, split_revision

FORMAT_VERSION = 5
"""Of a bias in sparse form; older readers know less."""
SLOPE_VERSION = 4
"""Of one with a slope."""
CONDITION_VERSION = 3
"""Of one with a condition and no slope."""
PLAIN_VERSION = 2
"""Of one with neither."""
TENSORS_FILE = "bias.safetensors"
LARGEST_SHIFT = 1e6
"""In logits; real shifts are below 100, and far more leaves no finite logit of a model."""
_FIT_AGAIN = "Fit it again, or fetch the bias again from where it is whole."


def write(
    folder: Path,
    values: Tensor,
    error: Tensor,
    info: BiasInfo,
    condition: Condition | None,
    slope: Slope | None,
) -> None:
    """Write values and standard errors, float32 [steps, vocab], with provenance.

    Where most of them are 0, as of the top k tokens, those that are not are written.

    Raises:
        FormatError: If the bias could not be read again.
    """
    info.check(folder, len(values))  # what could not be read is not written
    _check_numbers(values, error, folder)
    tensors = {"bias": values.contiguous(), "error": error.contiguous()}
    more: dict[str, Any] = {}
    if (kept := kept_tokens(values, error)) is not None:
        tensors = sparse_tensors(values, error, kept)
        more[FIELD] = kept
    if condition is not None:
        with _usable("condition", folder):
            check_condition(condition, info, values.shape[1])
        tensors |= condition_tensors(condition)
        more["condition"] = condition_fields(condition)
    if slope is not None:
        with _usable("slope", folder):
            check_slope(slope, *values.shape)
        tensors |= slope_tensors(slope)
        more["slope"] = slope_fields(slope)
    data = save(tensors, {"format": "tsdi"})
    config = {
        "format": "tsdi",
        "format_version": _version(more),
        "tsdi_version": __version__,
        "tensors_sha256": hashlib.sha256(data).hexdigest(),
        "steps": values.shape[0],
        "vocab": values.shape[1],
        **info.model_dump(mode="json"),
        **more,
    }
    text = to_json(config)  # what cannot be written fails before anything is
    write_bytes(folder / TENSORS_FILE, data)
    write_bytes(folder / CONFIG_FILE, text)  # last: it says that the bias is complete


def _version(config: Mapping[str, Any]) -> int:
    """The lowest format version that has all of these fields."""
    if config.get(FIELD) is not None:
        return FORMAT_VERSION
    if config.get("slope") is not None:
        return SLOPE_VERSION
    return PLAIN_VERSION if config.get("condition") is None else CONDITION_VERSION


def read(
    name: str, how: Mapping[str, Any]
) -> tuple[Tensor, Tensor, BiasInfo, Condition | None, Slope | None]:
    """Read a bias from a folder or the hub.

    Args:
        name: Folder, or hub id with or without "@REVISION".
        how: Settings of ``hf_hub_download``, "revision" among them.

    Returns:
        Values and standard errors, float32 [steps, vocab], provenance, and condition and slope if
        there are any.

    Raises:
        FormatError: If there is no valid bias.
    """
    config, data = _fetch(name, how)
    fields = _object(name, config)
    asked, sloped = fields.pop("condition", None), fields.pop("slope", None)
    kept = _kept(name, fields)
    info, shape, digest = _parse_config(name, fields)
    if hashlib.sha256(data).hexdigest() != digest:
        raise FormatError(
            f"{name}/{TENSORS_FILE} is truncated or does not belong to its {CONFIG_FILE}.",
            "Copy or estimate it again.",
        )
    info.check(name, shape[0])
    tensors = _tensors(name, data, shape, kept)
    values, error = tensors["bias"], tensors["error"]
    _check_numbers(values, error, name)
    condition = slope = None
    if asked is not None:
        with _usable("condition", name):
            condition = read_condition(
                asked, tensors, (info.tokenizer_sha256, info.template_sha256)
            )
            check_condition(condition, info, values.shape[1])
    if sloped is not None:
        with _usable("slope", name):
            slope = read_slope(sloped, tensors)
    return values, error, info, condition, slope


def _tensors(name: str, data: bytes, shape: tuple[int, int], kept: int | None) -> dict[str, Tensor]:
    """The tensors of the file; bias and errors as float32 [steps, vocab], whatever its form."""
    try:
        tensors = load(data)
        parts = {one: tensors[one] for one in ("bias", "error")}
    except (SafetensorError, KeyError, ValueError) as problem:
        raise FormatError(f"{name}/{TENSORS_FILE} is no bias: {problem}.", AGAIN) from problem
    written = shape if kept is None else (shape[0], kept)
    for tensor in parts.values():
        if tuple(tensor.shape) != written or tensor.dtype not in (torch.float32, torch.float16):
            raise FormatError(
                f"{name}/{TENSORS_FILE} holds {tensor.dtype} {tuple(tensor.shape)}, its "
                f"{CONFIG_FILE} says {written}.",
                AGAIN,
            )
    if kept is None:
        return tensors | {one: tensor.float() for one, tensor in parts.items()}
    try:
        check_tokens(tensors, kept, shape)
    except ValueError as problem:
        raise FormatError(f"{name}/{TENSORS_FILE}: {problem}.", AGAIN) from None
    return tensors | dense_tensors(tensors, shape[1])


@contextmanager
def _usable(what: str, place: object) -> Iterator[None]:
    """Turn errors in a condition or slope into a FormatError that names the place."""
    try:
        yield
    except ValueError as problem:
        why = (
            first_problem(problem)
            if isinstance(problem, pydantic.ValidationError)
            else str(problem)
        )
        raise FormatError(
            f"{place}: the bias's {what} cannot be used: {why}.", _FIT_AGAIN
        ) from None


def _fetch(name: str, how: Mapping[str, Any]) -> list[bytes]:
    """The bytes of both files, from a folder or the hub."""
    files = (CONFIG_FILE, TENSORS_FILE)
    try:
        place = _locate(name, how)
        if place.is_folder:
            return [(Path(place.name) / file).read_bytes() for file in files]
        settings = {**how, "revision": place.revision}
        return [Path(hf_hub_download(place.name, f, **settings)).read_bytes() for f in files]
    except (OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise FormatError(f"{name} holds no bias ({reason}).", NO_BIAS) from error


def _locate(name: str, how: Mapping[str, Any]) -> Place:
    hub_id, named = split_revision(name)
    revision = how["revision"] or named
    if not is_local(name) and any(how[key] for key in how if key != "revision"):
        return Place(hub_id, revision, frozenset())  # huggingface_hub alone knows these settings
    return locate_bias(f"{hub_id}@{revision}" if revision else name)


def _check_numbers(values: Tensor, error: Tensor, place: object) -> None:
    """Raise FormatError unless shapes and values are as docs/reference/format.md says."""
    for name, tensor in (("bias", values), ("error", error)):
        wrong = ""
        if not tensor.numel():
            wrong = "no numbers"
        elif not bool(torch.isfinite(tensor).all()):
            wrong = "NaN or infinite numbers"
        elif float(tensor.abs().max()) > LARGEST_SHIFT:
            wrong = f"numbers beyond {LARGEST_SHIFT:,.0f} logits"
        elif name == "error" and bool((tensor < 0).any()):
            wrong = "negative numbers"
        if wrong:
            raise FormatError(f"{place}/{TENSORS_FILE}: {name!r} has {wrong}.", AGAIN)


def _kept(name: str, config: dict[str, Any]) -> int | None:
    """How many tokens of a step are written, taken out of a config; None: all of them."""
    kept = config.pop(FIELD, None)
    if kept is not None and (type(kept) is not int or kept < 1):
        raise FormatError(f"{name}/{CONFIG_FILE}: {FIELD!r} must be a whole number from 1.", AGAIN)
    return kept


def _parse_config(name: str, config: dict[str, Any]) -> tuple[BiasInfo, tuple[int, int], str]:
    """Read the fields of ``bias_config.json``; ``BiasInfo.check`` has still to be called.

    Returns:
        The fields about the bias, steps and vocabulary, and the hash of the tensors' file.

    Raises:
        FormatError: If they are those of no bias.
    """
    shape = (config.pop("steps", None), config.pop("vocab", None))
    digest = config.pop("tensors_sha256", None)
    for key, size in zip(("steps", "vocab"), shape, strict=True):
        if type(size) is not int or size < 1:
            raise FormatError(f"{name}/{CONFIG_FILE}: {key!r} must be a whole number.", AGAIN)
    if not isinstance(digest, str) or not SHA256.fullmatch(digest):
        raise FormatError(
            f"{name}/{CONFIG_FILE}: 'tensors_sha256' must be 64 lower-case hex digits.", AGAIN
        )
    try:
        return BiasInfo.model_validate_json(to_json(config), strict=True), shape, digest
    except pydantic.ValidationError as problem:
        raise FormatError(f"{name}/{CONFIG_FILE}: {first_problem(problem)}.", AGAIN) from problem
    except ValueError as problem:
        raise FormatError(f"{name}/{CONFIG_FILE} is no valid JSON: {problem}.", AGAIN) from problem


def _object(name: str, data: bytes) -> dict[str, Any]:
    """The fields of a supported format version, less those for people only."""
    try:
        config = parse_json(data)
    except ValueError as error:
        raise FormatError(
            f"{name}/{CONFIG_FILE} is truncated or no JSON: {error}.", "Copy it again."
        ) from error
    if not isinstance(config, dict) or config.pop("format", None) != "tsdi":
        raise FormatError(
            f"{name}/{CONFIG_FILE} was not written by tsdi.",
            "Give a folder made by 'tsdi estimate'.",
        )
    version = config.pop("format_version", None)
    if type(version) is not int or not 1 <= version <= FORMAT_VERSION:
        raise FormatError(
            f"{name} has format version {version}; this tsdi ({__version__}) reads up to "
            f"{FORMAT_VERSION}.",
            "pip install --upgrade tsdi",
        )
    config.pop("tsdi_version", None)
    if max(version, PLAIN_VERSION) != _version(config):
        raise FormatError(
            f"{name}/{CONFIG_FILE}: version {version} is not that of its fields: {FORMAT_VERSION}"
            f" with {FIELD}, else {SLOPE_VERSION} with a slope, {CONDITION_VERSION} with a"
            f" condition.",
            AGAIN,
        )
    if version == 1 and not (config.get("diagnosis") or config.get("tuning")):
        config.pop("strength", None)  # the first version wrote 1.0 here without a diagnosis
    return config
