"""A figure with its interval, and the mean of a few numbers as one."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf, isinf
from typing import Any

import numpy as np
from scipy import stats


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


def mean_interval(values: Sequence[float], confidence: float = 0.95) -> Estimate:
    """A mean with its t-interval, such as a figure's over the seeds of one setting.

    Args:
        values: Independent numbers of one kind, in any unit.
        confidence: Two-sided coverage of the interval.

    Returns:
        The mean; a single number does not say how far others would be, so its interval has no ends
        (minus to plus infinity), and no number at all gives no value either.

    Source: Student (1908), Biometrika 6, 1-25.
    """
    data = np.asarray(values, dtype=np.float64)
    if len(data) < 2:
        return Estimate(float(data[0]) if len(data) else None, -inf, inf, len(data))
    mean = float(data.mean())
    quantile = stats.t.ppf((1 + confidence) / 2, len(data) - 1)
    half = float(quantile * data.std(ddof=1) / np.sqrt(len(data)))
    return Estimate(mean, mean - half, mean + half, len(data))
