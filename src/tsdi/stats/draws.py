"""Samples of items, each with a known chance of being drawn."""

from collections.abc import Mapping, Sequence

import numpy as np


def shared_out(sizes: Mapping[str, int], n: int) -> dict[str, int]:
    """A number of draws divided among groups, as equally as their sizes allow."""
    found: dict[str, int] = {}
    for place, name in enumerate(sorted(sizes, key=lambda name: (sizes[name], name))):
        found[name] = min(sizes[name], (n - sum(found.values())) // (len(sizes) - place))
    return {name: found[name] for name in sizes}


def systematic(strata: Sequence[tuple[str, ...]], n: int, dice: np.random.Generator) -> list[int]:
    """Places of n items, spread evenly over their strata: every item's chance is n / N.

    The items are sorted by stratum and shuffled within, and every (N / n)-th is taken from a random
    start on; so each stratum, and all strata that begin alike, have their share of the draws but
    for less than one.

    Source: Cochran (1977), Sampling Techniques, chapter 8.
    """
    shuffled = dice.permutation(len(strata)).tolist()
    ordered = sorted(shuffled, key=lambda place: strata[place])
    step = len(strata) / n
    start = dice.random() * step
    return [ordered[min(int(start + k * step), len(strata) - 1)] for k in range(n)]
