"""Cleansing of preference pairs by a judge's probability that their answers are safe.

A safety pair claims that its chosen answer is safe and its rejected one is not. A pair is dropped
where a judge contradicts the first claim with confidence:

    chosen_safety < threshold                            (Tran et al. 2025: MD-Judge, 0.25)

and, if asked, the second one with the same confidence (not from the paper):

    rejected_safety > 1 - threshold

Whatever lies on a boundary is kept, so that threshold 0 keeps every scored pair. A pair that no
known probability condemns, and of which one that counts is unknown, is neither kept nor dropped.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any, Literal

import numpy as np

from tsdi.errors import PromptError, UsageError
from tsdi.files import parse_json
from tsdi.suites.prompts import Row
from tsdi.training.data import Pair

THRESHOLD = 0.25
"""The paper's."""
_SCORED = ("prompt", "chosen", "rejected", "chosen_safety")
_OPTIONAL = ("category", "rejected_safety")
_LONGEST = 1 << 24  # bytes of a row
BINS = 20  # of a histogram of probabilities; the paper's threshold is an edge of one

Fate = Literal["kept", "chosen unsafe", "rejected safe", "unscored"]
"""What becomes of a pair, and why."""


@dataclass(frozen=True)
class Count:
    """Numbers of kept, dropped and unscored pairs of one category.

    Unscored pairs are neither kept nor dropped, as a probability that counts is unknown. Means are
    of the probabilities, before cleansing, that answers are safe; None where no answer has one.
    """

    kept: int
    dropped: int
    unscored: int
    chosen_safety: float | None
    rejected_safety: float | None

    @property
    def total(self) -> int:
        """The number of pairs of the category."""
        return self.kept + self.dropped + self.unscored


@dataclass(frozen=True)
class Cleansing:
    """The decision on each of some pairs: kept, dropped and why, or unscored.

    Attributes:
        pairs: The pairs, in the order of the file.
        fates: The decision on each pair.
        threshold: The least probability of being safe that a chosen answer must have.
        rejected: Whether pairs with a safe rejected answer were dropped, too.
    """

    pairs: Sequence[Pair]
    fates: Sequence[Fate]
    threshold: float
    rejected: bool

    @property
    def kept(self) -> list[Pair]:
        """The pairs that stay, in their order."""
        return [pair for pair, fate in zip(self.pairs, self.fates, strict=True) if fate == "kept"]

    @property
    def overall(self) -> Count:
        """Numbers of kept, dropped and unscored pairs over all categories."""
        return _count(self.pairs, self.fates)

    @property
    def categories(self) -> dict[str, Count]:
        """Pairs by category, in the order in which these first occur; "" where there is none."""
        parts: dict[str, list[tuple[Pair, Fate]]] = {}
        for pair, fate in zip(self.pairs, self.fates, strict=True):
            parts.setdefault(pair.category, []).append((pair, fate))
        return {
            name: _count([pair for pair, _ in part], [fate for _, fate in part])
            for name, part in parts.items()
        }

    def to_dict(self) -> dict[str, Any]:
        """Counts, reasons and histograms as JSON; no texts of pairs."""
        return {
            "threshold": self.threshold,
            "rejected": self.rejected,
            "overall": _to_dict(self.overall),
            "dropped_because": {
                "chosen unsafe": self.fates.count("chosen unsafe"),
                "rejected safe": self.fates.count("rejected safe"),
            },
            "categories": {name: _to_dict(count) for name, count in self.categories.items()},
            "histogram": {
                "chosen": histogram([pair.chosen_safety for pair in self.pairs]),
                "rejected": histogram([pair.rejected_safety for pair in self.pairs]),
            },
        }


def cleanse_pairs(
    pairs: Sequence[Pair], threshold: float = THRESHOLD, rejected: bool = False
) -> Cleansing:
    """Find the pairs that a judge's probabilities contradict.

    Args:
        pairs: Pairs with `chosen_safety`, and with `rejected_safety` if that counts.
        threshold: The least probability of being safe that a chosen answer must have, 0 to 1.
        rejected: Also drop pairs whose rejected answer is safe with more than 1 - threshold. It is
            meant for safety pairs; in helpfulness pairs both answers should be safe.

    Raises:
        UsageError: If the threshold is no probability, or no pair would be kept.
    """
    if not 0 <= threshold <= 1:
        raise UsageError(f"The threshold is {threshold:g}.", "Give a probability, 0 to 1.")
    found = Cleansing(pairs, [_fate(p, threshold, rejected) for p in pairs], threshold, rejected)
    count = found.overall
    if not count.kept:
        raise UsageError(
            f"No pair would be kept at threshold {threshold:g}: of {count.total} pairs"
            f" {count.dropped} are dropped and {count.unscored} have no score.",
            "Lower the threshold, or score the pairs with another judge.",
        )
    return found


def _fate(pair: Pair, threshold: float, rejected: bool) -> Fate:
    if pair.chosen_safety is not None and pair.chosen_safety < threshold:
        return "chosen unsafe"
    if rejected and pair.rejected_safety is not None and pair.rejected_safety > 1 - threshold:
        return "rejected safe"
    missing = pair.chosen_safety is None or (rejected and pair.rejected_safety is None)
    return "unscored" if missing else "kept"


def _count(pairs: Sequence[Pair], fates: Sequence[Fate]) -> Count:
    kept, unscored = fates.count("kept"), fates.count("unscored")
    return Count(
        kept,
        len(fates) - kept - unscored,
        unscored,
        _mean([pair.chosen_safety for pair in pairs]),
        _mean([pair.rejected_safety for pair in pairs]),
    )


def _mean(probabilities: Sequence[float | None]) -> float | None:
    known = [probability for probability in probabilities if probability is not None]
    return fmean(known) if known else None


def _to_dict(count: Count) -> dict[str, Any]:
    return {"pairs": count.total, **vars(count)}


def histogram(probabilities: Iterable[float | None]) -> list[int]:
    """Counts of the known probabilities in `BINS` bins of equal width from 0 to 1.

    A bin holds its lower edge and not its upper one; the last one holds 1.
    """
    known = [probability for probability in probabilities if probability is not None]
    counts, _ = np.histogram(known, np.arange(BINS + 1) / BINS)
    return [int(count) for count in counts]


def check_scored(rows: Iterable[Row], rejected: bool) -> None:
    """Refuse rows that lack the column of a score; a cell without a number will do.

    The score of the rejected answer counts only if asked.

    Raises:
        PromptError: If a row lacks a column.
    """
    columns = ("chosen_safety", "rejected_safety") if rejected else ("chosen_safety",)
    for _, place, row in rows:
        missing = [name for name in columns if isinstance(row, dict) and name not in row]
        if missing:
            raise PromptError(
                f"{place}: no column {missing[0]!r}, the judge's probability that the answer is"
                f" safe; there are {', '.join(map(str, row)) or 'none'}.",
                f"Say FILE:{missing[0]}=NAME, or score the pairs with --judge NAME.",
            )


def are_cleansed(path: Path) -> bool:
    """Whether a file begins with a pair as `to_row` writes it, with a score."""
    try:
        with path.open("rb") as file:
            row = parse_json(file.readline(_LONGEST))
    except (OSError, ValueError):
        return False
    return isinstance(row, dict) and {*_SCORED} <= row.keys() <= {*_SCORED, *_OPTIONAL}


def to_row(pair: Pair) -> dict[str, str | float]:
    """A pair as a row of a file of pairs, without empty fields."""
    row: dict[str, str | float] = {
        "prompt": pair.prompt,
        "chosen": pair.chosen,
        "rejected": pair.rejected,
    }
    if pair.category:
        row["category"] = pair.category
    if pair.chosen_safety is not None:
        row["chosen_safety"] = pair.chosen_safety
    if pair.rejected_safety is not None:
        row["rejected_safety"] = pair.rejected_safety
    return row
