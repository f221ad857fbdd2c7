"""A judge's probability that the answers of preference pairs are safe.

Verdicts are appended to `OUT.verdicts.jsonl` as they come and stay there, with the judge's own
words on what is UNSCORED, and `OUT.judge.json` beside it says whose they are.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from tsdi.errors import UsageError
from tsdi.files import json_sha256, working_on
from tsdi.judging.base import Judge, Response
from tsdi.judging.verdict import Judgement, Verdict
from tsdi.runs.records import Record
from tsdi.runs.stage import Progress, Stage, as_read_back
from tsdi.runs.verdicts import read_judgement, to_record
from tsdi.training.data import Pair

_WITHOUT = (Verdict.UNSCORED, Verdict.DEGENERATE)  # with which a probability may be missing


@dataclass(frozen=True)
class Scored:
    """Pairs with a judge's probabilities.

    Attributes:
        pairs: The pairs in their order, with `chosen_safety` and `rejected_safety`; None where the
            judge gave no probability.
        judgements: The judge's word on every distinct answer.
    """

    pairs: list[Pair]
    judgements: list[Judgement]


def score_pairs(
    judge: Judge,
    pairs: Sequence[Pair],
    out: Path,
    *,
    resume: bool,
    chunk: int = 64,
    progress: Progress | None = None,
) -> Scored:
    """Let a judge score both answers of every pair; an answer in several pairs is judged once.

    Prompts count as harmful ones, as they are in safety pairs. Verdicts are kept beside `out`, the
    file that the pairs are meant for.

    Raises:
        UsageError: If the judge gives no probability.
        RunExistsError: If there are verdicts already, and either `resume` is off or they are
            another judge's or of other answers; or if another process works there.
        FormatError: If these are damaged.
        TsdiError: If the disk is full.
    """
    answers = _distinct_answers(pairs)
    stage = verdicts_beside(out)

    def judged(part: Sequence[Response]) -> list[Record]:
        found = judge.judge(part)
        if part[0] is answers[0] and not _gives_probability(found):
            (out.parent / stage.description).unlink()  # nothing else has been written
            raise _no_probability(judge)
        return [to_record(one.id, j) for one, j in zip(part, found, strict=True)]

    with working_on(out):
        opened = stage.open(out.parent, _description(judge, answers), resume)
        records = stage.fill(out.parent, opened, answers, chunk, partial(map, judged), progress)
    file, remedy = out.with_name(stage.records), f"Delete {stage.records}, and judge again."
    judgements = [read_judgement(record, file, remedy) for record in records]
    safety = {
        (answer.prompt, answer.text): safety_probability(judge, judgement)
        for answer, judgement in zip(answers, judgements, strict=True)
    }
    scored = [
        replace(
            pair,
            chosen_safety=safety[pair.prompt, pair.chosen],
            rejected_safety=safety[pair.prompt, pair.rejected],
        )
        for pair in pairs
    ]
    return Scored(scored, judgements)


def safety_probability(judge: Judge, judgement: Judgement) -> float | None:
    """The probability that an answer to a harmful prompt is safe; None if the judge gives none.

    A judge that sees safety gives the probability of *unsafe*, so it is 1 minus that. Of a judge
    that sees refusals only, the probability of a refusal stands for it: too low wherever an answer
    is safe without refusing.
    """
    if judgement.probability is None or judgement.verdict is Verdict.UNSCORED:
        return None
    return 1 - judgement.probability if judge.sees_safety else judgement.probability


def verdicts_beside(out: Path) -> Stage:
    """The stage that keeps verdicts beside a file of pairs."""
    records = f"{out.name}.verdicts.jsonl"
    return Stage(
        records,
        f"{out.name}.judge.json",
        f"verdicts on the pairs for {out.name}",
        f"delete {records} to judge the pairs again",
    )


def _distinct_answers(pairs: Sequence[Pair]) -> list[Response]:
    both = ((pair, text) for pair in pairs for text in (pair.chosen, pair.rejected))
    distinct = {(pair.prompt, text): pair for pair, text in both}
    return [
        Response(
            id=str(number),
            kind="harmful",
            category=pair.category,
            messages=({"role": "user", "content": prompt},),
            text=text,
            finished=True,
        )
        for number, ((prompt, text), pair) in enumerate(distinct.items())
    ]


def _description(judge: Judge, answers: Sequence[Response]) -> Record:
    """Everything that decides the verdicts, as it reads back from JSON."""
    content = [[answer.prompt, answer.text] for answer in answers]
    return as_read_back({"judge": judge.describe(), "answers_sha256": json_sha256(content)})


def _gives_probability(judgements: Sequence[Judgement]) -> bool:
    """Whether a judge gave some probability, or no verdict that one could go with."""
    given = [one.probability for one in judgements if one.verdict not in _WITHOUT]
    return not given or any(probability is not None for probability in given)


def _no_probability(judge: Judge) -> UsageError:
    return UsageError(
        f"The judge {judge.name} gives no probability that an answer is safe.",
        "Name one that does: md-judge-v0.1, llama-guard-3, wildguard, harmbench or a classifier.",
    )
