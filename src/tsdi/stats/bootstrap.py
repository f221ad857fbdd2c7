"""Changes of any statistic over the same prompts, by the bootstrap."""

from collections.abc import Callable, Hashable, Sequence
from math import inf, isfinite
from typing import TypeVar

import numpy as np

from tsdi.stats.interval import Estimate

T = TypeVar("T")


def paired_bootstrap(
    statistic: Callable[[Sequence[T]], float],
    before: Sequence[T],
    after: Sequence[T],
    *,
    clusters: Sequence[Hashable] | None = None,
    seed: int = 0,
    resamples: int = 2000,
    confidence: float = 0.95,
) -> Estimate:
    """The change of any statistic over the same prompts, with a percentile bootstrap interval.

    Prompts are drawn with replacement, and both arms get the same draws, so that what makes a
    prompt hard drops out of the difference.

    Args:
        statistic: Maps the items of one arm to a finite number, whatever their order.
        before: One item per prompt.
        after: The items of the same prompts, in the same order.
        clusters: The cluster of each prompt, such as its category or the prompt of several answers;
            whole clusters are drawn then. By default each prompt is a cluster of its own.
        seed: Decides the draws.
        resamples: How many draws; the ends of the interval are random by about 1 / sqrt(resamples)
            of its width.
        confidence: Two-sided coverage of the interval, reached only roughly below 30 clusters.

    Returns:
        statistic(after) - statistic(before), in the statistic's unit; n is the number of clusters.
        A single cluster does not say how far others would be: its interval has no ends.

    Raises:
        ValueError: If the lengths differ, there is no item, or the statistic is not finite.

    Source: Efron and Tibshirani (1993), An Introduction to the Bootstrap, chapter 13; clusters:
    Field and Welsh (2007), Journal of the Royal Statistical Society B 69, 369-390.
    """
    names = range(len(before)) if clusters is None else clusters
    members: dict[Hashable, list[tuple[T, T]]] = {}
    for name, *pair in zip(names, before, after, strict=True):
        members.setdefault(name, []).append((pair[0], pair[1]))
    groups = list(members.values())
    if not groups:
        raise ValueError("nothing to draw from")

    def change(chosen: Sequence[list[tuple[T, T]]]) -> float:
        pairs = [pair for group in chosen for pair in group]
        found = float(statistic([a for _, a in pairs])) - float(statistic([b for b, _ in pairs]))
        if not isfinite(found):
            raise ValueError("the statistic of a resample is not finite")
        return found

    if len(groups) == 1:  # every draw is the same, which says nothing of others
        return Estimate(change(groups), -inf, inf, 1)
    draws = np.random.default_rng(seed).integers(0, len(groups), (resamples, len(groups)))
    changes = [change([groups[number] for number in draw]) for draw in draws]
    tail = (1 - confidence) / 2
    low, high = (float(end) for end in np.quantile(changes, [tail, 1 - tail]))
    return Estimate(change(groups), low, high, len(groups))
