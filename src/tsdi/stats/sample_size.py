"""Sample sizes: the prompts that a test or an interval needs."""

from dataclasses import dataclass
from math import ceil, sqrt
from typing import Any

import numpy as np
from scipy.stats import binom, norm

from tsdi.errors import UsageError
from tsdi.stats.proportions import wilson

MOST = 100_000  # prompts, beyond which nobody looks
ALPHA = 0.05
AGAINST = (0.0, 0.01, 0.02, 0.05)  # shares of prompts that turn the other way


@dataclass(frozen=True)
class Needed:
    """Prompts needed to detect a change while some answers turn the other way.

    Attributes:
        against: Share of prompts that turn the other way.
        overall: Prompts for a test at level `ALPHA`.
        category: Prompts in one of several categories, at Holm's worst level.
    """

    against: float
    overall: int
    category: int


@dataclass(frozen=True)
class SampleSize:
    """Prompts needed to detect a change of a share, and for an interval of its size.

    Attributes:
        change: The change of a share that is to be seen.
        share: The share before it.
        categories: Number of categories that are tested together.
        power: Probability of detecting the change.
        needed: Prompts needed, by the share of answers that turn the other way, rising.
        interval: Prompts with which the 95 % interval of the share is `change` to each side.
    """

    change: float
    share: float
    categories: int
    power: float
    needed: list[Needed]
    interval: int

    def to_dict(self) -> dict[str, Any]:
        """The numbers as JSON."""
        settings = ("change", "share", "categories", "power")
        return {
            "settings": {name: getattr(self, name) for name in settings},
            "change": [vars(one) for one in self.needed],
            "interval": self.interval,
        }


def sample_size(
    change: float = 0.05, share: float = 0.95, categories: int = 16, power: float = 0.8
) -> SampleSize:
    """Prompts needed to detect a change with the exact McNemar test of `tsdi.compare`.

    Args:
        change: The change of a share that is to be seen, such as 0.05 for five points.
        share: The share before it.
        categories: Number tested together; the level in each is `ALPHA` / categories, that of
            Holm's adjustment at its worst.
        power: Probability of detecting the change.

    Raises:
        UsageError: If there are no such shares, or a hundred thousand prompts are too few.
    """
    possible = [against for against in AGAINST if change + 2 * against <= 1] or [0.0]
    needed = [
        Needed(
            against=against,
            category=prompts_for_change(change, against, ALPHA / categories, power),
            overall=prompts_for_change(change, against, ALPHA, power),
        )
        for against in reversed(possible)  # what takes most first: it is said at once if too many
    ]
    interval = prompts_for_interval(share, change)
    return SampleSize(change, share, categories, power, needed[::-1], interval)


def mcnemar_power(n: int, lost: float, gained: float, alpha: float = 0.05) -> float:
    """The power of the exact McNemar test of n paired answers.

    Args:
        n: Prompts, answered by both arms.
        lost: Share of prompts that turn from hit to miss.
        gained: Share of prompts that turn from miss to hit.
        alpha: Two-sided level of the test.

    Raises:
        ValueError: If the shares are no shares.

    Source: the test is Fay (2010), Biostatistics 11, 373-374; its power is summed over the number
    of prompts that change.
    """
    changed = lost + gained
    if min(lost, gained) < 0 or changed > 1:
        raise ValueError(f"lost {lost}, gained {gained}")
    if changed == 0 or n == 0:
        return 0.0
    counts = np.arange(n + 1)
    # Largest number of losses (or gains) among so many changes at which the test still rejects.
    limit = binom.ppf(alpha / 2, counts, 0.5)
    limit = np.where(2 * binom.cdf(limit, counts, 0.5) <= alpha, limit, limit - 1)
    few_lost = binom.cdf(limit, counts, lost / changed)
    few_gained = binom.cdf(limit, counts, gained / changed)
    return float(binom.pmf(counts, n, changed) @ (few_lost + few_gained))


def prompts_for_change(
    change: float, against: float = 0.0, alpha: float = 0.05, power: float = 0.8
) -> int:
    """Prompts with which the exact McNemar test finds a change with the given power.

    Args:
        change: Absolute change of the share, such as 0.05 for five points.
        against: Share of prompts that turn the other way than the change; a debiased model wins
            some answers and loses others.
        alpha: Two-sided level; divide it by the number of categories for the worst case of Holm's
            adjustment.
        power: Probability of detecting the change.

    Raises:
        UsageError: If there are no such shares, or a hundred thousand prompts are too few.
    """
    lost, changed = change + against, change + 2 * against
    if not 0 < change <= 1 or against < 0 or changed > 1:
        raise UsageError(
            f"No share can change by {100 * change:g} points with {100 * against:g} against it.",
            "Give a change above 0 and at most 100 points in all; in Python 0.05 is 5 points.",
        )
    reach = norm.ppf(1 - alpha / 2) * sqrt(changed)
    reach += norm.ppf(power) * sqrt(max(0.0, changed - change**2))
    # Connor (1987), Biometrics 43, 207-211: where to begin.
    n = int(max(1, ceil((reach / change) ** 2)))
    while 1 < n <= MOST and mcnemar_power(n - 1, lost, against, alpha) >= power:
        n -= 1
    while n <= MOST and mcnemar_power(n, lost, against, alpha) < power:
        n += max(1, n // 1000)
    if n > MOST:
        raise UsageError(
            f"A change of {100 * change:g} points needs more than {MOST} prompts.",
            "Look for a larger one.",
        )
    return n


def prompts_for_interval(share: float, half_width: float) -> int:
    """Prompts with which the Wilson interval of a share is no wider than asked.

    Args:
        share: The share that is expected.
        half_width: Half the width of the 95 % interval, such as 0.05 for five points.

    Raises:
        UsageError: If these are no shares above 0.
    """
    if not 0 <= share <= 1 or not 0 < half_width < 1:
        raise UsageError(
            f"No interval of +-{100 * half_width:g} points around {100 * share:g} %.",
            "Give a share from 0 to 100 and points above 0.",
        )
    few, many = 0, 1
    while _half_width(share, many) > half_width:
        few, many = many, 2 * many
    while many - few > 1:
        middle = (few + many) // 2
        wide = _half_width(share, middle) > half_width
        few, many = (middle, many) if wide else (few, middle)
    return many


def _half_width(share: float, n: int) -> float:
    found = wilson(round(share * n), n)
    return (found.high - found.low) / 2
