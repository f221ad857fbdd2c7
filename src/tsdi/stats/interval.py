"""An estimate with its interval, and the one way to write it."""

from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass
from math import inf, isinf
from typing import Any, TypeAlias

Bounds: TypeAlias = tuple[float, float]
"""Lowest and highest value that a figure could have, had what is not known gone one way."""


@dataclass(frozen=True)
class Estimate:
    """A figure with its interval and sample size.

    Attributes:
        value: The figure; None if there was nothing to compute it from.
        low: Lower end of the interval; minus infinity where nothing bounds it.
        high: Upper end; where nothing is known the interval is the whole range that is possible.
        n: Number of answers, pairs of answers, prompts or seeds behind the figure.
    """

    value: float | None
    low: float
    high: float
    n: int

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "Estimate":
        """The estimate from the JSON of `to_dict`."""
        low, high = data["low"], data["high"]
        ends = -inf if low is None else low, inf if high is None else high
        return cls(data["value"], *ends, data["n"])

    def to_dict(self) -> dict[str, float | int | None]:
        """The estimate as valid JSON: a missing value and a missing end are null, never NaN."""
        return as_json(self)

    def __str__(self) -> str:
        """The figure in words, such as "+1.20 [+0.90, +1.50], n = 64"."""
        shown = "unknown" if self.value is None else interval_text(self, 2, signed=True)
        return f"{shown}, n = {self.n}"


def complement(share: Estimate) -> Estimate:
    """1 minus a share, with its interval."""
    value = None if share.value is None else 1 - share.value
    return Estimate(value, 1 - share.high, 1 - share.low, share.n)


def interval_text(
    estimate: Estimate,
    digits: int = 3,
    *,
    signed: bool = False,
    percent: bool = False,
    significant: bool = False,
) -> str:
    """A figure with its interval, such as "0.950 [0.931, 0.972]" or "+5.0 % [+1.2, +8.8]".

    "-" where there is no value, and the value alone where nothing bounds it on a side.

    Args:
        estimate: The figure.
        digits: After the point.
        signed: Whether a plus is written, as for changes.
        percent: Whether it is shown in per cent.
        significant: Whether the digits are all that are shown, for figures of any size.
    """
    if estimate.value is None:
        return "-"
    numbers = (estimate.value, estimate.low, estimate.high)
    sign, factor = "+" if signed else "", 100 if percent else 1
    kind = "g" if significant else "f"
    value, low, high = (f"{number * factor:{sign}.{digits}{kind}}" for number in numbers)
    unit = " %" if percent else ""
    if isinf(estimate.low) or isinf(estimate.high):  # a single value, without an interval
        return f"{value}{unit}"
    return f"{value}{unit} [{low}, {high}]"


def compact_text(estimate: Estimate, signed: bool = False) -> str:
    """A share with its interval in 80 columns: ".95 [.93 .97]" or "+.05 [+.01 +.09]"."""
    if estimate.value is None:
        return "-"
    value = compact_share(estimate.value, signed)
    if isinf(estimate.low) or isinf(estimate.high):
        return value
    low, high = (compact_share(end, signed) for end in (estimate.low, estimate.high))
    return f"{value} [{low} {high}]"


def compact_share(number: float, signed: bool = False) -> str:
    """A share in three characters, such as ".95" or "1.0"; with its sign in four.

    Only all is 1.0: what would be rounded to it is .99.
    """
    if 0.99 < abs(number) < 1:
        number = 0.99 if number > 0 else -0.99
    text = f"{number:+.2f}" if signed else f"{number:.2f}"
    return text[:-1] if "1.00" in text else text.replace("0.", ".", 1)


def as_json(figures: object) -> dict[str, Any]:
    """A dataclass of figures as plain JSON: no tuples, and null for an infinite end."""
    found: dict[str, Any] = _plain(figures)
    return found


def _plain(value: Any) -> Any:
    if is_dataclass(value):
        return {field.name: _plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, dict):
        return {name: _plain(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    return None if isinstance(value, float) and isinf(value) else value


def p_text(p: float | None) -> str:
    """A p-value, such as ".031" or "<.001"; "" for none."""
    if p is None:
        return ""
    return "<.001" if p < 0.001 else f"{p:.3f}".removeprefix("0")
