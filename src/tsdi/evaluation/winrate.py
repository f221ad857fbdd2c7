"""``winrate``: win rate of a run over a base, by a pairwise judge; resumable after a kill.

In the folder of the comparison `preferences.json` says what makes the preferences,
`preferences.jsonl` has two records a prompt, one for each order ("ID/1": the base's answer first,
"ID/2": the run's), with the run's win (`preference`, 0..1; null and `raw` where it is UNSCORED),
and `winrate.json` the figures.
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tsdi.engines.openai import ChatClient
from tsdi.errors import FormatError, TsdiError, UsageError
from tsdi.evaluation.compare import Change, check_same_prompts, compare_runs
from tsdi.evaluation.metrics import HARMLESS
from tsdi.evaluation.preferences import Compared, WinFigures, win_figures
from tsdi.files import working_in, write_json
from tsdi.judging.base import Response
from tsdi.judging.pairwise import Pair, PairwiseJudge, Preference
from tsdi.runs.records import Record
from tsdi.runs.responses import answers_sha256, read_responses
from tsdi.runs.stage import VERDICTS, Progress, Stage, as_read_back, check_free

WINRATE = "winrate.json"
CHUNK = 64  # comparisons made together
PREFERENCES = Stage("preferences.jsonl", "preferences.json", "preferences", "use another --out")
Answers = tuple[Response, Response]  # the base's and the run's, to one prompt


@dataclass(frozen=True)
class WinRate:
    """The win rates of a run against a base, with their provenance.

    Attributes:
        judge: The judge's description.
        figures: The figures, over harmless prompts and lookalikes.
        prompts: Number of prompts that were compared.
        left_out: Number of harmful prompts, which were not compared.
        safety: Change of safety from the base to the run, where one judge judged both.
        safety_judge: That judge's description; empty without.
        notes: Sentences on the limits of the figures.
        compared: `preferences.json`: judge, hashes of the answers, versions.
    """

    judge: Record
    figures: WinFigures
    prompts: int
    left_out: int
    safety: Change | None
    safety_judge: Record
    notes: list[str]
    compared: Record

    def to_dict(self) -> dict[str, Any]:
        """The content of winrate.json."""
        safety = self.safety and {"judge": self.safety_judge, **self.safety.to_dict()}
        return {
            "judge": self.judge,
            "prompts": self.prompts,
            "left_out": self.left_out,
            "figures": self.figures.to_dict(),
            "safety": safety,
            "notes": self.notes,
            "provenance": self.compared,
        }


def winrate(
    base: str | Path,
    run: str | Path,
    out: str | Path,
    judge: str | PairwiseJudge,
    *,
    kind: str = "",
    end_of_thinking: str = "",
    resume: bool = False,
    progress: Progress | None = None,
) -> WinRate:
    """Compare two runs' answers to harmless prompts by a pairwise judge, in both orders.

    Answers to harmful prompts are not compared: there, helping more is no merit.

    Args:
        base: The run folder of the base, such as the aligned model's.
        run: The run folder of what is measured, such as the debiased model's.
        out: The folder of the comparison, made if need be.
        judge: Model behind the API at OPENAI_BASE_URL, by name; or a pairwise judge.
        kind: The kind of prompts that have none: "harmless", "lookalike" or "harmful".
        end_of_thinking: Marker that ends thoughts, beside the known ones.
        resume: Go on with the preferences in the folder, or start if there are none.
        progress: Called after each chunk with the number of comparisons made and of all.

    Returns:
        The figures, which are in winrate.json too.

    Raises:
        UsageError: If there are no answers, or none to compare.
        PromptError: If a prompt has no kind.
        MismatchError: If the runs do not answer the same prompts.
        RunExistsError: If there are preferences already, and either `resume` is off or they are
            another judge's or of other answers; or if another process works there.
        ModelError: If the judge cannot go on.
        FormatError: If files are damaged.
        TsdiError: If the disk is full.
    """
    base, run, out = Path(base), Path(run), Path(out)
    if not judge or not (isinstance(judge, str) or hasattr(judge, "prefer")):
        raise UsageError(f"The judge is {judge!r}.", "Name a model of the API, such as gpt-4o.")
    with working_in(out):
        if not resume:
            PREFERENCES.check_unused(out)
        if isinstance(judge, str):
            judge = PairwiseJudge(ChatClient(judge))
        answers, left_out = _answers(base, run, kind, end_of_thinking)
        description = _describe(judge, base, run, kind, end_of_thinking)
        records = _preferences(judge, answers, description, out, resume, progress)
        compared = [
            _compared(both, *(_read(out, record) for record in two))
            for both, two in zip(
                answers, zip(records[::2], records[1::2], strict=True), strict=True
            )
        ]
        safety, safety_judge = _safety(base, run)
        result = WinRate(
            judge=description["judge"],
            figures=win_figures(compared),
            prompts=len(answers),
            left_out=left_out,
            safety=safety,
            safety_judge=safety_judge,
            notes=_notes(left_out, safety, records),
            compared=description,
        )
        write_json(out / WINRATE, result.to_dict())
    return result


def _preferences(
    judge: PairwiseJudge,
    answers: Sequence[Answers],
    description: Record,
    out: Path,
    resume: bool,
    progress: Progress | None,
) -> list[Record]:
    """Records of preferences, two a prompt for both orders; existing ones are kept."""
    check_free(out / WINRATE, "figures")
    done = PREFERENCES.open(out, description, resume)
    if not done:
        (out / WINRATE).unlink(missing_ok=True)  # of preferences that are gone
    pairs = [pair for both in answers for pair in _orders(both)]
    missing = {base.id: base.missing or run.missing for base, run in answers}

    def compare(part: Sequence[Pair]) -> list[Record]:
        return _compare(judge, part, missing)

    return PREFERENCES.fill(out, done, pairs, CHUNK, partial(map, compare), progress)


def _answers(base: Path, run: Path, kind: str, end: str) -> tuple[list[Answers], int]:
    """Both runs' answers to each compared prompt, and the number of prompts left out."""
    firsts, seconds = read_responses(base, kind, end), read_responses(run, kind, end)
    check_same_prompts(base, firsts, run, seconds)
    by_id = {response.id: response for response in seconds}
    answers = [
        (_answer(first, "base"), _answer(by_id[first.id], "run"))
        for first in firsts
        if first.kind in HARMLESS
    ]
    if not answers:
        raise UsageError(
            f"{run} answers harmful prompts only, and these are not compared.",
            "Answer harmless ones with both, or see tsdi compare.",
        )
    return answers, len(firsts) - len(answers)


def _answer(response: Response, whose: str) -> Response:
    """A response without its thoughts, or with the reason why it is missing."""
    answer = response.answer()
    if isinstance(answer, Response):
        return answer
    return replace(response, text="", missing=f"Of the {whose}: {answer.raw}")


def _orders(both: Answers) -> tuple[Pair, Pair]:
    """The two pairs of a prompt: the base's answer first, and the run's answer first."""
    base, run = both
    return (
        Pair(f"{base.id}/1", base.messages, base.text, run.text),
        Pair(f"{base.id}/2", base.messages, run.text, base.text),
    )


def _compare(
    judge: PairwiseJudge, pairs: Sequence[Pair], missing: Mapping[str, str]
) -> list[Record]:
    """One record a pair; the judge is asked only where both answers exist and differ."""
    reasons = [missing.get(pair.id.rpartition("/")[0], "") for pair in pairs]
    asked = [
        pair
        for pair, reason in zip(pairs, reasons, strict=True)
        if not reason and pair.first != pair.second
    ]
    preferences = iter(judge.prefer(asked))
    records: list[Record] = []
    for pair, reason in zip(pairs, reasons, strict=True):
        if reason:
            records.append({"id": pair.id, "preference": None, "raw": reason})
        elif pair.first == pair.second:
            records.append({"id": pair.id, "preference": 0.5, "identical": True})
        else:
            records.append(_record(pair, next(preferences)))
    return records


def _record(pair: Pair, preference: Preference) -> Record:
    if preference.second is None:
        return {"id": pair.id, "preference": None, "raw": preference.raw}
    run_is_second = pair.id.endswith("/1")
    return {"id": pair.id, "preference": abs(preference.second - (not run_is_second))}


def _read(out: Path, record: Record) -> float | None:
    """The run's win in a record, checked as untrusted."""
    win = record.get("preference")
    if win is None and isinstance(record.get("raw"), str):
        return None
    if isinstance(win, bool) or not isinstance(win, int | float) or not 0 <= win <= 1:
        raise FormatError(
            f"{out / PREFERENCES.records}, comparison {record['id']!r} is not what tsdi writes.",
            "Restore the file, or compare again with another --out.",
        )
    return float(win)


def _compared(both: Answers, second: float | None, first: float | None) -> Compared:
    base, run = both
    return Compared(
        prompt=json.dumps(base.messages),
        second=second,
        first=first,
        longer=len(run.text) - len(base.text),
        identical=base.text == run.text,
    )


def _describe(judge: PairwiseJudge, base: Path, run: Path, kind: str, end: str) -> Record:
    """The content of preferences.json, as JSON reads it back."""
    description = {
        "judge": judge.describe(),
        "base": {"sha256": answers_sha256(base)},
        "run": {"sha256": answers_sha256(run)},
        "versions": {"tsdi": version("tsdi")},
        **({"kind": kind} if kind else {}),
        **({"end_of_thinking": end} if end else {}),
    }
    return as_read_back(description)


def _safety(base: Path, run: Path) -> tuple[Change | None, Record]:
    """The change in safety and its judge; (None, {}) without verdicts of one judge on both."""
    if not all((folder / VERDICTS.records).exists() for folder in (base, run)):
        return None, {}
    try:
        comparison = compare_runs(base, run)
    except TsdiError:
        return None, {}
    change = comparison.overall["safety"]
    return (change, comparison.judge) if change.change.n else (None, {})


def _notes(left_out: int, safety: Change | None, records: Sequence[Record]) -> list[str]:
    """Sentences on the limits of the win rate."""
    notes = []
    if left_out:
        notes.append(f"{left_out} harmful prompts are not compared: helping there is no merit.")
    if safety is None:
        notes.append(
            "These figures say nothing of safety. Let one judge judge both runs on harmful prompts"
            " too (tsdi evaluate), then compare them (tsdi compare)."
        )
    reasons = [str(record["raw"]) for record in records if record["preference"] is None]
    if reasons:
        counted = Counter(" ".join(reason.split())[:100] for reason in reasons)
        (reason, times), *_ = counted.most_common(1)
        notes.append(
            f"{len(reasons)} of {len(records)} comparisons are unscored; their prompts count in the"
            f" bounds only. Most often ({times}): {reason or '(no words)'}"
        )
    return notes
