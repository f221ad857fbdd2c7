"""Shares and changes of paired shares with intervals, and tests of such changes."""

from collections.abc import Sequence
from math import sqrt

from scipy.special import ndtri

from tsdi.stats.interval import Estimate


def wilson(successes: int, n: int, confidence: float = 0.95) -> Estimate:
    """A share with its Wilson score interval.

    Args:
        successes: Number of hits among the n.
        n: Number of items; 0 gives no value and the interval [0, 1].
        confidence: Two-sided coverage of the interval.

    Raises:
        ValueError: If the successes are not in 0..n.

    Source: Wilson (1927), Journal of the American Statistical Association 22, 209-212.
    """
    if not 0 <= successes <= n:
        raise ValueError(f"{successes} successes of {n}")
    if n == 0:
        return Estimate(None, 0.0, 1.0, 0)
    low, high = wilson_ends(successes / n, n, confidence)
    # Exact at the ends, where rounding would leave the share outside its own interval.
    low = 0.0 if successes == 0 else low
    high = 1.0 if successes == n else high
    return Estimate(successes / n, low, high, n)


def unseen_loss(n: int) -> float:
    """The loss that n prompts without one cannot exclude: the upper end of Wilson's interval."""
    return wilson(0, n).high


def wilson_ends(share: float, n: float, confidence: float = 0.95) -> tuple[float, float]:
    """Ends of Wilson's interval of a share; n, above 0, need not be whole."""
    z2 = _quantile(confidence) ** 2
    centre = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = sqrt(z2 * (share * (1 - share) / n + z2 / (4 * n**2))) / (1 + z2 / n)
    return centre - half, centre + half


def paired_change(before: Sequence[bool], after: Sequence[bool]) -> Estimate:
    """The change of a share, after minus before, on the same items, with a 95 % interval.

    Both have one outcome per item, in the same order.

    The value is the plain difference; the interval is the Bonett-Price adjusted Wald interval,
    which adds one to both counts of items that changed. No items give no value and [-1, 1].

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


def mcnemar(before: Sequence[bool], after: Sequence[bool]) -> float:
    """Two-sided p-value of the exact McNemar test: were as many items lost as gained?

    Both have one outcome per item, in the same order.

    Returns:
        The p-value of a binomial test of the items that changed; 1 if none did.

    Raises:
        ValueError: If the lengths differ.

    Source: McNemar (1947), Psychometrika 12, 153-157; exact: Fay (2010), Biostatistics 11, 373-374.
    """
    from scipy.stats import binomtest  # takes longer to load than all the rest of a command

    gained, lost = _discordant(before, after)
    return float(binomtest(gained, gained + lost).pvalue) if gained + lost else 1.0


def holm(p_values: Sequence[float]) -> list[float]:
    """P-values of one family adjusted by Holm's step-down method, in the order given.

    Rejecting where the adjusted value is below alpha keeps the chance of any false rejection in the
    family below alpha, however the tests depend on one another.

    Raises:
        ValueError: If a number is no p-value.

    Source: Holm (1979), Scandinavian Journal of Statistics 6, 65-70.
    """
    if not all(0 <= p <= 1 for p in p_values):
        raise ValueError(f"not all are p-values: {list(p_values)}")
    adjusted = [1.0] * len(p_values)
    highest = 0.0
    for rank, place in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[place]))
        adjusted[place] = highest
    return adjusted


def _quantile(confidence: float) -> float:
    """The normal quantile of a two-sided interval, in standard errors."""
    return float(ndtri((1 + confidence) / 2))


def _discordant(before: Sequence[bool], after: Sequence[bool]) -> tuple[int, int]:
    """Numbers of items that changed from no to yes, and from yes to no."""
    pairs = [(bool(b), bool(a)) for b, a in zip(before, after, strict=True)]
    return pairs.count((False, True)), pairs.count((True, False))
