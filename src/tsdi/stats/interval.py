"""A figure with its interval, and the mean of a few numbers as one."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf, isinf
from typing import Any, TypeAlias

Bounds: TypeAlias = tuple[float, float]
"""Lowest and highest value that a figure could have, had what is not known gone one way."""


@dataclass(frozen=True)
class Estimate:
    """A figure with its interval.

    Attributes:
        value: The figure; None if there was nothing to compute it from.
        low: Lower end of the interval; minus infinity where nothing bounds it.
        high: Upper end; where nothing is known the interval is the whole range that is possible.
        n: How many answers, pairs of answers, prompts or seeds the figure stands on.
    """

    value: float | None
    low: float
    high: float
    n: int

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "Estimate":
        """What `to_dict` made."""
        low, high = data["low"], data["high"]
        ends = -inf if low is None else low, inf if high is None else high
        return cls(data["value"], *ends, data["n"])

    def to_dict(self) -> dict[str, float | int | None]:
        """The estimate as valid JSON: a missing value and a missing end are null, never NaN."""
        return json_fields(list(vars(self).items()))

    def __str__(self) -> str:
        """Such as "+1.20 [+0.90, +1.50], n = 64"."""
        if self.value is None:
            return f"unknown, n = {self.n}"
        if isinf(self.low) or isinf(self.high):
            return f"{self.value:+.2f}, n = {self.n}"
        return f"{self.value:+.2f} [{self.low:+.2f}, {self.high:+.2f}], n = {self.n}"


def json_fields(fields: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    """A `dict_factory` of `dataclasses.asdict`: an end that is infinite, no JSON, becomes None."""
    return {
        name: None if isinstance(value, float) and isinf(value) else value for name, value in fields
    }
