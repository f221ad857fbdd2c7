"""Shares and changes of paired shares, each with an interval."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from math import sqrt

from scipy.stats import norm


@dataclass(frozen=True)
class Estimate:
    """A figure with its interval.

    Attributes:
        value: The figure; None if there was nothing to compute it from (n = 0).
        low: Lower end of the interval.
        high: Upper end; with n = 0 the interval is the whole range that is possible.
        n: How many answers, or pairs of answers, the figure stands on.
    """

    value: float | None
    low: float
    high: float
    n: int

    def to_dict(self) -> dict[str, float | int | None]:
        """The estimate as valid JSON: a missing value is null, never NaN."""
        return asdict(self)


def wilson(successes: int, n: int, confidence: float = 0.95) -> Estimate:
    """A share with its Wilson score interval.

    Args:
        successes: How many of the n are hits.
        n: How many there are; 0 gives no value and the interval [0, 1].
        confidence: Two-sided coverage of the interval.

    Raises:
        ValueError: If the successes are not in 0..n.

    Source: Wilson (1927), Journal of the American Statistical Association 22, 209-212.
    """
    if not 0 <= successes <= n:
        raise ValueError(f"{successes} successes of {n}")
    if n == 0:
        return Estimate(None, 0.0, 1.0, 0)
    share, z2 = successes / n, _quantile(confidence) ** 2
    centre = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = sqrt(z2 * (share * (1 - share) / n + z2 / (4 * n**2))) / (1 + z2 / n)
    # Exact at the ends, where rounding would leave the share outside its own interval.
    low = 0.0 if successes == 0 else centre - half
    high = 1.0 if successes == n else centre + half
    return Estimate(share, low, high, n)


def paired_change(before: Sequence[bool], after: Sequence[bool]) -> Estimate:
    """The change of a share, after minus before, on the same items, with a 95 % interval.

    The value is the plain difference; the interval is the Bonett-Price adjusted Wald interval,
    which adds one to both counts of items that changed. No items give no value and [-1, 1].

    Args:
        before: One outcome per item.
        after: The outcomes of the same items, in the same order.

    Raises:
        ValueError: If the lengths differ.

    Source: Bonett and Price (2012), Journal of Educational and Behavioral Statistics 37, 479-488.
    """
    gained, lost = _discordant(before, after)
    n = len(before)
    if n == 0:
        return Estimate(None, -1.0, 1.0, 0)
    up, down = (gained + 1) / (n + 2), (lost + 1) / (n + 2)
    half = _quantile(0.95) * sqrt((up + down - (up - down) ** 2) / (n + 2))
    return Estimate((gained - lost) / n, max(-1.0, up - down - half), min(1.0, up - down + half), n)


def _quantile(confidence: float) -> float:
    """How many standard errors a two-sided normal interval reaches."""
    return float(norm.ppf((1 + confidence) / 2))


def _discordant(before: Sequence[bool], after: Sequence[bool]) -> tuple[int, int]:
    """How many items changed from no to yes, and from yes to no."""
    pairs = [(bool(b), bool(a)) for b, a in zip(before, after, strict=True)]
    return pairs.count((False, True)), pairs.count((True, False))
