"""Provenance of a bias: the fields of ``bias_config.json`` (docs/reference/format.md)."""

import re
from collections.abc import Iterator
from typing import Any

import pydantic
import torch
import transformers
from transformers import PreTrainedTokenizerBase

from tsdi import __version__
from tsdi.bias.condition_file import CaseFields, Figure
from tsdi.decoding.anchor import LONGEST_ANCHOR
from tsdi.decoding.rule import LARGEST_STRENGTH
from tsdi.errors import FormatError, MismatchError, UsageError
from tsdi.models.biases import CONFIG_FILE
from tsdi.models.chat import ChatFormat, template_sha256, tokenizer_sha256
from tsdi.models.compatibility import tokenizer_size

AGAIN = "Estimate the bias again, or fetch it again from where it is whole."
SHA256 = re.compile(r"[0-9a-f]{64}")
_LEAST = {
    "tokenizer_size": 1,
    "prompts": 1,
    "prompt_tokens": 1,
    "ngram": 1,
    "groups": 2,
    "seed": 0,
}
_LARGEST_WHOLE = 2**63 - 1


class _Token(pydantic.BaseModel):
    token: int
    shift: float
    error: float
    likely: float | None = None


class _Diagnosis(pydantic.BaseModel):
    """The fields of ``diagnosis`` that are shown; any may be missing."""

    promoted: list[list[_Token]] = []
    demoted: list[list[_Token]] = []

    verdict: str = ""
    case: CaseFields | None = None
    strength: float = 0.0
    refusal: dict[str, dict[str, Figure]] = {}
    explained: dict[str, Figure] = {}
    one_number: float = 0.0


class _Chosen(pydantic.BaseModel):
    strength: float | None = None


class _Trial(pydantic.BaseModel):
    knobs: _Chosen = _Chosen()
    helpful: float = 0.0
    safety: dict[str, float] = {}


class _Tuning(pydantic.BaseModel):
    """The fields of ``tuning`` that are shown; any may be missing."""

    floors: dict[str, float] = {}
    attacks: list[str] = []
    baseline: _Trial = _Trial()
    chosen: _Trial = _Trial()
    trials: int = 0
    note: str = ""


class _Known(Figure):
    value: float
    low: float
    high: float


class _Row(pydantic.BaseModel):
    title: str
    before: _Known
    after: _Known
    change: _Known


class _Measured(pydantic.BaseModel):
    """The fields of ``measured``, which is empty where nothing was."""

    judge: str
    setting: str
    figures: list[_Row]
    categories: list[_Row]
    attacks: list[str]
    opens: bool
    why_shut: list[str]


class BiasInfo(pydantic.BaseModel):
    """Provenance of a bias: the fields of ``bias_config.json`` (docs/reference/format.md)."""

    model_config = pydantic.ConfigDict(frozen=True, allow_inf_nan=False)

    tokenizer_sha256: str
    template_sha256: str
    tokenizer_size: int
    aligned: str
    reference: str
    stand_in: str = ""
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
    reference_format: str | None = None
    anchor: str = ""
    anchor_ids: tuple[int, ...] = ()
    strength: float | None = None
    reliability: tuple[float, ...] = ()
    paths: dict[str, str] = {}
    diagnosis: dict[str, Any] = {}
    tuning: dict[str, Any] = {}
    measured: dict[str, Any] = {}
    versions: dict[str, str] = {}
    history: tuple[str, ...] = ()

    @pydantic.field_validator("diagnosis", "tuning")
    @classmethod
    def _check_evidence(cls, value: dict[str, Any], field: Any) -> dict[str, Any]:
        """Refuse malformed figures in the fields that tsdi reads; others are left alone."""
        kind = _Diagnosis if field.field_name == "diagnosis" else _Tuning
        return _checked(kind, value)

    @pydantic.field_validator("measured")
    @classmethod
    def _check_measured(cls, value: dict[str, Any]) -> dict[str, Any]:
        """Refuse figures that a model card could not show."""
        return _checked(_Measured, value) if value else value

    @property
    def chat_format(self) -> ChatFormat:
        """The chat format of the bias: a prompt format, or template arguments."""
        return ChatFormat(self.prompt_format, self.template_args)

    @property
    def reference_chat(self) -> ChatFormat:
        """The chat format in which the reference read prompts."""
        own = self.reference_format
        return self.chat_format if own is None else ChatFormat(own)

    def check_tokenizer(self, tokenizer: PreTrainedTokenizerBase) -> None:
        """Raise MismatchError unless the bias was made for this tokenizer and chat template."""
        if tokenizer_sha256(tokenizer) != self.tokenizer_sha256:
            raise MismatchError(
                f"The bias was made for the tokenizer of {self.aligned}, not for this one.",
                "Use it with that model, or estimate a bias for this one.",
            )
        if (size := tokenizer_size(tokenizer)) != self.tokenizer_size:
            raise MismatchError(
                f"The bias says that its tokenizer has {self.tokenizer_size} ids, it has {size}.",
                "Restore bias_config.json, or estimate the bias again.",
            )
        if template_sha256(tokenizer, self.chat_format) != self.template_sha256:
            raise MismatchError(
                "The bias was estimated with another chat template than this tokenizer's.",
                "Estimate it again with this template.",
            )

    def check(self, place: object, steps: int) -> None:
        """Check that every field is what docs/reference/format.md says, before it is used.

        Raises:
            FormatError: If one is not; it names the first.
        """
        for wrong in _broken(self, steps):
            raise FormatError(f"{place}/{CONFIG_FILE}: {wrong}.", AGAIN)


def _checked(kind: type[pydantic.BaseModel], value: dict[str, Any]) -> dict[str, Any]:
    """The value as it is, unless it is malformed: then a ValueError names the first fault."""
    try:
        kind.model_validate(value, strict=True)
    except pydantic.ValidationError as problem:
        raise ValueError(first_problem(problem)) from None
    return value


def _broken(info: BiasInfo, steps: int) -> Iterator[str]:
    for name in ("tokenizer_sha256", "template_sha256", "pool_sha256"):
        if not SHA256.fullmatch(getattr(info, name)):
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
    if info.diagnosis.get("strength", 0) not in (0, 1):
        yield f"'diagnosis': 'strength' must be 0 or 1, not {info.diagnosis['strength']:g}"
    where, found = _recommended(info)
    own = f"strength {info.strength}" in info.history  # named for an export
    if where and not own and info.strength not in (None, found):
        said = "leaves it to a condition" if found is None else f"recommends {found:g}"
        yield f"'strength' is {info.strength:g}, but {where} {said}; name another where you use it"
    if info.reliability and len(info.reliability) != steps:
        yield f"'reliability' must have no numbers or {steps}, not {len(info.reliability)}"
    if not all(-1 <= one <= 1 for one in info.reliability):
        yield "'reliability' must have numbers from -1 to 1"


def _recommended(info: BiasInfo) -> tuple[str, float | None]:
    """The field whose evidence says a strength, "" if none does, and what it says."""
    for where, said in (
        ("'tuning'", info.tuning.get("chosen", {}).get("knobs", {})),
        ("'diagnosis'", info.diagnosis if not info.tuning else {}),
    ):
        if "strength" in said:
            return where, said["strength"]
    return "", None


def _broken_chat(info: BiasInfo) -> Iterator[str]:
    for name, made in (("prompt_format", "chat_format"), ("reference_format", "reference_chat")):
        try:
            getattr(info, made)
        except UsageError as error:
            yield f"{name!r}: {error.problem.rstrip('.')}"
    if len(info.anchor) > LONGEST_ANCHOR:
        yield f"'anchor' must have {LONGEST_ANCHOR} characters at most"
    if bool(info.anchor) != bool(info.anchor_ids):
        yield "'anchor' and 'anchor_ids' must both be there or both be empty"
    if not all(0 <= one < info.tokenizer_size for one in info.anchor_ids):
        yield f"'anchor_ids' must be ids from 0 to {info.tokenizer_size - 1}"


def versions() -> dict[str, str]:
    """Versions of the packages that decide an estimate's numbers."""
    libraries = {"torch": torch.__version__, "transformers": transformers.__version__}
    return {"tsdi": __version__, **libraries}


def first_problem(problem: pydantic.ValidationError) -> str:
    """The first invalid field of a validation error, and its fault."""
    first = problem.errors(include_url=False, include_input=False)[0]
    key = ".".join(map(str, first["loc"]))
    said = re.sub(" or instance of .*", "", first["msg"].removeprefix("Value error, "))
    return f"{key!r}: {said}" if key else said
