"""A condition in a bias's two files (docs/reference/format.md)."""

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal

import pydantic
import torch
from torch import Tensor

from tsdi.decoding.condition import Condition
from tsdi.errors import TsdiError

if TYPE_CHECKING:
    from tsdi.bias.info import BiasInfo

TOKENS, WEIGHTS = "condition_tokens", "condition_weights"
LARGEST_WEIGHT = 1e6
TUNED = ("low", "high", "width")
"""Of a condition, what a tuning sets and says."""


class CaseFields(pydantic.BaseModel):
    """The fields of a `tsdi.bias.case.Case` in a file."""

    name: Literal["nothing", "threshold", "condition"]
    why: str


class Figure(pydantic.BaseModel):
    """An estimate with its interval in a file."""

    value: float | None = None
    low: float | None = None
    high: float | None = None
    n: int = 0


class _Category(pydantic.BaseModel):
    kind: str = ""
    category: str = ""
    labels: int = 0
    condition: Figure = Figure()
    log_odds: Figure = Figure()
    left_out: Figure | None = None


def _ascending(numbers: list[float]) -> list[float]:
    if numbers != sorted(numbers):
        raise ValueError("must ascend")
    return numbers


def _hex_digits(name: str) -> str:
    if not re.fullmatch("[0-9a-f]{16}", name):
        raise ValueError("must be 16 lower-case hex digits")
    return name


_Scores = Annotated[list[float], pydantic.AfterValidator(_ascending)]


class _Kinds(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(allow_inf_nan=False)

    harmful: _Scores
    harmless: _Scores


class _Evidence(pydantic.BaseModel):
    """The fields of ``evidence`` that are read; any may be missing."""

    condition: Figure = Figure()
    sparse: Figure = Figure()
    log_odds: Figure = Figure()
    gain: Figure = Figure()
    shuffled: Figure = Figure()
    labels: dict[str, Figure] = {}
    categories: list[_Category] = []
    attacks: dict[str, Figure] = {}
    case: CaseFields | None = None
    model: str = ""
    prompts: list[Annotated[str, pydantic.AfterValidator(_hex_digits)]] = []
    scores: _Kinds | None = None


class _Fields(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(allow_inf_nan=False)

    intercept: float
    low: float
    high: float
    width: float
    evidence: dict[str, Any] = {}


def condition_tensors(condition: Condition) -> dict[str, Tensor]:
    """The condition's tensors in ``bias.safetensors``, by name."""
    return {TOKENS: condition.tokens.contiguous(), WEIGHTS: condition.weights.contiguous()}


def condition_fields(condition: Condition) -> dict[str, Any]:
    """The condition's fields in ``bias_config.json``, under ``condition``."""
    return {name: getattr(condition, name) for name in _Fields.model_fields}


def check_condition(condition: Condition, info: "BiasInfo", vocab: int) -> None:
    """Raise ValueError unless a bias with this provenance and vocabulary can have the condition."""
    if info.anchor:
        raise ValueError("a bias that begins behind a marker ('anchor') can have no condition")
    if int(condition.tokens[-1]) >= vocab:
        raise ValueError(f"'{TOKENS}' has ids beyond {vocab - 1}")
    if max(float(condition.weights.abs().max()), abs(condition.intercept)) > LARGEST_WEIGHT:
        raise ValueError(f"'condition' has numbers beyond {LARGEST_WEIGHT:,.0f}")
    tuned = info.tuning.get("chosen", {}).get("knobs", {}).get("condition") or {}
    if other := [one for one in TUNED if tuned.get(one, own := getattr(condition, one)) != own]:
        raise ValueError(f"{other[0]!r} is not what 'tuning' says; fit or tune it again")
    _Evidence.model_validate(condition.evidence, strict=True)


def read_condition(
    fields: object, tensors: Mapping[str, Tensor], hashes: tuple[str, str]
) -> Condition:
    """The condition from the fields and tensors of a bias's files.

    Args:
        fields: The config's ``condition``.
        tensors: The tensors of ``bias.safetensors``.
        hashes: Hashes of the bias's tokenizer and chat template.

    Raises:
        ValueError: If there is no valid one; pydantic's errors are of this kind.
    """
    found = _Fields.model_validate(fields, strict=True)
    for name, dtype in ((TOKENS, torch.int64), (WEIGHTS, torch.float32)):
        if name not in tensors or tensors[name].dtype != dtype:
            raise ValueError(f"'{name}' must be there as {dtype}")
    try:
        return Condition(tensors[TOKENS], tensors[WEIGHTS], found.intercept, found.low, found.high,
                         found.width, *hashes, evidence=found.evidence)  # fmt: skip
    except TsdiError as error:
        raise ValueError(error.problem.rstrip(".")) from None
