"""How good a set of operating points is: hypervolume, and the best k of many points."""

from collections.abc import Mapping, Sequence
from itertools import combinations

Point = tuple[float, float]


def hypervolume(points: Sequence[Point]) -> float:
    """Area that the points dominate: everything below and left of one of them, down to (0, 0).

    Args:
        points: Non-negative pairs, larger being better in both; no points give 0.

    Source: Zitzler and Thiele (1998), PPSN V, 292-301.
    """
    area, top = 0.0, 0.0
    for x, y in sorted(points, reverse=True):
        area += x * max(0.0, y - top)
        top = max(top, y)
    return area


def choose(candidates: Mapping[str, Sequence[Point]], k: int) -> tuple[str, ...]:
    """The k settings with the largest hypervolume, averaged over runs, of all sets of k.

    Args:
        candidates: By setting, its point in each run; all settings have the same runs.
        k: How many to choose.

    Raises:
        ValueError: If there are fewer than k candidates.
    """
    if len(candidates) < k:
        raise ValueError(f"{k} of {len(candidates)} settings")

    def merit(names: tuple[str, ...]) -> float:
        runs = zip(*(candidates[name] for name in names), strict=True)
        return sum(hypervolume(run) for run in runs)

    return max(combinations(sorted(candidates), k), key=merit)
