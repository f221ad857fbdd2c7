"""Agreement of several judges on the answers of one run, beyond chance."""

import logging
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tsdi.errors import TsdiError
from tsdi.evaluation.metrics import Judged, paired_outcomes
from tsdi.evaluation.verdicts import read_place
from tsdi.judging.panel import refusal_kinds
from tsdi.runs.judge_folders import places
from tsdi.runs.records import Record
from tsdi.stats.clusters import clustered_kappa
from tsdi.stats.interval import Estimate, as_json
from tsdi.stats.proportions import wilson

FIGURES = ("compliance", "lookalike_compliance", "safety")
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Agreed:
    """Agreement of two judges on one figure, over answers that both scored.

    The share that both count alike has Wilson's interval, Cohen's kappa the bootstrap's; kappa has
    no value where both always say one thing.
    """

    same: Estimate
    kappa: Estimate


@dataclass(frozen=True)
class Agreement:
    """Agreement with another judge of the same run.

    The figures are those that both can see.
    """

    other: Record
    figures: dict[str, Agreed]

    def to_dict(self) -> dict[str, Any]:
        """The agreement as JSON."""
        return as_json(self)


def agreements(run: Path, own: Path, judge: Record, judged: Sequence[Judged]) -> list[Agreement]:
    """A judge's agreement with every other judge that has finished judging a run.

    The judge's own verdicts are in the folder `own`.
    """
    found = []
    for place in places(run):
        if place.folder == own:
            continue
        try:
            other = read_place(run, place.folder)
            figures = agreement(judge, judged, other.judge, other.judged)
        except TsdiError as error:  # unfinished, or of other answers: no reason to fail here
            _LOG.warning("No agreement with %s: %s", place.names[0], error.problem)
        else:
            found.append(Agreement(other.judge, figures))
    return found


def agreement(
    judge: Record, judged: Sequence[Judged], other: Record, others: Sequence[Judged]
) -> dict[str, Agreed]:
    """The agreement of two judges on the same answers, by figure.

    Raises:
        MismatchError: If they judged answers to other prompts.
    """
    seen = {*refusal_kinds(judge)} & {*refusal_kinds(other)}
    pairs = {
        figure: paired_outcomes(judged, others, figure, refusals_of=seen) for figure in FIGURES
    }
    return {figure: agreed_on(one, two) for figure, (one, two) in pairs.items() if one}


def agreed_on(first: Sequence[Hashable], second: Sequence[Hashable]) -> Agreed:
    """The agreement of two on the same items, each its own draw."""
    alike = sum(one == other for one, other in zip(first, second, strict=True))
    return Agreed(wilson(alike, len(first)), clustered_kappa(first, second, range(len(first))))
