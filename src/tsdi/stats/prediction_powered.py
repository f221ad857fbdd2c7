"""Means of people's labels over many items, few of them labelled, with a judge's word on each."""

from collections import defaultdict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from math import sqrt

from scipy.special import ndtri

from tsdi.stats.interval import Estimate

_Z = float(ndtri(0.975))


@dataclass(frozen=True)
class Item:
    """An answer with a judge's word on it, or a prompt with its words on two answers.

    Attributes:
        word: What the judge says; items with one word are a stratum.
        guess: What the item counts by that word alone: 0 to 1 of one answer; of two, the second's
            count less the first's.
        truth: What it counts by people's label; None without one.
        weight: How many items its label stands for, up to a factor that all labels share.
    """

    word: Hashable
    guess: float
    truth: float | None = None
    weight: float = 1.0


def powered_share(items: Sequence[Item]) -> Estimate:
    """The share of all items that people would count, by labels of some, with its 95 % interval.

    With W the share of items with a word of the judge's, and p the weighted mean of the labels on
    these, the value is P = sum W p over the words. Where a judge says yes or no this is the
    prediction-powered mean, mean of all f + mean of labelled (y - f), f times the power that makes
    the variance least. It holds whatever the judge says, as long as chance decided which items are
    labelled, each with a probability that goes with 1 / weight.

    The variance is sum W (p - P)^2 / N + sum W^2 v / n, with N items, n labels on a word (Kish's
    (sum w)^2 / sum w^2) and v their variance. Normal intervals are far too narrow where next to no
    label contradicts the judge; so z^2 labels are added for the interval, half of them hits, a word
    getting W of each. Of a judge that always says one thing, that is Agresti and Coull's interval
    of the labels alone. A word without labels counts what the judge makes of it, with the largest
    variance that there is.

    Returns:
        The share; its n is the number of labels. Without labels there is no value.

    Source: Angelopoulos et al. (2023), arXiv 2301.09633; power: arXiv 2311.01453;
    strata: Fisch et al. (2024), arXiv 2406.04291; added labels: Agresti and Coull (1998), American
    Statistician 52, 119-126.
    """
    return _powered(items, 0.0, _Z**2 / 2)


def powered_change(items: Sequence[Item]) -> Estimate:
    """The mean change from first to second answer that people would count, by labels of some pairs.

    As `powered_share`, with truths of -1, 0 and 1. Two labels are added, one of them -1 and one 1:
    of a judge that always says one thing, that is Bonett and Price's interval of the labels alone.
    """
    return _powered(items, -1.0, 1.0)


@dataclass(frozen=True)
class _Stratum:
    """All items with one word: share, mean, and the centre and variance of the mean's interval."""

    share: float
    mean: float
    centre: float
    variance: float


def _powered(items: Sequence[Item], least: float, added: float) -> Estimate:
    """A mean of what lies between `least` and 1, with `added` labels of either for the interval."""
    labels = sum(item.truth is not None for item in items)
    if not labels:
        return Estimate(None, least, 1.0, 0)
    words: dict[Hashable, list[Item]] = defaultdict(list)
    for item in items:
        words[item.word].append(item)
    strata = [_stratum(part, len(part) / len(items), least, added) for part in words.values()]
    centre = sum(one.share * one.centre for one in strata)
    between = sum(one.share * (one.centre - centre) ** 2 for one in strata) / len(items)
    half = _Z * sqrt(between + sum(one.share**2 * one.variance for one in strata))
    low, high = max(least, centre - half), min(1.0, centre + half)
    return Estimate(sum(one.share * one.mean for one in strata), low, high, labels)


def _stratum(items: Sequence[Item], share: float, least: float, added: float) -> _Stratum:
    known = [(item.truth, item.weight) for item in items if item.truth is not None]
    total = sum(weight for _, weight in known)
    n = total**2 / sum(weight**2 for _, weight in known) if known else 0.0
    mean = sum(truth * weight for truth, weight in known) / total if known else items[0].guess
    square = sum(truth**2 * weight for truth, weight in known) / total if known else 0.0
    more = added * share  # labels of either end of the range
    all_labels = n + 2 * more
    centre = (n * mean + more * (1 + least)) / all_labels
    variance = (n * square + more * (1 + least**2)) / all_labels - centre**2
    largest = ((1 - least) / 2) ** 2
    return _Stratum(share, mean, centre, min(max(variance, 0.0) / all_labels, largest))
