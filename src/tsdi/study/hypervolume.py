"""How good sets of operating points are: hypervolume, and the best k of many points."""

from itertools import combinations
from math import comb

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
_CHUNK = 50_000  # combinations whose hypervolumes are computed together


def hypervolume(points: Array) -> Array:
    """Area that each set of points dominates: all below and left of one of them, down to (0, 0).

    Args:
        points: Sets of non-negative pairs, larger being better in both, [..., points, 2].

    Returns:
        [...]; a set without points has 0.

    Source: Zitzler and Thiele (1998), PPSN V, 292-301.
    """
    order = np.argsort(-points[..., 0], axis=-1, kind="stable")
    x = np.take_along_axis(points[..., 0], order, -1)
    y = np.maximum.accumulate(np.take_along_axis(points[..., 1], order, -1), -1)
    steps = np.diff(y, axis=-1, prepend=0.0)
    area: Array = (x * steps).sum(-1)
    return area


def choose_points(candidates: Array, k: int) -> tuple[int, ...]:
    """The k cells with the largest hypervolume, averaged over seeds, of all sets of k.

    Cells that another one dominates in every seed are tried only if fewer than k are left.

    Args:
        candidates: Points on validation prompts, [seeds, cells, 2].
        k: How many to choose; ties go to the earlier cells.

    Raises:
        ValueError: If there are fewer than k cells.
    """
    cells = candidates.shape[1]
    if cells < k:
        raise ValueError(f"{k} of {cells} cells")
    kept = _undominated(candidates)
    if len(kept) < k:
        rest = [cell for cell in range(cells) if cell not in kept]
        kept = sorted(kept + rest[: k - len(kept)])
    best, merit = tuple(kept[:k]), -1.0
    sets = combinations(kept, k)
    for _ in range(0, comb(len(kept), k), _CHUNK):
        some = np.array([one for _, one in zip(range(_CHUNK), sets, strict=False)])
        found = hypervolume(candidates[:, some]).mean(0)
        top = int(found.argmax())
        if found[top] > merit + 1e-12:
            best, merit = tuple(int(cell) for cell in some[top]), float(found[top])
    return best


def _undominated(candidates: Array) -> list[int]:
    points = candidates.transpose(1, 0, 2).reshape(candidates.shape[1], -1)
    kept = []
    for cell, own in enumerate(points):
        better = (points >= own).all(1) & (points > own).any(1)
        same_before = (points[:cell] == own).all(1).any()
        if not better.any() and not same_before:
            kept.append(cell)
    return kept
