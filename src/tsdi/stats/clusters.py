"""Shares, means and kappa of clustered items, such as several answers to one prompt."""

from collections import Counter
from collections.abc import Hashable, Sequence
from math import sqrt

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

from tsdi.stats.interval import Estimate
from tsdi.stats.proportions import wilson, wilson_ends

_RESAMPLES = 2000  # of a bootstrap


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
    half = float(stdtrit(count - 1, 0.975) * error)
    return Estimate(mean, max(0.0, mean - half), min(1.0, mean + half), len(data))


def clustered_kappa(
    first: Sequence[Hashable], second: Sequence[Hashable], clusters: Sequence[Hashable]
) -> Estimate:
    """Cohen's kappa of two raters with its 95 % percentile bootstrap interval, by whole clusters.

    kappa = (a - e) / (1 - e) with a the share of items that they agree on and e the share that they
    would agree on by chance, given how often each says what. It has no value where both always say
    the same one thing. A bootstrap of perfect agreement knows of no error, so the lower end is
    there what Wilson's lower end of the agreement makes of it.

    Raises:
        ValueError: If the lengths differ.

    Source: Cohen (1960), Educational and Psychological Measurement 20, 37-46; clusters: Field and
    Welsh (2007), Journal of the Royal Statistical Society B 69, 369-390.
    """
    words = {word: place for place, word in enumerate(dict.fromkeys([*first, *second]))}
    rows: dict[Hashable, NDArray[np.float64]] = {}
    for one, other, name in zip(first, second, clusters, strict=True):
        cells = rows.setdefault(name, np.zeros((len(words), len(words))))
        cells[words[one], words[other]] += 1
    counts = np.array(list(rows.values()) or np.zeros((0, 1, 1)))
    (value,) = _kappas(counts.sum(0, keepdims=True))
    if np.isnan(value) or len(rows) < 2:
        return Estimate(None if np.isnan(value) else float(value), -1.0, 1.0, len(first))
    # Clusters of one table are alike: tables are drawn by their shares, not clusters one by one.
    tables, times = np.unique(counts, axis=0, return_counts=True)
    draws = np.random.default_rng(0).multinomial(len(rows), times / len(rows), _RESAMPLES)
    drawn = np.tensordot(draws.astype(np.float64), tables, 1)
    ends = np.nanquantile(_kappas(drawn), [0.025, 0.975])
    low, high = map(float, ends)
    if value == 1:
        chance = sum((n / len(first)) ** 2 for n in Counter(first).values())
        low = (wilson(len(rows), len(rows)).low - chance) / (1 - chance)
    return Estimate(float(value), low, high, len(first))


def _kappas(counts: NDArray[np.float64]) -> NDArray[np.float64]:
    """Kappa of each table of counts [tables, words, words]; NaN where it has no value."""
    with np.errstate(divide="ignore", invalid="ignore"):
        shares = counts / counts.sum((1, 2), keepdims=True)
        chance = (shares.sum(1) * shares.sum(2)).sum(1)
        kappas: NDArray[np.float64] = (shares.trace(axis1=1, axis2=2) - chance) / (1 - chance)
    return np.where(chance < 1, kappas, np.nan)


def chained(keys: Sequence[Sequence[str]]) -> list[str]:
    """The cluster of every item, named by one of its keys: those that share one, in any chain.

    Args:
        keys: The keys of every item, at least one each.
    """
    root: dict[str, str] = {}

    def find(name: str) -> str:
        while root.setdefault(name, name) != name:
            name = root[name]
        return name

    for first, *others in keys:
        for other in others:
            one, same = sorted((find(first), find(other)))
            root[same] = one
    return [find(own[0]) for own in keys]
