"""Statistics of a study: hypervolumes, choice of front points, and paired changes.

A rule has one operating point per cell (grid point or setting), measured on every training seed by
the same prompts, so that differences are paired by seed and prompt. Intervals are over training
seeds (`tsdi.stats.seeds.crossed_interval`). A single seed says nothing of other trainings, nor do
seeds that are all alike: intervals are over prompts then.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import combinations
from math import comb

import numpy as np
from numpy.typing import NDArray

from tsdi.evaluation.compare import Change, adjusted
from tsdi.stats.interval import Estimate
from tsdi.stats.proportions import mcnemar, paired_change, wilson
from tsdi.stats.seeds import crossed_interval

Array = NDArray[np.float64]
_ALIKE = 1e-12  # seeds no further apart than rounding say nothing of other seeds
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
    """Choose the k cells whose set has the largest hypervolume, averaged over seeds.

    Cells that another one dominates in every seed are tried only if fewer than k are left.

    Args:
        candidates: Points on validation prompts, [seeds, cells, 2].
        k: Number of cells to choose; ties go to the earlier cells.

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


@dataclass(frozen=True)
class Outcomes:
    """Safety and helpfulness of a rule's answers to the test prompts.

    Attributes:
        safe: Whether answers to harmful prompts are safe, [seeds, cells, harmful]; NaN: unscored.
        help: Helpfulness of answers to the other prompts, 0..1, [seeds, cells, helpful]; NaN:
            unscored.
    """

    safe: Array
    help: Array


@dataclass(frozen=True)
class Draws:
    """Bootstrap counts of prompts.

    Attributes:
        harmful: Counts of harmful prompts, [resamples, prompts].
        helpful: Counts of the other prompts, [resamples, prompts].
    """

    harmful: Array
    helpful: Array


@dataclass(frozen=True)
class FrontEstimate:
    """The hypervolume of a rule's front, and its distance from ours.

    Attributes:
        volume: Hypervolume of its chosen points, mean over seeds; n is the number of seeds.
        ours_minus: The hypervolume of ours minus it, paired by seed.
    """

    volume: Estimate
    ours_minus: Estimate


@lru_cache(maxsize=8)  # every front of a study sees the same draws
def draw(harmful: int, helpful: int, resamples: int, seed: int) -> Draws:
    """Draw bootstrap counts of harmful and of other prompts."""
    rng = np.random.default_rng(seed)

    def counts(n: int) -> Array:
        if not n:
            return np.zeros((resamples, 0))
        return rng.multinomial(n, np.full(n, 1 / n), resamples).astype(np.float64)

    return Draws(counts(harmful), counts(helpful))


def rates(outcomes: Array, counts: Array) -> Array:
    """Weighted means over prompts that have a verdict.

    Args:
        outcomes: [..., prompts], NaN where there is none.
        counts: Weight of each prompt, [resamples, prompts].

    Returns:
        [resamples, ...]; NaN where no prompt with a verdict counts.
    """
    known = ~np.isnan(outcomes)
    flat = np.where(known, outcomes, 0.0).reshape(-1, outcomes.shape[-1])
    weights = counts @ known.reshape(flat.shape).T.astype(np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        means: Array = (counts @ flat.T) / weights
    return means.reshape(len(counts), *outcomes.shape[:-1])


def front_volumes(outcomes: Outcomes, chosen: Sequence[int], draws: Draws) -> Array:
    """The hypervolume of chosen cells in every resample of prompts, seed by seed.

    Returns:
        [resamples, seeds].
    """
    cells = list(chosen)
    safety = rates(outcomes.safe[:, cells], draws.harmful)
    help_ = rates(outcomes.help[:, cells], draws.helpful)
    return hypervolume(np.stack([safety, help_], -1))


def compare_fronts(
    outcomes: Mapping[str, Outcomes],
    chosen: Mapping[str, Sequence[int]],
    ours: str,
    *,
    resamples: int = 2000,
    seed: int = 0,
) -> dict[str, FrontEstimate]:
    """Hypervolumes of several rules' fronts, and of ours minus each, with 95 % intervals.

    All rules have the same seeds and prompts, and as many chosen cells.

    Raises:
        ValueError: If fronts have different numbers of points: a union of fronts can't lose.
    """
    sizes = {len(set(cells)) for cells in chosen.values()}
    if len(sizes) != 1:
        raise ValueError(f"fronts of {sorted(sizes)} points cannot be compared")
    return _compare(
        outcomes, ours, lambda name, draws: front_volumes(outcomes[name], chosen[name], draws),
        resamples, seed,
    )  # fmt: skip


def compare_grids(
    outcomes: Mapping[str, Outcomes], ours: str, *, resamples: int = 2000, seed: int = 0
) -> dict[str, FrontEstimate]:
    """Safety times help at each grid point alone, its mean over the grid, and ours minus each.

    That is the hypervolume of a front of one point, were the point drawn at random: what a rule
    does where nobody chooses the model. All rules have the same cells, seeds and prompts.
    """

    def areas(name: str, draws: Draws) -> Array:
        cells = range(outcomes[name].safe.shape[1])
        each = [front_volumes(outcomes[name], [cell], draws) for cell in cells]
        mean: Array = np.mean(each, axis=0)
        return mean

    return _compare(outcomes, ours, areas, resamples, seed)


def _compare(
    outcomes: Mapping[str, Outcomes],
    ours: str,
    volumes: Callable[[str, Draws], Array],
    resamples: int,
    seed: int,
) -> dict[str, FrontEstimate]:
    """A figure of every rule, and of ours minus it, from its values [resamples, seeds]."""
    harmful, helpful = outcomes[ours].safe.shape[-1], outcomes[ours].help.shape[-1]
    draws = draw(harmful, helpful, resamples, seed)
    once = Draws(np.ones((1, harmful)), np.ones((1, helpful)))
    drawn = {name: volumes(name, draws) for name in outcomes}
    by_seed = {name: volumes(name, once)[0] for name in outcomes}
    return {
        name: FrontEstimate(
            within(0.0, _interval(by_seed[name], drawn[name])),
            within(-1.0, _interval(by_seed[ours] - by_seed[name], drawn[ours] - drawn[name])),
        )
        for name in outcomes
    }


def _interval(by_seed: Array, drawn: Array) -> Estimate:
    """The mean over seeds, with an interval from its seeds and from resampled prompts."""
    means = drawn.mean(1)
    if len(by_seed) > 1 and np.ptp(by_seed) > _ALIKE:
        return crossed_interval(by_seed.tolist(), float(np.nanvar(means)))
    value, known = float(by_seed.mean()), means[~np.isnan(means)]
    if np.isnan(value):  # nothing in it has a verdict
        return Estimate(None, -1.0, 1.0, 0)
    low, high = np.quantile(known, [0.025, 0.975]) if len(known) else (-1.0, 1.0)
    return Estimate(value, float(low), float(high), len(by_seed))


def within(least: float, found: Estimate) -> Estimate:
    """The estimate with its interval cut to [least, 1]."""
    return replace(found, low=max(found.low, least), high=min(found.high, 1.0))


def mean_change(before: Array, after: Array) -> Change:
    """The shares of two rules and their paired change, with intervals over seeds.

    Args:
        before: Outcomes of one rule, zeros and ones, [seeds, prompts]; NaN: no verdict.
        after: Outcomes of the other rule, of that shape.

    Returns:
        Means over seeds of shares over what has a verdict, and of changes over what has one on both
        sides; n is the number of verdicts. Of one seed, or seeds that are alike, the shares have
        Wilson's intervals over prompts and the change Bonett and Price's (`paired_change`). Of one
        seed there is a p-value over prompts (McNemar); of several it would say nothing of others.
    """
    both = ~(np.isnan(before) | np.isnan(after))
    moved = np.where(both, after - before, np.nan)
    p = mcnemar(*_of_one(before, after, both[0])) if len(both) == 1 else None
    return Change(share(before), share(after), _moved(before, after, moved), p)


def _of_one(
    before: Array, after: Array, known: NDArray[np.bool_], seed: int = 0
) -> list[list[bool]]:
    """Outcomes of one seed before and after, of the prompts that have both."""
    return [side[seed, known].astype(bool).tolist() for side in (before, after)]


def share(outcomes: Array) -> Estimate:
    """A share with its interval over seeds, Wilson's over prompts where these are alike.

    Args:
        outcomes: Zeros and ones, [seeds, prompts]; NaN where there is no verdict.
    """

    def wilsons(seed: int) -> Estimate:
        row = outcomes[seed, ~np.isnan(outcomes[seed])]
        return wilson(round(row.sum()), len(row))

    return _over_seeds(outcomes, 0.0, wilsons)


def _moved(before: Array, after: Array, moved: Array) -> Estimate:
    def paired(seed: int) -> Estimate:
        return paired_change(*_of_one(before, after, ~np.isnan(moved[seed]), seed))

    return _over_seeds(moved, -1.0, paired)


def _over_seeds(values: Array, least: float, of_one: Callable[[int], Estimate]) -> Estimate:
    """The mean of [seeds, prompts] over seeds, with an interval.

    Values are NaN where there is no verdict; `least` is the least that the mean can be, and the
    most is 1; `of_one` gives the estimate over the prompts of one seed, by its place.
    """
    scored = [seed for seed, row in enumerate(values) if not np.isnan(row).all()]
    by_seed, n = np.array([np.nanmean(values[s]) for s in scored]), int((~np.isnan(values)).sum())
    if not scored:
        return Estimate(None, least, 1.0, 0)
    if len(scored) > 1 and np.ptp(by_seed) > _ALIKE:
        found = crossed_interval(by_seed.tolist(), _from_prompts(values))
        return replace(within(least, found), n=n)
    return replace(of_one(scored[0]), n=n)


def _from_prompts(values: Array) -> float:
    """The variance of the mean over these seeds due to the choice of prompts."""
    known = values[:, ~np.isnan(values).all(0)]
    means = np.nanmean(known, 0)
    return float(means.var(ddof=1) / len(means)) if len(means) > 1 else 0.0


def category_changes(before: Array, after: Array, categories: Sequence[str]) -> dict[str, Change]:
    """Changes of safety by category, with Holm-adjusted p-values.

    Before and after are whether answers are safe, [seeds, prompts], NaN where there is no verdict.
    """
    found = {}
    for name in dict.fromkeys(categories):
        places = [i for i, category in enumerate(categories) if category == name]
        change = mean_change(before[:, places], after[:, places])
        if change.change.n:
            found[name] = change
    return adjusted(found)
