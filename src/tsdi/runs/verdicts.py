"""Judgements as records on disk, and checks that they belong to the answers."""

import hashlib
from collections.abc import Collection, Sequence
from pathlib import Path

from tsdi.errors import FormatError, RunExistsError
from tsdi.files import to_json
from tsdi.judging.verdict import Judgement, Verdict
from tsdi.runs.records import Record
from tsdi.runs.stage import VERDICTS

_MADE_BY = "made_by"


def to_record(name: str, judgement: Judgement) -> Record:
    """A judgement as a record, without empty fields."""
    record: Record = {"id": name, "verdict": judgement.verdict.value, "correct": judgement.correct}
    if judgement.probability is not None:
        record["probability"] = judgement.probability
    if judgement.categories:
        record["categories"] = list(judgement.categories)
    if judgement.verdict is Verdict.UNSCORED:
        record["raw"] = judgement.raw
    return record


def from_record(record: Record) -> Judgement | None:
    """The judgement in a record, which is read like anything that was on disk; None if none is."""
    correct, probability = record.get("correct"), record.get("probability")
    categories = record.get("categories", [])
    if (
        record.get("verdict") not in list(Verdict)
        or not isinstance(correct, bool | None)
        or not _is_share(probability)
        or not (isinstance(categories, list) and all(isinstance(c, str) for c in categories))
    ):
        return None
    return Judgement(
        Verdict(record["verdict"]),
        correct,
        probability,
        tuple(categories),
        str(record.get("raw", "")),
    )


def read_judgement(record: Record, file: Path, remedy: str) -> Judgement:
    """The judgement in a record of a file.

    Raises:
        FormatError: If none is.
    """
    judgement = from_record(record)
    if judgement is None:
        raise FormatError(f"{file}, answer {record['id']!r} is not what tsdi writes.", remedy)
    return judgement


def _is_share(value: object) -> bool:
    if value is None:
        return True
    return isinstance(value, float | int) and not isinstance(value, bool) and 0 <= value <= 1


def made_by(description: Record) -> Record:
    """A record field with a hash of judge.json, by which verdicts belong to it.

    judge.json holds a hash of the answers, so that verdicts that were copied from another run, or
    are of another judge, are told from a run's own.
    """
    return {_MADE_BY: hashlib.sha256(to_json(description)).hexdigest()[:16]}


def check_belong(
    folder: Path, description: Record, records: Sequence[Record], ids: Collection[str]
) -> bool:
    """Check that the verdicts in a run folder are of its answers, and of its judge.

    `description` is the folder's judge.json, `ids` are those of its answers.

    Returns:
        Whether all verdicts say so; those that an earlier tsdi wrote say nothing.

    Raises:
        RunExistsError: If a verdict is of another run's answers, or another judge's.
        FormatError: If a verdict is of no answer.
    """
    known, own = {*ids}, made_by(description)[_MADE_BY]
    for record in records:
        if record.get(_MADE_BY, own) != own:
            raise RunExistsError(
                f"{folder / VERDICTS.records}: the verdict on {record['id']!r} is not of what"
                f" {VERDICTS.description} says, but of other answers or another judge's.",
                f"Delete {VERDICTS.records} and judge the answers again.",
            )
        if record["id"] not in known:
            raise FormatError(
                f"{folder / VERDICTS.records} has a verdict on {record['id']!r}, and the run has"
                " no such answer.",
                f"Delete {VERDICTS.records} and judge the answers again.",
            )
    return all(_MADE_BY in record for record in records)
