"""Judged runs read from disk: answers with one judge's verdicts."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeGuard

from tsdi.errors import FormatError, RunExistsError, UsageError
from tsdi.evaluation.metrics import Judged
from tsdi.judging.base import KINDS, Response
from tsdi.judging.panel import judge_of
from tsdi.runs.judge_folders import find_place
from tsdi.runs.records import Record, read_records
from tsdi.runs.responses import answers_sha256, check_is_there, read_responses
from tsdi.runs.stage import VERDICTS
from tsdi.runs.verdicts import check_belong, read_judgement

_LOG = logging.getLogger(__name__)
_REMEDY = f"Delete {VERDICTS.records} and judge the answers again."


class JudgedRun(NamedTuple):
    """A run folder that a judge has finished judging.

    Attributes:
        judge: The judge's description.
        responses: The answers.
        judged: Those answers with their verdicts.
        bound: Whether the verdicts name the answers that they judge; an earlier tsdi's don't.
    """

    judge: Record
    responses: list[Response]
    judged: list[Judged]
    bound: bool


def say_unbound(folder: Path) -> None:
    """Log that nothing ties a folder's verdicts to its answers."""
    _LOG.warning(
        "The verdicts in %s do not say which answers they judge: an earlier tsdi did not keep it.",
        folder,
    )


def read_judged(folder: Path, judge: str = "") -> JudgedRun:
    """Read answers and verdicts of a folder that was judged to its end.

    `judge` names one of several judges (`tsdi.runs.judge_folders.find_place`).

    Raises:
        UsageError: If answers or verdicts are missing, or several judges have judged.
        RunExistsError: If the answers changed after they were judged, or the verdicts are of
            others.
        FormatError: If the folder's files are damaged.
    """
    check_is_there(folder)
    return read_place(folder, find_place(folder, judge))


def read_place(folder: Path, place: Path) -> JudgedRun:
    """Read answers, and one judge's verdicts from its folder."""
    description = VERDICTS.read_description(place)
    judge, of = description.get("judge"), description.get("responses")
    kind, end = description.get("kind", ""), description.get("end_of_thinking", "")
    texts = isinstance(kind, str) and isinstance(end, str)
    if not (_is_judge(judge) and texts and isinstance(of, dict)):
        raise FormatError(f"{place / VERDICTS.description} is not what tsdi writes.", _REMEDY)
    responses = read_responses(folder, kind, end)
    if of != describe_answers(folder, len(responses)):
        raise RunExistsError(
            f"The answers in {folder} changed after they were judged.",
            f"Delete {VERDICTS.records} and judge them again.",
        )
    records = {record["id"]: record for record in read_records(place / VERDICTS.records)}
    bound = check_belong(place, description, [*records.values()], [r.id for r in responses])
    missing = sum(response.id not in records for response in responses)
    if missing:
        raise UsageError(
            f"{place} lacks {missing} of {len(responses)} verdicts.",
            f"Go on: tsdi evaluate {folder} --resume",
        )
    judged = with_verdicts(place, responses, [records[r.id] for r in responses])
    return JudgedRun(judge, responses, judged, bound)


def describe_answers(folder: Path, count: int) -> Record:
    """Number and hash of the judged answers, for judge.json."""
    return {"count": count, "sha256": answers_sha256(folder)}


def with_verdicts(
    place: Path, responses: Sequence[Response], records: Sequence[Record]
) -> list[Judged]:
    """Answers joined with their verdicts from the records of a file.

    Raises:
        FormatError: If a record is no verdict.
    """
    file = place / VERDICTS.records
    return [
        Judged(one.id, one.kind, one.category, read_judgement(record, file, _REMEDY))
        for one, record in zip(responses, records, strict=True)
    ]


def _is_judge(judge: Any) -> TypeGuard[Record]:
    return isinstance(judge, dict) and all(
        isinstance(part.get("name"), str)
        and isinstance(part.get("sees_safety"), bool)
        and isinstance(part.get("sees_refusal"), bool)
        for part in (judge, *(judge_of(judge, kind) for kind in KINDS))
    )
