"""Shares, changes of paired figures with intervals, and tests of such changes."""

from collections.abc import Callable, Hashable, Sequence
from math import inf, isfinite, sqrt
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest, norm, t

from tsdi.interval import Estimate, mean_interval

__all__ = [
    "Estimate",
    "clustered_kappa",
    "clustered_kappa_change",
    "clustered_mean",
    "clustered_share",
    "holm",
    "mcnemar",
    "mean_interval",
    "paired_bootstrap",
    "paired_change",
    "sign_flip",
    "wilson",
    "wilson_ends",
]

T = TypeVar("T")


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
    low, high = wilson_ends(successes / n, n, confidence)
    # Exact at the ends, where rounding would leave the share outside its own interval.
    low = 0.0 if successes == 0 else low
    high = 1.0 if successes == n else high
    return Estimate(successes / n, low, high, n)


def wilson_ends(share: float, n: float, confidence: float = 0.95) -> tuple[float, float]:
    """Wilson's interval of a share for a number of items that need not be whole.

    Args:
        share: The share of hits.
        n: How many independent items it stands for, above 0.
        confidence: Two-sided coverage of the interval.
    """
    z2 = _quantile(confidence) ** 2
    centre = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = sqrt(z2 * (share * (1 - share) / n + z2 / (4 * n**2))) / (1 + z2 / n)
    return centre - half, centre + half


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


def mcnemar(before: Sequence[bool], after: Sequence[bool]) -> float:
    """Two-sided p-value of the exact McNemar test: were as many items lost as gained?

    Args:
        before: One outcome per item.
        after: The outcomes of the same items, in the same order.

    Returns:
        The p-value of a binomial test of the items that changed; 1 if none did.

    Raises:
        ValueError: If the lengths differ.

    Source: McNemar (1947), Psychometrika 12, 153-157; exact: Fay (2010), Biostatistics 11, 373-374.
    """
    gained, lost = _discordant(before, after)
    return float(binomtest(gained, gained + lost).pvalue) if gained + lost else 1.0


def sign_flip(differences: Sequence[float]) -> float:
    """Two-sided p-value of the exact sign-flip test: are paired differences centred at zero?

    Under the hypothesis every difference could as well have had the other sign. The distribution of
    their sum over all signs is found by convolution. With differences of -1, 0 and 1 this is the
    exact McNemar test.

    Args:
        differences: Whole numbers, one per item; counts over seeds, for instance.

    Returns:
        The share of all signs whose sum is at least as far from zero as the sum that was seen.

    Raises:
        ValueError: If a difference is not whole.

    Source: Fisher (1935), The Design of Experiments, section 21.
    """
    sizes = [abs(round(value)) for value in differences if value]
    if any(abs(value - round(value)) > 1e-9 for value in differences):
        raise ValueError("differences are whole numbers")
    seen, reach = abs(round(sum(differences))), sum(sizes)
    shares = np.ones(1)  # of the sums -reach, -reach + 2 ... as far as they are summed up
    for size in sizes:
        wider = np.zeros(len(shares) + size)
        wider[: len(shares)] += shares / 2
        wider[size:] += shares / 2
        shares = wider
    sums = np.arange(len(shares)) * 2 - reach
    return float(min(1.0, shares[np.abs(sums) >= seen].sum()))


def holm(p_values: Sequence[float]) -> list[float]:
    """P-values of one family adjusted by Holm's step-down method, in the order given.

    Rejecting where the adjusted value is below alpha keeps the chance of any false rejection in the
    family below alpha, however the tests depend on one another.

    Args:
        p_values: Each in 0..1.

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


def clustered_share(hits: Sequence[bool], clusters: Sequence[Hashable]) -> Estimate:
    """A share with its 95 % Wilson interval for items that come in clusters.

    Wilson's interval with the effective number of items, n over the design effect: how much larger
    the variance is than if each item were a cluster of its own, and 1 at least. Where each is, this
    is `wilson`.

    Args:
        hits: One outcome per item.
        clusters: The cluster of each item, such as the prompt that several models answered.

    Returns:
        The share; its n is the number of items.

    Raises:
        ValueError: If the lengths differ.

    Source: Rao and Scott (1992), Biometrics 48, 577-585.
    """
    n, plain = len(hits), wilson(sum(map(bool, hits)), len(hits))
    if not plain.value or plain.value == 1:
        return plain
    rest: dict[Hashable, float] = {}
    for name, hit in zip(clusters, hits, strict=True):
        rest[name] = rest.get(name, 0.0) + bool(hit) - plain.value
    if len(rest) < 2:
        return Estimate(plain.value, 0.0, 1.0, n)
    if len(rest) == n:
        return plain
    variance = sum(x**2 for x in rest.values()) * len(rest) / (len(rest) - 1)
    design = max(1.0, variance / (n**2 * plain.value * (1 - plain.value) / (n - 1)))
    low, high = wilson_ends(plain.value, n / design)
    return Estimate(plain.value, low, high, n)


def clustered_mean(values: Sequence[float], clusters: Sequence[Hashable]) -> Estimate:
    """A mean of numbers in 0..1 that come in clusters, with its 95 % t-interval.

    The standard error is of the clusters' sums, with the clusters less one as degrees of freedom;
    where each number is a cluster, this is Student's interval. Ends beyond 0 and 1 are cut off.
    Where all are 0, or all 1, numbers know of no error, and the interval is Wilson's for as many
    hits as there are clusters.

    Args:
        values: The numbers.
        clusters: The cluster of each.

    Returns:
        The mean; its n is how many numbers there are. One cluster alone gives [0, 1].

    Source: Liang and Zeger (1986), Biometrika 73, 13-22.
    """
    data = np.array(values, np.float64)
    rest: dict[Hashable, float] = {}
    for name, value in zip(clusters, data - data.mean() if len(data) else data, strict=True):
        rest[name] = rest.get(name, 0.0) + float(value)
    mean, count = float(data.mean()) if len(data) else None, len(rest)
    if mean is None or count < 2:
        return Estimate(mean, 0.0, 1.0, len(data))
    if mean in (0.0, 1.0):
        plain = wilson(round(mean) * count, count)
        return Estimate(mean, plain.low, plain.high, len(data))
    error = sqrt(sum(x**2 for x in rest.values()) * count / (count - 1)) / len(data)
    half = float(t.ppf(0.975, count - 1) * error)
    return Estimate(mean, max(0.0, mean - half), min(1.0, mean + half), len(data))


def clustered_kappa(
    first: Sequence[bool],
    second: Sequence[bool],
    clusters: Sequence[Hashable],
    seed: int = 0,
    resamples: int = 2000,
) -> Estimate:
    """Cohen's kappa of two raters with its 95 % percentile bootstrap interval, by whole clusters.

    kappa = (a - e) / (1 - e) with a the share of items that they agree on and e the share that they
    would agree on by chance, given how often each says yes. It has no value where both always say
    the same one thing. A bootstrap of perfect agreement knows of no error, so the lower end is
    there what Wilson's lower end of the agreement makes of it.

    Args:
        first: One rater's outcome per item.
        second: The other's, of the same items.
        clusters: The cluster of each item.
        seed: Decides the draws.
        resamples: How many draws.

    Raises:
        ValueError: If the lengths differ.

    Source: Cohen (1960), Educational and Psychological Measurement 20, 37-46; clusters: Field and
    Welsh (2007), Journal of the Royal Statistical Society B 69, 369-390.
    """
    rows: dict[Hashable, list[int]] = {}
    for one, other, name in zip(first, second, clusters, strict=True):
        rows.setdefault(name, [0, 0, 0, 0])[2 * bool(one) + bool(other)] += 1
    counts = np.array(list(rows.values()), dtype=np.float64).reshape(-1, 4)
    (value,) = _kappas(counts.sum(0, keepdims=True))
    if np.isnan(value) or len(rows) < 2:
        return Estimate(None if np.isnan(value) else float(value), -1.0, 1.0, len(first))
    shares = np.full(len(rows), 1 / len(rows))
    draws = np.random.default_rng(seed).multinomial(len(rows), shares, resamples)
    low, high = (float(end) for end in np.nanquantile(_kappas(draws @ counts), [0.025, 0.975]))
    if value == 1:
        yes = sum(map(bool, first)) / len(first)
        chance = yes**2 + (1 - yes) ** 2
        low = (wilson(len(rows), len(rows)).low - chance) / (1 - chance)
    return Estimate(float(value), low, high, len(first))


def clustered_kappa_change(
    truth: Sequence[bool],
    before: Sequence[bool],
    after: Sequence[bool],
    clusters: Sequence[Hashable],
    seed: int = 0,
    resamples: int = 2000,
) -> Estimate:
    """How much better one rater agrees with the truth than another: the change of Cohen's kappa.

    The 95 % interval is the percentile bootstrap's, by whole clusters, which both raters share; a
    single cluster gives none.

    Args:
        truth: What is so, per item.
        before: One rater's word on the same items.
        after: The other's.
        clusters: The cluster of each item.
        seed: Decides the draws.
        resamples: How many draws.

    Raises:
        ValueError: If the lengths differ, or a kappa has no value.
    """
    rows: dict[Hashable, NDArray[np.float64]] = {}
    for true, one, other, name in zip(truth, before, after, clusters, strict=True):
        counts = rows.setdefault(name, np.zeros((2, 4)))
        counts[0, 2 * bool(true) + bool(one)] += 1
        counts[1, 2 * bool(true) + bool(other)] += 1
    every = np.array(list(rows.values())).reshape(-1, 2, 4)
    draws = np.random.default_rng(seed).multinomial(
        len(rows), np.full(len(rows), 1 / max(1, len(rows))), resamples
    )

    def change(weights: NDArray[np.float64]) -> NDArray[np.float64]:
        return _kappas(weights @ every[:, 1]) - _kappas(weights @ every[:, 0])

    (value,) = change(np.ones((1, len(rows))))
    if not isfinite(value):
        raise ValueError("a kappa without a value")
    if len(rows) == 1:
        return Estimate(float(value), -inf, inf, len(truth))
    changes = change(draws.astype(np.float64))
    low, high = (float(end) for end in np.nanquantile(changes, [0.025, 0.975]))
    return Estimate(float(value), low, high, len(truth))


def _kappas(counts: NDArray[np.float64]) -> NDArray[np.float64]:
    """Kappa of each row of counts [rows, 4], of no-no, no-yes, yes-no, yes-yes; else NaN."""
    with np.errstate(divide="ignore", invalid="ignore"):
        shares = counts / counts.sum(1, keepdims=True)
        first, second = shares[:, 2] + shares[:, 3], shares[:, 1] + shares[:, 3]
        chance = first * second + (1 - first) * (1 - second)
        kappas: NDArray[np.float64] = (shares[:, 0] + shares[:, 3] - chance) / (1 - chance)
    return np.where(chance < 1, kappas, np.nan)


def _quantile(confidence: float) -> float:
    """How many standard errors a two-sided normal interval reaches."""
    return float(norm.ppf((1 + confidence) / 2))


def _discordant(before: Sequence[bool], after: Sequence[bool]) -> tuple[int, int]:
    """How many items changed from no to yes, and from yes to no."""
    pairs = [(bool(b), bool(a)) for b, a in zip(before, after, strict=True)]
    return pairs.count((False, True)), pairs.count((True, False))
