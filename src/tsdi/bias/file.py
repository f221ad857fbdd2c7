"""A bias's two files, ``bias_config.json`` and ``bias.safetensors`` (docs/reference/format.md)."""

import hashlib
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pydantic
import torch
import transformers
from huggingface_hub import hf_hub_download
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from tsdi import __version__
from tsdi.bias.condition_file import (
    CaseFields,
    check_condition,
    condition_fields,
    condition_tensors,
    read_condition,
)
from tsdi.bias.slope_file import check_slope, read_slope, slope_fields, slope_tensors
from tsdi.decoding.anchor import LONGEST_ANCHOR
from tsdi.decoding.condition import Condition
from tsdi.decoding.rule import LARGEST_STRENGTH, Slope
from tsdi.errors import FormatError, ModelError, UsageError
from tsdi.files import parse_json, to_json, write_bytes
from tsdi.models.chat import ChatFormat
from tsdi.models.names import Place, is_local, locate, split_revision

FORMAT_VERSION = 4
"""Of a bias with a slope; older readers know less."""
CONDITION_VERSION = 3
"""Of one with a condition and no slope."""
PLAIN_VERSION = 2
"""Of one with neither."""
CONFIG_FILE = "bias_config.json"
TENSORS_FILE = "bias.safetensors"
LARGEST_SHIFT = 1e6
"""In logits; real shifts are below 100, and far more leaves no finite logit of a model."""
_AGAIN = "Estimate the bias again, or fetch it again from where it is whole."
_FIT_AGAIN = "Fit it again, or fetch the bias again from where it is whole."
_REMEDY = "Give a folder made by 'tsdi estimate', or a hub id."
_SHA256 = re.compile(r"[0-9a-f]{64}")
_LEAST = {
    "tokenizer_size": 1,
    "prompts": 1,
    "prompt_tokens": 1,
    "ngram": 1,
    "groups": 2,
    "seed": 0,
}
_LARGEST_WHOLE = 2**63 - 1


class _Figure(pydantic.BaseModel):
    value: float | None = None
    low: float | None = None
    high: float | None = None
    n: int = 0


class _Diagnosis(pydantic.BaseModel):
    """The fields of ``diagnosis`` that a person is shown; any may be missing."""

    verdict: str = ""
    case: CaseFields | None = None
    strength: float = 0.0
    refusal: dict[str, dict[str, _Figure]] = {}
    explained: dict[str, _Figure] = {}
    one_number: float = 0.0


class _Trial(pydantic.BaseModel):
    helpful: float = 0.0
    safety: dict[str, float] = {}


class _Tuning(pydantic.BaseModel):
    """The fields of ``tuning`` that a person is shown; any may be missing."""

    floors: dict[str, float] = {}
    baseline: _Trial = _Trial()
    chosen: _Trial = _Trial()
    trials: int = 0
    note: str = ""


class BiasInfo(pydantic.BaseModel):
    """Where a bias comes from; the fields of ``bias_config.json`` (docs/reference/format.md)."""

    model_config = pydantic.ConfigDict(frozen=True, allow_inf_nan=False)

    tokenizer_sha256: str
    template_sha256: str
    tokenizer_size: int
    aligned: str
    reference: str
    aligned_revision: str | None = None
    reference_revision: str | None = None
    pool: str
    pool_sha256: str
    prompts: int
    prompt_tokens: int
    ngram: int = 1
    groups: int
    seed: int
    prompt_format: str | None = None
    template_args: dict[str, Any] = {}
    anchor: str = ""
    anchor_ids: tuple[int, ...] = ()
    strength: float | None = None
    reliability: tuple[float, ...] = ()
    paths: dict[str, str] = {}
    diagnosis: dict[str, Any] = {}
    tuning: dict[str, Any] = {}
    versions: dict[str, str] = {}
    history: tuple[str, ...] = ()

    @pydantic.field_validator("diagnosis", "tuning")
    @classmethod
    def _check_evidence(cls, value: dict[str, Any], field: Any) -> dict[str, Any]:
        """Refuse junk where tsdi writes figures; what it does not know, it leaves alone."""
        kind = _Diagnosis if field.field_name == "diagnosis" else _Tuning
        try:
            kind.model_validate(value, strict=True)
        except pydantic.ValidationError as problem:
            raise ValueError(_first(problem)) from None
        return value

    @property
    def chat_format(self) -> ChatFormat:
        """How prompts become text."""
        return ChatFormat(self.prompt_format, self.template_args)

    def check(self, place: object, steps: int) -> None:
        """Check that every field is what docs/reference/format.md says, before it is used.

        Raises:
            FormatError: If one is not; it names the first.
        """
        for wrong in _broken(self, steps):
            raise FormatError(f"{place}/{CONFIG_FILE}: {wrong}.", _AGAIN)


def _broken(info: BiasInfo, steps: int) -> Iterator[str]:
    for name in ("tokenizer_sha256", "template_sha256", "pool_sha256"):
        if not _SHA256.fullmatch(getattr(info, name)):
            yield f"{name!r} must be 64 lower-case hex digits"
    for name, least in _LEAST.items():
        number: int = getattr(info, name)
        if not least <= number <= _LARGEST_WHOLE:
            shown = str(number)[:20]  # which may be of thousands of digits
            yield f"{name!r} must be a whole number from {least} on, not {shown}"
    if info.prompts < info.groups:
        yield f"'groups' must be at most 'prompts', which is {info.prompts}, not {info.groups}"
    yield from _broken_findings(info, steps)
    yield from _broken_chat(info)


def _broken_findings(info: BiasInfo, steps: int) -> Iterator[str]:
    if info.strength is not None and not 0 <= info.strength <= LARGEST_STRENGTH:
        yield f"'strength' must be null or from 0 to {LARGEST_STRENGTH:g}, not {info.strength:g}"
    if info.reliability and len(info.reliability) != steps:
        yield f"'reliability' must have no numbers or {steps}, not {len(info.reliability)}"
    if not all(-1 <= one <= 1 for one in info.reliability):
        yield "'reliability' must have numbers from -1 to 1"


def _broken_chat(info: BiasInfo) -> Iterator[str]:
    try:
        _ = info.chat_format
    except UsageError as error:
        yield f"'prompt_format': {error.problem.rstrip('.')}"
    if len(info.anchor) > LONGEST_ANCHOR:
        yield f"'anchor' must have {LONGEST_ANCHOR} characters at most"
    if bool(info.anchor) != bool(info.anchor_ids):
        yield "'anchor' and 'anchor_ids' must both be there or both be empty"
    if not all(0 <= one < info.tokenizer_size for one in info.anchor_ids):
        yield f"'anchor_ids' must be ids from 0 to {info.tokenizer_size - 1}"


def versions() -> dict[str, str]:
    """Versions of what an estimate's numbers come from, for its ``versions``."""
    libraries = {"torch": torch.__version__, "transformers": transformers.__version__}
    return {"tsdi": __version__, **libraries}


def write(
    folder: Path,
    values: Tensor,
    error: Tensor,
    info: BiasInfo,
    condition: Condition | None,
    slope: Slope | None,
) -> None:
    """Write values and standard errors, float32 [steps, vocab], with where they come from.

    Raises:
        FormatError: If it is none that could be read again.
    """
    info.check(folder, len(values))  # what could not be read is not written
    _check_numbers(values, error, folder)
    tensors = {"bias": values.contiguous(), "error": error.contiguous()}
    more: dict[str, Any] = {}
    if condition is not None:
        with _usable("condition", folder):
            check_condition(condition, info.anchor, values.shape[1])
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
    """The format version of a bias with these fields."""
    if config.get("slope") is not None:
        return FORMAT_VERSION
    return PLAIN_VERSION if config.get("condition") is None else CONDITION_VERSION


def read(
    name: str, how: Mapping[str, Any]
) -> tuple[Tensor, Tensor, BiasInfo, Condition | None, Slope | None]:
    """Read a bias from a folder or the hub.

    Args:
        name: Folder, or hub id with or without "@REVISION".
        how: Settings of ``hf_hub_download``, "revision" among them.

    Returns:
        Values and standard errors, float32 [steps, vocab], where they come from, and condition and
        slope if there are any.

    Raises:
        FormatError: If there is no valid bias.
    """
    config, data = _fetch(name, how)
    fields = _object(name, config)
    asked, sloped = fields.pop("condition", None), fields.pop("slope", None)
    info, shape, digest = _parse_config(name, fields)
    if hashlib.sha256(data).hexdigest() != digest:
        raise FormatError(
            f"{name}/{TENSORS_FILE} is truncated or does not belong to its {CONFIG_FILE}.",
            "Copy or estimate it again.",
        )
    try:
        tensors = load(data)
        values, error = tensors["bias"], tensors["error"]
    except (SafetensorError, KeyError, ValueError) as problem:
        raise FormatError(f"{name}/{TENSORS_FILE} is no bias: {problem}.", _AGAIN) from problem
    for tensor in (values, error):
        if tuple(tensor.shape) != shape or tensor.dtype not in (torch.float32, torch.float16):
            raise FormatError(
                f"{name}/{TENSORS_FILE} holds {tensor.dtype} {tuple(tensor.shape)}, its "
                f"{CONFIG_FILE} says {shape}.",
                _AGAIN,
            )
    info.check(name, shape[0])
    _check_numbers(values, error, name)
    condition = slope = None
    if asked is not None:
        with _usable("condition", name):
            condition = read_condition(
                asked, tensors, (info.tokenizer_sha256, info.template_sha256)
            )
            check_condition(condition, info.anchor, values.shape[1])
    if sloped is not None:
        with _usable("slope", name):
            slope = read_slope(sloped, tensors)
    return values.float(), error.float(), info, condition, slope


@contextmanager
def _usable(what: str, place: object) -> Iterator[None]:
    """Turn what is wrong with a condition or slope into a FormatError that names the place."""
    try:
        yield
    except ValueError as problem:
        why = _first(problem) if isinstance(problem, pydantic.ValidationError) else str(problem)
        raise FormatError(
            f"{place}: the bias's {what} cannot be used: {why}.", _FIT_AGAIN
        ) from None


def _fetch(name: str, how: Mapping[str, Any]) -> list[bytes]:
    """The bytes of both files."""
    files = (CONFIG_FILE, TENSORS_FILE)
    try:
        place = _locate(name, how)
        if place.is_folder:
            return [(Path(place.name) / file).read_bytes() for file in files]
        settings = {**how, "revision": place.revision}
        return [Path(hf_hub_download(place.name, f, **settings)).read_bytes() for f in files]
    except (OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise FormatError(f"{name} holds no bias ({reason}).", _REMEDY) from error


def _locate(name: str, how: Mapping[str, Any]) -> Place:
    hub_id, named = split_revision(name)
    revision = how["revision"] or named
    if not is_local(name) and any(how[key] for key in how if key != "revision"):
        return Place(hub_id, revision, frozenset())  # huggingface_hub alone knows these settings
    try:
        place = locate(f"{hub_id}@{revision}" if revision else name, _REMEDY)
    except ModelError as error:
        raise FormatError(f"{name} holds no bias: {error.problem}", error.remedy) from None
    if CONFIG_FILE not in place.files:
        what = "it is a model" if "config.json" in place.files else f"it has no {CONFIG_FILE}"
        remedy = f"Its own is {name}/tsdi." if place.is_export else _REMEDY
        raise FormatError(f"{name} holds no bias: {what}.", remedy)
    return place


def _check_numbers(values: Tensor, error: Tensor, place: object) -> None:
    """Raise FormatError unless the numbers are what docs/reference/format.md says."""
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
            raise FormatError(f"{place}/{TENSORS_FILE}: {name!r} has {wrong}.", _AGAIN)


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
            raise FormatError(f"{name}/{CONFIG_FILE}: {key!r} must be a whole number.", _AGAIN)
    if not isinstance(digest, str) or not _SHA256.fullmatch(digest):
        raise FormatError(
            f"{name}/{CONFIG_FILE}: 'tensors_sha256' must be 64 lower-case hex digits.", _AGAIN
        )
    try:
        return BiasInfo.model_validate_json(to_json(config), strict=True), shape, digest
    except pydantic.ValidationError as problem:
        raise FormatError(f"{name}/{CONFIG_FILE}: {_first(problem)}.", _AGAIN) from problem
    except ValueError as problem:
        raise FormatError(f"{name}/{CONFIG_FILE} is no valid JSON: {problem}.", _AGAIN) from problem


def _first(problem: pydantic.ValidationError) -> str:
    """The first field that is wrong, and how."""
    first = problem.errors(include_url=False, include_input=False)[0]
    key = ".".join(map(str, first["loc"]))
    return f"{key!r}: {first['msg'].removeprefix('Value error, ')}"


def _object(name: str, data: bytes) -> dict[str, Any]:
    """The fields of a version that we read, less those that are for people only."""
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
            f"{name}/{CONFIG_FILE}: a bias has a slope exactly from format version"
            f" {FORMAT_VERSION} on, else a condition exactly from {CONDITION_VERSION} on, and this"
            f" is version {version}.",
            _AGAIN,
        )
    if version == 1 and not (config.get("diagnosis") or config.get("tuning")):
        config.pop("strength", None)  # it stood there as 1.0 although nothing had been examined
    return config
