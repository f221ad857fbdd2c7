"""Win rates from preferences between two runs, each pair judged in both orders."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from tsdi.evaluation.length_control import length_controlled
from tsdi.stats.clusters import clustered_mean
from tsdi.stats.interval import Estimate, as_json
from tsdi.stats.proportions import wilson


@dataclass(frozen=True)
class Compared:
    """The judged comparison of two answers to one prompt, the base's and the run's.

    Attributes:
        prompt: The prompt itself: runs may answer one prompt several times.
        second: The run's win, 0..1, when its answer is shown second; None if UNSCORED.
        first: The run's win when its answer is shown first.
        longer: Length of the run's answer minus the base's, in characters.
        identical: Whether both are the same text: a tie without asking the judge.
    """

    prompt: Hashable
    second: float | None
    first: float | None
    longer: int
    identical: bool = False

    @property
    def win(self) -> float | None:
        """The run's win over both orders; None if one is UNSCORED."""
        if self.second is None or self.first is None:
            return None
        return (self.second + self.first) / 2

    @property
    def first_wins(self) -> float | None:
        """The win of the answer shown first over both orders; None if one is UNSCORED."""
        if self.second is None or self.first is None:
            return None
        return (1 - self.second + self.first) / 2


@dataclass(frozen=True)
class WinFigures:
    """Win rates of a run against a base, with 95 % intervals.

    All but `bounds` and `unscored` stand on the prompts that are scored in both orders.

    Attributes:
        win_rate: Mean win of the run, a tie being half of one.
        length_controlled: Win rate predicted for answers of equal length.
        wins: Prompts that the run wins over both orders.
        ties: Prompts that nobody wins.
        losses: Prompts that the base wins.
        first_position: Share of wins of the answer shown first, whosesoever it is: .5 if the order
            does not matter. Identical answers do not count.
        identical: Prompts that both answer with the same text, which are ties.
        longer: Mean length of the run's answers minus the base's, in characters.
        unscored: Share of prompts that are not scored in one order at least.
        bounds: Lowest and highest win rate, had the base or the run won all of those.
    """

    win_rate: Estimate
    length_controlled: Estimate
    wins: int
    ties: int
    losses: int
    first_position: Estimate
    identical: int
    longer: float | None
    unscored: Estimate
    bounds: tuple[float, float]

    def to_dict(self) -> dict[str, Any]:
        """The figures as JSON."""
        return as_json(self)


def win_figures(compared: Sequence[Compared]) -> WinFigures:
    """Compute the win rates of a run against a base, from one comparison per prompt."""
    scored = [(one, one.win) for one in compared if one.win is not None]
    prompts, wins = [one.prompt for one, _ in scored], [win for _, win in scored]
    longer, missing = [one.longer for one, _ in scored], len(compared) - len(scored)
    asked = [
        (one.prompt, one.first_wins)
        for one in compared
        if one.first_wins is not None and not one.identical
    ]
    return WinFigures(
        win_rate=clustered_mean(wins, prompts),
        length_controlled=length_controlled(wins, longer, prompts),
        wins=sum(win > 0.5 for win in wins),
        ties=sum(win == 0.5 for win in wins),
        losses=sum(win < 0.5 for win in wins),
        first_position=clustered_mean([first for _, first in asked], [name for name, _ in asked]),
        identical=sum(one.identical for one, _ in scored),
        longer=fmean(longer) if longer else None,
        unscored=wilson(missing, len(compared)),
        bounds=(sum(wins) / len(compared), (sum(wins) + missing) / len(compared)),
    )
