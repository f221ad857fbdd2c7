"""A condition in a bias's two files (docs/reference/format.md)."""

from collections.abc import Mapping
from typing import Any

import pydantic
import torch
from torch import Tensor

from tsdi.decoding.condition import Condition
from tsdi.errors import TsdiError

TOKENS, WEIGHTS = "condition_tokens", "condition_weights"
LARGEST_WEIGHT = 1e6


class CaseFields(pydantic.BaseModel):
    """The fields of a `tsdi.bias.case.Case` in a file; any name is accepted."""

    name: str
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
    prompts: list[str] = []
    scores: dict[str, list[float]] = {}


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


def check_condition(condition: Condition, anchor: str, vocab: int) -> None:
    """Raise ValueError unless a bias with this anchor and vocabulary can have the condition."""
    if anchor:
        raise ValueError("a bias that begins behind a marker ('anchor') can have no condition")
    if int(condition.tokens[-1]) >= vocab:
        raise ValueError(f"'{TOKENS}' has ids beyond {vocab - 1}")
    if max(float(condition.weights.abs().max()), abs(condition.intercept)) > LARGEST_WEIGHT:
        raise ValueError(f"'condition' has numbers beyond {LARGEST_WEIGHT:,.0f}")
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
