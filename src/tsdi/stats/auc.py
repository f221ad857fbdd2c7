"""The area under the ROC curve (AUC), with its interval."""

from collections.abc import Sequence
from math import sqrt

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.stats import norm, rankdata

from tsdi.stats.interval import Estimate

Scores = Sequence[float] | NDArray[np.float64]
_Z = float(norm.ppf(0.975))


def auc(positive: Scores, negative: Scores) -> Estimate:
    """P(a positive scores higher than a negative), ties counting half, with its 95 % interval.

    The interval is Newcombe's method 5, which like Wilson's for a share neither collapses nor
    leaves 0..1 where the kinds are told apart perfectly.

    Returns:
        The area; its n is how many scores there are. Without one kind there is no value.

    Source: Newcombe (2006), Statistics in Medicine 25, 559-573.
    """
    m, n = len(positive), len(negative)
    if not m or not n:
        return Estimate(None, 0.0, 1.0, m + n)
    area = float(_placements(positive, negative)[0].mean())

    def beyond(true: float, sign: int) -> float:
        half = (m + n) / 2 - 1
        spread = 1 + half * ((1 - true) / (2 - true) + true / (1 + true))
        return sign * (area - true) - _Z * sqrt(true * (1 - true) * spread / (m * n))

    # Not from the area itself on, which at 0 and 1 is a root too.
    low = brentq(beyond, 0.0, area - 1e-12, args=(1,)) if area > 0 else 0.0
    high = brentq(beyond, area + 1e-12, 1.0, args=(-1,)) if area < 1 else 1.0
    return Estimate(area, float(low), float(high), m + n)


def auc_change(before: tuple[Scores, Scores], after: tuple[Scores, Scores]) -> Estimate:
    """The change of the AUC between two scores of the same items, with its 95 % interval.

    Args:
        before: One score of every positive and of every negative.
        after: The other score, of the same items in the same order.

    Returns:
        After minus before; where a kind has fewer than two items the interval is [-1, 1].

    Raises:
        ValueError: If the two are not of the same items.

    Source: DeLong, DeLong and Clarke-Pearson (1988), Biometrics 44, 837-845.
    """
    m, n = len(before[0]), len(before[1])
    if (m, n) != (len(after[0]), len(after[1])):
        raise ValueError("scores of other items")
    if not m or not n:
        return Estimate(None, -1.0, 1.0, m + n)
    parts = [late - early for late, early in zip(_placements(*after), _placements(*before),
                                                 strict=True)]  # fmt: skip
    change = float(parts[0].mean())
    if min(m, n) < 2:
        return Estimate(change, -1.0, 1.0, m + n)
    half = _Z * sqrt(sum(part.var(ddof=1) / len(part) for part in parts))
    return Estimate(change, max(-1.0, change - half), min(1.0, change + half), m + n)


def _placements(positive: Scores, negative: Scores) -> list[NDArray[np.float64]]:
    """Shares of negatives below each positive, [m]; of positives above each negative, [n].

    The mean of either is the area. The rank among both kinds, less that among its own, counts how
    many of the other kind are below.
    """
    one, other = np.asarray(positive, np.float64), np.asarray(negative, np.float64)
    ranks = rankdata(np.concatenate([one, other]))
    m, n = len(one), len(other)
    return [(ranks[:m] - rankdata(one)) / n, 1 - (ranks[m:] - rankdata(other)) / m]
