"""``cleanse``: a file of preference pairs without those that a judge contradicts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from tsdi.errors import UsageError
from tsdi.files import check_output, to_lines, working_on, write_bytes
from tsdi.judging.base import JudgeOptions
from tsdi.judging.registry import ARGUMENTS, check_judge, load_judge
from tsdi.judging.verdict import Verdict, most_often
from tsdi.runs.stage import Progress
from tsdi.suites.prompts import Row, read_rows
from tsdi.training.cleansing import (
    THRESHOLD,
    Cleansing,
    are_cleansed,
    check_scored,
    cleanse_pairs,
    to_row,
)
from tsdi.training.data import Pair, rename, to_pairs
from tsdi.training.pair_safety import score_pairs, verdicts_beside

FIELDS = ("prompt", "chosen", "rejected", "category", "chosen_safety", "rejected_safety")
"""What a row of pairs can say, under these names or others."""


@dataclass(frozen=True)
class Criterion:
    """The criterion by which a judge's probabilities drop pairs.

    Attributes:
        threshold: The least probability of being safe that a chosen answer must have, 0 to 1.
        rejected: Also drop pairs whose rejected answer is safe with more than 1 - threshold.
    """

    threshold: float = THRESHOLD
    rejected: bool = False


@dataclass(frozen=True)
class Cleansed:
    """The result of cleansing a file of pairs.

    Attributes:
        cleansing: The decision on each pair.
        unusable: Rows that were left out before: an empty text, or two equal answers.
        notes: Sentences on the limits of the figures.
    """

    cleansing: Cleansing
    unusable: int
    notes: list[str]

    def to_dict(self) -> dict[str, Any]:
        """Counts, thresholds and notes as JSON; no texts of pairs."""
        return {**self.cleansing.to_dict(), "unusable": self.unusable, "notes": self.notes}


def cleanse(
    pairs: str | Path,
    out: str | Path,
    criterion: Criterion = Criterion(),
    *,
    columns: Mapping[str, str] | None = None,
    judge: str | None = None,
    judge_options: JudgeOptions = JudgeOptions(),
    resume: bool = False,
    progress: Progress | None = None,
) -> Cleansed:
    """Drop the pairs of a file whose chosen answer is unsafe in a judge's eyes.

    Pairs without a score are neither kept nor dropped, but counted.

    Args:
        pairs: The file: rows with prompt, chosen and rejected, or those of PKU-SafeRLHF.
        out: The file for the pairs that are kept, .jsonl; a judge's verdicts stay beside it.
        criterion: Criterion by which pairs are dropped.
        columns: The file's columns by field, of fields that are called otherwise than in `FIELDS`.
        judge: Name of a judge that gives probabilities; None takes the scores in the file.
        judge_options: Options of opening the judge.
        resume: Go on with a judge's verdicts, of a killed run or one with another criterion.
        progress: Called with the verdicts there are, and the answers.

    Raises:
        UsageError: If a place, a name or an option cannot be, or no pair would be kept.
        PromptError: If the file cannot be read, or lacks scores.
        RunExistsError: If another process works there, or there are verdicts already, and either
            `resume` is off or they are another judge's or of other answers.
        TsdiError: If the judge cannot be loaded, or a file cannot be written.
    """
    pairs, out = Path(pairs), Path(out)
    if out.suffix != ".jsonl":
        raise UsageError(f"--out is {out}.", "Name a file that ends in .jsonl.")
    check_output(out, "--out", "a file of cleansed pairs", are_cleansed, [pairs])
    with working_on(out):
        rows = _read(pairs, columns or {})
        if judge is None:
            _check_no_judging(judge_options, resume)
            check_scored(rows, criterion.rejected)
        usable = _usable(rows, pairs)
        unusable, notes = len(rows) - len(usable), []
        if unusable:
            notes.append(f"{unusable} rows with an empty text or two equal answers are left out.")
        if judge is not None:
            usable, said = _score(judge, judge_options, usable, out, resume, progress)
            notes += said
        found = cleanse_pairs(usable, criterion.threshold, criterion.rejected)
        write_bytes(out, to_lines(map(to_row, found.kept)))
    return Cleansed(found, unusable, notes)


def _usable(rows: Sequence[Row], file: Path) -> list[Pair]:
    usable = to_pairs(rows, "safe", drop_unusable=True)
    if not usable:
        raise UsageError(f"{file} holds no pair of two different answers.", "Name another file.")
    return usable


def _read(path: Path, columns: Mapping[str, str]) -> list[Row]:
    if unknown := [field for field in columns if field not in FIELDS]:
        raise UsageError(f"There is no field {unknown[0]!r}.", f"Fields: {', '.join(FIELDS)}.")
    return rename(read_rows(path), dict(columns))


def _check_no_judging(options: JudgeOptions, resume: bool) -> None:
    """Refuse options of a judge where the file's own scores are used."""
    given = [f.name for f in fields(options) if getattr(options, f.name) != f.default]
    for name in [*given, *(["resume"] if resume else [])]:
        option = "--judge-arg" if name in ARGUMENTS else "--" + name.replace("_", "-")
        raise UsageError(f"{option} needs --judge.", f"Leave {option} out.")


def _score(
    name: str,
    options: JudgeOptions,
    pairs: Sequence[Pair],
    out: Path,
    resume: bool,
    progress: Progress | None,
) -> tuple[list[Pair], list[str]]:
    """Pairs with a judge's scores, and notes on these."""
    if len(check_judge(name, options)) > 1:
        raise UsageError(f"{name!r} names two judges.", "Prompts of pairs have no kind: name one.")
    if not resume:
        verdicts_beside(out).check_unused(out.parent)
    judge = load_judge(name, options)
    scored = score_pairs(judge, pairs, out, resume=resume, progress=progress)
    notes = []
    if not judge.sees_safety:
        notes.append(
            f"{judge.name} sees refusals, not safety: its probability of a refusal stands for that"
            " of being safe, which is too low for safe answers that do not refuse."
        )
    if unscored := [one for one in scored.judgements if one.verdict is Verdict.UNSCORED]:
        notes.append(f"{len(unscored)} answers are unscored. {most_often(unscored)}")
    return scored.pairs, notes
