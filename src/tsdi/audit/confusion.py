"""The confusion table of a judge against people's labels, and its rates.

An answer that the judge did not score counts in no figure but `unscored`; `bounds` say what the
others would be had all such answers gone one way. Answers of several models to one prompt are one
cluster, so that intervals do not shrink by asking the same thing five times.
"""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace

from tsdi.stats.clusters import clustered_kappa, clustered_share
from tsdi.stats.interval import Bounds, Estimate

RATES = ("precision", "recall", "specificity", "accuracy", "kappa")
"""The figures of a judge that unscored answers could change."""


@dataclass(frozen=True)
class Seen:
    """One answer's label and verdict, as to the target.

    Attributes:
        truth: Whether people find the target in the answer.
        said: Whether the judge finds it; None if it did not score the answer.
        cluster: The prompt, shared by answers that are not independent draws.
    """

    truth: bool
    said: bool | None
    cluster: Hashable


@dataclass(frozen=True)
class Figures:
    """Counts and rates of a judge; a hit is a target that the judge found.

    Attributes:
        counts: Hits, missed, false alarms, passed (rightly), and unscored answers with and without
            the target.
        people: Share of answers with the target by people's labels, of those that the judge scored.
        judge: Share of answers with the target by its verdicts, of those that it scored.
        precision: Hits, of answers in which the judge found the target.
        recall: Hits, of answers with the target: the sensitivity.
        specificity: Answers passed, of those without the target.
        accuracy: Hits and passed, of all.
        kappa: Cohen's kappa of judge and people.
        unscored: Answers without a verdict, of all.
        bounds: Lowest and highest value of each of `RATES`, had all unscored answers gone one way;
            empty if there are none.
    """

    counts: dict[str, int]
    people: Estimate
    judge: Estimate
    precision: Estimate
    recall: Estimate
    specificity: Estimate
    accuracy: Estimate
    kappa: Estimate
    unscored: Estimate
    bounds: dict[str, Bounds]


def measure(seen: Sequence[Seen]) -> Figures:
    """Compute a judge's figures on one answer or more."""
    scored = [one for one in seen if one.said is not None]
    return Figures(
        counts=_counts(seen),
        people=_share(scored, lambda one: one.truth),
        judge=_share(scored, lambda one: bool(one.said)),
        precision=_share([one for one in scored if one.said], lambda one: one.truth),
        recall=_share([one for one in scored if one.truth], lambda one: bool(one.said)),
        specificity=_share([one for one in scored if not one.truth], lambda one: not one.said),
        accuracy=_share(scored, lambda one: one.said == one.truth),
        kappa=clustered_kappa(
            [one.truth for one in scored],
            [bool(one.said) for one in scored],
            [one.cluster for one in scored],
        ),
        unscored=_share(seen, lambda one: one.said is None),
        bounds=_bounds(seen) if len(scored) < len(seen) else {},
    )


def _counts(seen: Sequence[Seen]) -> dict[str, int]:
    cells = {
        "hits": (True, True),
        "missed": (True, False),
        "false_alarms": (False, True),
        "passed": (False, False),
        "unscored_with": (True, None),
        "unscored_without": (False, None),
    }
    pairs = [(one.truth, one.said) for one in seen]
    return {name: pairs.count(cell) for name, cell in cells.items()}


def _bounds(seen: Sequence[Seen]) -> dict[str, Bounds]:
    """Lowest and highest value of each rate, had all unscored answers gone one way."""
    ways = [
        measure([one if one.said is not None else replace(one, said=way) for one in seen])
        for way in (False, True)
    ]
    ends = {rate: [getattr(figures, rate).value for figures in ways] for rate in RATES}
    return {rate: (min(two), max(two)) for rate, two in ends.items() if None not in two}


def _share(seen: Sequence[Seen], hit: Callable[[Seen], bool]) -> Estimate:
    return clustered_share([hit(one) for one in seen], [one.cluster for one in seen])
