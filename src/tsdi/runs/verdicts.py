"""Judgements as records on disk."""

from tsdi.judging.verdict import Judgement, Verdict
from tsdi.runs.records import Record


def to_record(name: str, judgement: Judgement) -> Record:
    """A judgement as a record; what it does not say is left out."""
    record: Record = {
        "id": name,
        "verdict": judgement.verdict.value,
        "correct": judgement.correct,
    }
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
        or not isinstance(probability, float | int | None)
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
