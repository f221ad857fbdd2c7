"""A slope in a bias's two files (docs/reference/format.md)."""

from collections.abc import Mapping
from typing import Any

import pydantic
import torch
from torch import Tensor

from tsdi.decoding.slope import Slope

_TENSORS = ("read", "write", "centre")
LARGEST = 1e6
LARGEST_SUM = 1e-4
"""Of a reading's numbers, as a share of the sum of their sizes."""


class _Gain(pydantic.BaseModel):
    value: float
    low: float
    high: float
    n: int = pydantic.Field(ge=0)


class _Evidence(pydantic.BaseModel):
    """The fields of ``evidence`` that are shown or used; others are allowed."""

    rows: int = pydantic.Field(ge=1)
    harmful: int = pydantic.Field(ge=0)
    constant: float = pydantic.Field(le=1)
    slope: float = pydantic.Field(le=1)
    gain: _Gain
    prompts: list[str] = []

    @pydantic.model_validator(mode="after")
    def _check(self) -> "_Evidence":
        if self.harmful > self.rows or not self.gain.low <= self.gain.value <= self.gain.high:
            raise ValueError("'evidence' has figures that cannot be")
        return self


class _Fields(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(allow_inf_nan=False)

    evidence: dict[str, Any]


def slope_tensors(slope: Slope) -> dict[str, Tensor]:
    """The slope's tensors in ``bias.safetensors``, by name."""
    return {f"slope_{name}": getattr(slope, name).contiguous() for name in _TENSORS}


def slope_fields(slope: Slope) -> dict[str, Any]:
    """The slope's fields in ``bias_config.json``, under ``slope``."""
    return {"evidence": slope.evidence}


def read_slope(fields: object, tensors: Mapping[str, Tensor]) -> Slope:
    """The slope from the fields and tensors of a bias's files.

    Args:
        fields: The config's ``slope``.
        tensors: The tensors of ``bias.safetensors``.

    Raises:
        ValueError: If there is no valid one; pydantic's errors are of this kind.
    """
    if not isinstance(fields, dict):
        raise ValueError("it must be an object")
    found = _Fields.model_validate(fields, strict=True)
    parts = []
    for name in (f"slope_{one}" for one in _TENSORS):
        if name not in tensors or tensors[name].dtype != torch.float32:
            raise ValueError(f"'{name}' must be there as float32")
        parts.append(tensors[name])
    read, write, centre = parts
    slope = Slope(read, write, centre, found.evidence)
    check_slope(slope, *tensors["bias"].shape)
    return slope


def check_slope(slope: Slope, steps: int, vocab: int) -> None:
    """Raise ValueError unless a bias of this shape can have the slope."""
    rank = len(slope.read) if slope.read.dim() else 0
    if not rank:
        raise ValueError("'slope_read' has no rows")
    shapes = {"read": (rank, vocab), "write": (rank, vocab), "centre": (steps, rank)}
    for name, shape in shapes.items():
        tensor: Tensor = getattr(slope, name)
        if tuple(tensor.shape) != shape:
            raise ValueError(f"'slope_{name}' has the shape {tuple(tensor.shape)}, not {shape}")
        if not bool(tensor.isfinite().all()) or float(tensor.abs().max()) > LARGEST:
            raise ValueError(f"'slope_{name}' has numbers that are not within {LARGEST:,.0f}")
    if not (slope.read.any() and slope.write.any()):
        raise ValueError("'slope_read' or 'slope_write' has zeros only")
    if slope.evidence:  # there is none where a program made it
        _Evidence.model_validate(slope.evidence, strict=True)
    read = slope.read.double()
    if bool((read.sum(1).abs() > LARGEST_SUM * read.abs().sum(1)).any()):
        raise ValueError("the rows of 'slope_read' do not add up to 0")
