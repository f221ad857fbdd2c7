"""The statistics of a study: points that make a front, hypervolumes and changes with intervals.

A method has one operating point per cell (grid point or setting), measured on every training seed
by the same prompts. Resampling is two-way: seeds are drawn with replacement where there are
several, and so are harmful and helpful prompts, each apart; all methods, cells and seeds see the
same draws, so differences are paired. Drawing both is conservative (Owen 2007, Annals of Applied
Statistics 1, 386-411).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations
from math import comb

import numpy as np
from numpy.typing import NDArray

from tsdi.stats.interval import Estimate
from tsdi.stats.proportions import holm, paired_change, sign_flip, wilson

Array = NDArray[np.float64]
_CHUNK = 50_000  # combinations whose hypervolumes are computed together
_FEWEST_SEEDS = 2  # below this seeds are not drawn: one says nothing of others


@dataclass(frozen=True)
class Outcomes:
    """A method's answers to the test prompts.

    Attributes:
        safe: Whether answers to harmful prompts are safe, [seeds, cells, harmful]; NaN: unscored.
        help: How helpful answers to the other prompts are, 0..1, [seeds, cells, helpful]; likewise.
    """

    safe: Array
    help: Array


@dataclass(frozen=True)
class Draws:
    """Resamples as counts: how often each seed and prompt was drawn.

    Attributes:
        seeds: [resamples, seeds].
        harmful: [resamples, harmful prompts].
        helpful: [resamples, helpful prompts].
    """

    seeds: Array
    harmful: Array
    helpful: Array


@dataclass(frozen=True)
class FrontEstimate:
    """A method's front.

    Attributes:
        volume: Hypervolume of its chosen points, mean over seeds; n is the number of seeds.
        ours_minus: The hypervolume of ours minus it, on the same draws.
    """

    volume: Estimate
    ours_minus: Estimate


@dataclass(frozen=True)
class Change:
    """A share before and after, means over seeds and prompts; n is seeds x prompts.

    Where all answers agree, of which a bootstrap knows no error, a share has Wilson's interval over
    the prompts.
    """

    before: Estimate
    after: Estimate
    change: Estimate


@dataclass(frozen=True)
class CategoryChange(Change):
    """A category's change, with the p-value of a sign-flip test and its adjustment by Holm."""

    p: float
    p_holm: float


def volumes(points: Array) -> Array:
    """Hypervolume down to (0, 0) of sets of points, as `tsdi.study.hypervolume.hypervolume`.

    Args:
        points: [..., points, 2].

    Returns:
        [...].
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
        found = volumes(candidates[:, some]).mean(0)
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


@lru_cache(maxsize=64)  # many changes are of as many prompts, and see the same draws
def draw(seeds: int, harmful: int, helpful: int, resamples: int, seed: int) -> Draws:
    """Resamples of seeds and prompts.

    Args:
        seeds: How many training seeds there are; a single one is in every resample once.
        harmful: How many harmful prompts.
        helpful: How many helpful ones.
        resamples: How many resamples.
        seed: Decides the draws.
    """
    rng = np.random.default_rng(seed)

    def counts(n: int) -> Array:
        if not n:
            return np.zeros((resamples, 0))
        return rng.multinomial(n, np.full(n, 1 / n), resamples).astype(np.float64)

    drawn = counts(seeds) if seeds >= _FEWEST_SEEDS else np.ones((resamples, seeds))
    return Draws(drawn, counts(harmful), counts(helpful))


def rates(outcomes: Array, counts: Array) -> Array:
    """Weighted means over prompts without those that have no verdict.

    Args:
        outcomes: [..., prompts], NaN where there is none.
        counts: How often each prompt counts, [resamples, prompts].

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
    """The hypervolume of some cells in every resample, mean over the seeds drawn.

    Args:
        outcomes: A method's answers.
        chosen: Its cells that make the front.
        draws: The resamples.

    Returns:
        [resamples].
    """
    cells = list(chosen)
    safety = rates(outcomes.safe[:, cells], draws.harmful)
    help_ = rates(outcomes.help[:, cells], draws.helpful)
    found = volumes(np.stack([safety, help_], -1))  # [resamples, seeds]
    mean: Array = (found * draws.seeds).sum(1) / draws.seeds.sum(1)
    return mean


def compare_fronts(
    methods: Mapping[str, Outcomes],
    chosen: Mapping[str, Sequence[int]],
    ours: str,
    *,
    resamples: int = 2000,
    seed: int = 0,
) -> dict[str, FrontEstimate]:
    """Hypervolumes of several methods' fronts, and of ours minus each, with 95 % intervals.

    Args:
        methods: Answers by method; all have the same seeds and prompts.
        chosen: The cells that make each front, as many for all.
        ours: The method that the others are compared with.
        resamples: How many draws.
        seed: Decides them.

    Raises:
        ValueError: If fronts have different numbers of points: a union of fronts can't lose.
    """
    sizes = {len(set(cells)) for cells in chosen.values()}
    if len(sizes) != 1:
        raise ValueError(f"fronts of {sorted(sizes)} points cannot be compared")
    seeds, _, harmful = methods[ours].safe.shape
    helpful = methods[ours].help.shape[-1]
    draws = draw(seeds, harmful, helpful, resamples, seed)
    whole = Draws(np.ones((1, seeds)), np.ones((1, harmful)), np.ones((1, helpful)))
    drawn = {name: front_volumes(one, chosen[name], draws) for name, one in methods.items()}
    value = {
        name: float(front_volumes(one, chosen[name], whole)[0]) for name, one in methods.items()
    }
    return {
        name: FrontEstimate(
            _percentiles(value[name], drawn[name], seeds),
            _percentiles(value[ours] - value[name], drawn[ours] - drawn[name], seeds),
        )
        for name in methods
    }


def mean_change(before: Array, after: Array, *, resamples: int = 2000, seed: int = 0) -> Change:
    """A share of two methods and its change, with intervals over seeds and prompts.

    Args:
        before: Outcomes of one method, [seeds, prompts]; NaN where there is no verdict.
        after: Of the other.
        resamples: How many draws.
        seed: Decides them.

    Returns:
        Shares over what has a verdict; the change over what has one on both sides. One seed alone
        gives the Bonett-Price interval of `paired_change`. So do outcomes that all changed alike
        or not at all, of which a bootstrap knows no error: as if there were one seed.
    """
    both = ~(np.isnan(before) | np.isnan(after))
    one, other = (np.where(both, values, np.nan) for values in (before, after))
    draws = draw(before.shape[0], before.shape[1], 0, resamples, seed)
    shares = _share(before, draws), _share(after, draws)
    known = both.any(0)
    if not known.any():
        return Change(*shares, Estimate(None, -1.0, 1.0, 0))
    if len(before) < _FEWEST_SEEDS or not np.nanstd(other - one):
        first = [bool(np.nanmean(one[:, i]) >= 0.5) for i in np.flatnonzero(known)]
        second = [bool(np.nanmean(other[:, i]) >= 0.5) for i in np.flatnonzero(known)]
        return Change(*shares, paired_change(first, second))
    drawn = _pooled(other - one, draws)
    value = float(np.nanmean(other - one))
    return Change(*shares, _percentiles(value, drawn, int(both.sum())))


def _share(values: Array, draws: Draws) -> Estimate:
    n = int((~np.isnan(values)).sum())
    if not n:
        return Estimate(None, 0.0, 1.0, 0)
    if not np.nanstd(values) and np.nanmax(values) in (0.0, 1.0):
        prompts = int((~np.isnan(values)).any(0).sum())
        alike = wilson(round(float(np.nanmax(values))) * prompts, prompts)
        return Estimate(alike.value, alike.low, alike.high, n)
    return _percentiles(float(np.nanmean(values)), _pooled(values, draws), n)


def _pooled(values: Array, draws: Draws) -> Array:
    """Means over the seeds and prompts drawn, [resamples]; NaN where nothing with a verdict was."""
    known = ~np.isnan(values)
    total, count = (
        ((draws.harmful @ part.T) * draws.seeds).sum(1)
        for part in (np.where(known, values, 0.0), known.astype(np.float64))
    )
    with np.errstate(invalid="ignore", divide="ignore"):
        means: Array = total / count
    return means


def category_changes(
    before: Array,
    after: Array,
    categories: Sequence[str],
    *,
    resamples: int = 2000,
    seed: int = 0,
) -> dict[str, CategoryChange]:
    """Changes of safety by category, with p-values adjusted over the categories by Holm's method.

    The test flips signs of the prompts' changes, each a mean over seeds: it says something of other
    prompts with these seeds.

    Args:
        before: Whether answers are safe, [seeds, prompts]; NaN where there is no verdict.
        after: Of the other method.
        categories: Of the prompts.
        resamples: How many draws.
        seed: Decides them.
    """
    found: dict[str, tuple[Change, float]] = {}
    for name in dict.fromkeys(categories):
        places = [i for i, category in enumerate(categories) if category == name]
        one, other = before[:, places], after[:, places]
        both = ~(np.isnan(one) | np.isnan(other)).any(0)
        if both.any():
            change = mean_change(one, other, resamples=resamples, seed=seed)
            found[name] = change, sign_flip((other - one)[:, both].sum(0).tolist())
    adjusted = holm([p for _, p in found.values()])
    return {
        name: CategoryChange(change.before, change.after, change.change, p, p_holm)
        for (name, (change, p)), p_holm in zip(found.items(), adjusted, strict=True)
    }


def _percentiles(value: float, drawn: Array, n: int) -> Estimate:
    known = drawn[~np.isnan(drawn)]
    if np.isnan(value):  # nothing in it has a verdict
        return Estimate(None, -np.inf, np.inf, 0)
    low, high = np.quantile(known, [0.025, 0.975]) if len(known) else (-np.inf, np.inf)
    return Estimate(value, float(low), float(high), n)
