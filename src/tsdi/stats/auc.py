"""The area under the ROC curve (AUC), with its interval."""

from collections.abc import Hashable, Sequence
from itertools import chain
from math import sqrt
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri, stdtrit

from tsdi.stats.interval import Estimate

Scores: TypeAlias = Sequence[float] | NDArray[np.float64]
Groups: TypeAlias = tuple[Sequence[Hashable], Sequence[Hashable]]
"""The group of every positive and of every negative; items of one group are nearly copies."""
_Z = float(ndtri(0.975))


def auc(positive: Scores, negative: Scores, groups: Groups | None = None) -> Estimate:
    """P(a positive scores higher than a negative), ties counting half, with its 95 % interval.

    The interval is Newcombe's method 5, which like Wilson's for a share neither collapses nor
    leaves 0..1 where the kinds are told apart perfectly. Of groups, it is as much wider as the
    interval of Obuchowski is than DeLong's, and never narrower than without groups; where the kinds
    are told apart perfectly, each group counts as one item.

    Args:
        positive: Scores of the positives.
        negative: Scores of the negatives.
        groups: Their groups; where each item is a group of its own, or without any, all items are
            independent. A kind that is all of one group gives [0, 1].

    Returns:
        The area; its n is how many scores there are. Without one kind there is no value.

    Source: Newcombe (2006), Statistics in Medicine 25, 559-573; groups: Obuchowski (1997),
    Biometrics 53, 567-578.
    """
    m, n = len(positive), len(negative)
    if not m or not n:
        return Estimate(None, 0.0, 1.0, m + n)
    parts = _placements(positive, negative)
    area = float(parts[0].mean())
    grouped = groups if groups is not None and not _alone(groups) else None
    if grouped is None:
        low, high = _newcombe(area, m, n, _Z)
    elif min(map(_count, grouped)) < 2:
        low, high = 0.0, 1.0
    elif alone := _delong(parts):
        wider = max(1.0, _obuchowski(parts, grouped) / (_Z * alone))
        low, high = _newcombe(area, m, n, _Z * wider)
    else:
        few, other = map(_count, grouped)
        low, high = _newcombe(area, few, other, _Z)
    return Estimate(area, low, high, m + n)


def auc_change(
    before: tuple[Scores, Scores], after: tuple[Scores, Scores], groups: Groups | None = None
) -> Estimate:
    """The change of the AUC between two scores of the same items, with its 95 % interval.

    Args:
        before: One score of every positive and of every negative.
        after: The other score, of the same items in the same order.
        groups: As of `auc`.

    Returns:
        After minus before; where a kind has fewer than two groups the interval is [-1, 1].

    Raises:
        ValueError: If the two are not of the same items.

    Source: DeLong, DeLong and Clarke-Pearson (1988), Biometrics 44, 837-845; groups: Obuchowski
    (1997), Biometrics 53, 567-578.
    """
    m, n = len(before[0]), len(before[1])
    if (m, n) != (len(after[0]), len(after[1])):
        raise ValueError("scores of other items")
    if not m or not n:
        return Estimate(None, -1.0, 1.0, m + n)
    parts = [late - early for late, early in zip(_placements(*after), _placements(*before),
                                                 strict=True)]  # fmt: skip
    change = float(parts[0].mean())
    grouped = groups if groups is not None and not _alone(groups) else None
    if min(map(_count, grouped) if grouped else (m, n)) < 2:
        return Estimate(change, -1.0, 1.0, m + n)
    half = _obuchowski(parts, grouped) if grouped else _Z * _delong(parts)
    return Estimate(change, max(-1.0, change - half), min(1.0, change + half), m + n)


def _count(groups: Sequence[Hashable]) -> int:
    return len(set(groups))


def _alone(groups: Groups) -> bool:
    """Whether each item is a group of its own."""
    return _count([*chain(*groups)]) == sum(map(len, groups))


def _newcombe(area: float, m: int, n: int, z: float) -> tuple[float, float]:
    """Ends of Newcombe's interval, z standard errors to each side."""
    from scipy.optimize import brentq  # takes long to load, and is not needed to show a bias

    def beyond(true: float, sign: int) -> float:
        half = (m + n) / 2 - 1
        spread = 1 + half * ((1 - true) / (2 - true) + true / (1 + true))
        return sign * (area - true) - z * sqrt(true * (1 - true) * spread / (m * n))

    # Not from the area itself on, which at 0 and 1 is a root too.
    low = brentq(beyond, 0.0, area - 1e-12, args=(1,)) if area > 0 else 0.0
    high = brentq(beyond, area + 1e-12, 1.0, args=(-1,)) if area < 1 else 1.0
    return float(low), float(high)


def _delong(parts: Sequence[NDArray[np.float64]]) -> float:
    """The standard error of a mean of placements, or of their changes; 0 for a kind of one item."""
    if min(map(len, parts)) < 2:
        return 0.0
    return sqrt(sum(float(part.var(ddof=1)) / len(part) for part in parts))


def _obuchowski(parts: Sequence[NDArray[np.float64]], groups: Groups) -> float:
    """Half the 95 % interval of a mean of placements, or of their changes, of whole groups.

    The variance sums the squares of each group's sums, and twice the product of the sums over its
    positives and negatives. The quantile is Student's, since groups may be few, at Satterthwaite's
    degrees of freedom: at most the groups less one.
    """
    names = {name: place for place, name in enumerate(dict.fromkeys(chain(*groups)))}
    sums = np.zeros((2, len(names)))
    for total, part, of in zip(sums, parts, groups, strict=True):
        np.add.at(total, [names[name] for name in of], (part - part.mean()) / len(part))
    free = [_count(of) - 1 for of in groups]
    own = [float(one @ one) * (k + 1) / k for one, k in zip(sums, free, strict=True)]
    if not sum(own):
        return 0.0
    every = len(names) - 1
    variance = sum(own) + 2 * float(sums[0] @ sums[1]) * (every + 1) / every
    freedom = sum(own) ** 2 / sum(one**2 / k for one, k in zip(own, free, strict=True))
    return float(stdtrit(min(freedom, every), 0.975)) * sqrt(max(variance, 0.0))


def _placements(positive: Scores, negative: Scores) -> list[NDArray[np.float64]]:
    """Shares of negatives below each positive, [m]; of positives above each negative, [n].

    The mean of either is the area.
    """
    one, other = np.asarray(positive, np.float64), np.asarray(negative, np.float64)
    return [_below(one, other), 1 - _below(other, one)]


def _below(items: NDArray[np.float64], others: NDArray[np.float64]) -> NDArray[np.float64]:
    """The share of others below each item, ties counting half."""
    found = np.sort(others)
    places = np.searchsorted(found, items, "left") + np.searchsorted(found, items, "right")
    return places / (2 * len(others))
