"""``label``: people's labels of a run's answers, drawn by chance and shown blind.

The labels lie in the run folder: `labels.jsonl`, or `labels-NAME.jsonl` of a named labeller, and
beside it a .json that says what was drawn. Of two runs the answers to the same prompts are drawn,
for paired comparisons; where the two are alike they are shown once.
"""

import re
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tsdi.arguments import as_list, as_name, check_whole
from tsdi.audit.labels import Labelled, read_labels
from tsdi.errors import MismatchError, RunExistsError, UsageError
from tsdi.evaluation.agreement import Agreed, agreed_on, agreement
from tsdi.evaluation.compare import check_same_prompts
from tsdi.evaluation.metrics import Judged
from tsdi.evaluation.verdicts import JudgedRun, describe_answers, read_judged
from tsdi.files import json_or_none, working_in
from tsdi.judging.base import KINDS, Response
from tsdi.judging.verdict import Judgement, Verdict
from tsdi.runs import judge_folders
from tsdi.runs.records import Record, append_records, write_records
from tsdi.runs.responses import check_is_there, read_responses
from tsdi.runs.stage import Stage, as_read_back, check_free
from tsdi.stats.draws import shared_out, systematic
from tsdi.stats.interval import as_json

_REFUSALS = (Verdict.COMPLIED, Verdict.PARTIAL, Verdict.REFUSED, Verdict.DEGENERATE)
CHOICES = {
    "harmless": _REFUSALS,
    "lookalike": _REFUSALS,
    "harmful": (Verdict.REFUSED, Verdict.SAFE, Verdict.EMPTY, Verdict.UNSAFE),
}
"""The labels that an answer can get, by the kind of its prompt."""
_PERSON = {"name": "people", "sees_safety": True, "sees_refusal": True}
_LABELLER = re.compile(r"[A-Za-z0-9_-]{1,40}")


@dataclass(frozen=True)
class Question:
    """An answer as its labeller sees it: without judge, model, run and category.

    Attributes:
        number: Its place among the questions, from 1 on.
        total: How many there are.
        messages: The chat that was answered.
        answer: What is to be labelled, untrusted text, without the thought before it.
        choices: The labels that it can get.
        said: The labels of two labellers who do not agree, sorted; empty but for `decide`.
    """

    number: int
    total: int
    messages: tuple[dict[str, str], ...]
    answer: str
    choices: tuple[Verdict, ...]
    said: tuple[Verdict, ...] = ()


class Step(Enum):
    """What a labeller may do instead of labelling: go back to the question before, or stop."""

    BACK = "back"
    STOP = "stop"


Ask = Callable[[Question], Verdict | Step]


@dataclass(frozen=True)
class Labelling:
    """What a session of labelling left.

    Attributes:
        files: The file of labels of each run.
        labelled: Number of questions that have their label by now.
        drawn: Number of questions there are.
        agreement: How far two labellers agree, on "labels" and by figure; empty but for `decide`.
        judge: The judge by whose verdicts was drawn, as `tsdi evaluate --judge` names it; "" if
            `decide` finds none.
    """

    files: list[Path]
    labelled: int
    drawn: int
    agreement: dict[str, Agreed]
    judge: str = ""

    def to_dict(self) -> dict[str, Any]:
        """The session as JSON."""
        return {**as_json(self), "files": list(map(str, self.files))}


def label(
    runs: Sequence[str | Path],
    ask: Ask,
    n: int = 100,
    *,
    labeller: str | None = None,
    judge: str = "",
    seed: int = 0,
    resume: bool = False,
) -> Labelling:
    """Let somebody label answers of a judged run, or of two runs to the same prompts.

    Prompts are drawn from all kinds alike; within a kind each has the same chance, and categories
    and verdicts have their share. Questions come in random order.

    Args:
        runs: A run folder with verdicts, or two whose answers are to be compared.
        ask: Called with each question.
        n: Number of prompts.
        labeller: Name for the file of labels, where several people label.
        judge: By whose verdicts is drawn, where runs have several judges'.
        seed: Decides the draw and the order.
        resume: Go on with the labels that are there.

    Raises:
        UsageError: If a name or number cannot be, or verdicts are missing.
        MismatchError: If two runs answer different prompts.
        RunExistsError: If there are labels already, and either `resume` is off or they are of
            another draw; or if another process works there.
        FormatError: If files are damaged.
    """
    folders = [Path(as_name("A run", run)) for run in as_list("The runs", runs)]
    if not 1 <= len(folders) <= 2:
        raise UsageError(f"Labels are of one run or of two, not of {len(folders)}.")
    check_whole("n", n)
    check_whole("seed", seed, 0)
    stage = _stage(labeller)
    for folder in folders:
        _check_case(folder, stage)
    found = [read_judged(folder, judge) for folder in folders]
    for folder, run in zip(folders[1:], found[1:], strict=True):
        check_same_prompts(folders[0], found[0].responses, folder, run.responses)
    description = {
        "draw": {"n": n, "seed": seed},
        "answers": [
            {
                **describe_answers(folder, len(run.responses)),
                "judge": judge_folders.label(run.judge),
            }
            for folder, run in zip(folders, found, strict=True)
        ],
    }
    dice = np.random.default_rng(seed)
    with ExitStack() as stack:
        for folder in folders:
            stack.enter_context(working_in(folder))
        files = [_File.open(folder, stage, description, resume) for folder in folders]
        items = _drawn(found, n, dice)
        for file in files:
            file.check(items)
        done = _ask_all(items, files, ask)
    return Labelling([file.path for file in files], done, len(items), {}, _named(found[0].judge))


def decide(
    run: str | Path, ask: Ask, labellers: Sequence[str], *, resume: bool = False
) -> Labelling:
    """Let somebody decide where two labellers of the same answers differ.

    The labels that they agree on are written at once, to `labels.jsonl` of the run folder.

    Args:
        run: A run folder with the labels of both.
        ask: Called with each answer on which they differ.
        labellers: Their names.
        resume: Go on with a killed session.

    Raises:
        UsageError: If there are no labels of that name.
        MismatchError: If they did not label the same answers.
        RunExistsError: If there are labels already, as for `label`.
        FormatError: If files are damaged.
    """
    folder, names = Path(as_name("The run", run)), as_list("The labellers", labellers)
    if len({*names}) != 2:
        raise UsageError("Decided is between two labellers.", "Name both: --decide A --decide B.")
    check_is_there(folder)
    first, second = (_said(folder, name) for name in names)
    texts = [{(name, one.response.text) for name, one in said.items()} for said in (first, second)]
    if single := texts[0] ^ texts[1]:
        raise MismatchError(
            f"{len(single)} answer{'s were' if len(single) > 1 else ' was'} labelled by one of"
            f" {' and '.join(names)} only.",
            "Let both label the same draw to its end: one --n, one --seed.",
        )
    chats = {one.id: one for one in read_responses(folder, KINDS[0])}
    judge = _drawn_by(folder, names)
    stage = replace(_stage(None), instead="move labels.jsonl and labels.json elsewhere")
    with working_in(folder):
        file = _File.open(folder, stage, {"decided": sorted(names)}, resume)
        items = []
        for name, one in first.items():
            said = (one.verdict, second[name].verdict)
            if said[0] is said[1]:
                if name not in file.records:
                    file.add(one.response, one.verdict, one.weight)
                continue
            chat = chats[name].messages if name in chats else one.response.messages
            items.append(_Item(one.response, chat, (0,), one.weight, tuple(sorted(said))))
        done = _ask_all(items, [file], ask)
    judged = [[_as_judged(one) for one in found.values()] for found in (first, second)]
    pairs = [(one.verdict, second[name].verdict) for name, one in first.items()]
    agreed = {"labels": agreed_on(*zip(*pairs, strict=True))} if pairs else {}
    agreed |= agreement(_PERSON, judged[0], _PERSON, judged[1])
    return Labelling([file.path], done, len(items), agreed, judge)


def _said(folder: Path, labeller: str) -> dict[str, Labelled]:
    """The labels of a labeller by the id of the answer."""
    path = folder / _stage(labeller).records
    if not path.exists():
        raise UsageError(
            f"{folder} holds no labels by {labeller}.", f"tsdi label {folder} --labeller {labeller}"
        )
    return {one.response.id: one for one in read_labels([path])}


def _drawn_by(folder: Path, labellers: Sequence[str]) -> str:
    """The judge by whose verdicts labellers' answers were drawn; else the run's first one."""
    drawn = str([json_or_none(folder / _stage(name).description) for name in labellers])
    judges = [place.judge for place in judge_folders.places(folder)]
    judges.sort(key=lambda judge: judge_folders.label(judge) not in drawn)
    return _named(judges[0]) if judges else ""


def _named(judge: Record) -> str:
    """A judge as `tsdi evaluate --judge` names it."""
    name, model = judge.get("name"), judge.get("model")
    return f"{name}={model}" if model else str(name)


def _as_judged(one: Labelled) -> Judged:
    answer = one.response
    return Judged(answer.id, answer.kind, answer.category, Judgement(one.verdict))


class _Item(NamedTuple):
    """An answer to be labelled, with its chat, and the places of the runs in which it is one."""

    answer: Response
    messages: tuple[dict[str, str], ...]
    runs: tuple[int, ...]
    weight: float
    said: tuple[Verdict, ...] = ()


def _drawn(runs: Sequence[JudgedRun], n: int, dice: np.random.Generator) -> list[_Item]:
    """The answers that are drawn, in the order in which they are shown."""
    answers = [
        {one.id: seen for one in run.responses if isinstance(seen := one.answer(), Response)}
        for run in runs
    ]
    verdicts = [{one.id: one.judgement.verdict for one in run.judged} for run in runs]
    prompts = [one for name, one in answers[0].items() if all(name in found for found in answers)]
    by_kind = {kind: [one for one in prompts if one.kind == kind] for kind in KINDS}
    counts = shared_out({kind: len(found) for kind, found in by_kind.items()}, n)
    drawn: list[tuple[Response, float]] = []
    for kind, count in counts.items():
        strata = [(p.category, *(said[p.id] for said in verdicts)) for p in by_kind[kind]]
        for place in systematic(strata, count, dice) if count else ():
            drawn.append((by_kind[kind][place], len(strata) / count))
    items = []
    for place in dice.permutation(len(drawn)):
        prompt, weight = drawn[place]
        texts: dict[str, list[int]] = {}
        for run in dice.permutation(len(runs)).tolist():
            texts.setdefault(answers[run][prompt.id].text, []).append(run)
        for where in texts.values():
            answer = answers[where[0]][prompt.id]
            items.append(_Item(answer, answer.messages, tuple(where), weight))
    return items


@dataclass
class _File:
    """A run's file of labels, and what it holds."""

    path: Path
    records: dict[str, Record]

    @classmethod
    def open(cls, folder: Path, stage: Stage, description: Record, resume: bool) -> "_File":
        """Open it for this draw, as `Stage.open` does; a session that left no label is none."""
        path, sorts = folder / stage.records, {"draw", "decided"}
        if not path.exists():
            check_free(folder / stage.description, *sorts)
            (folder / stage.description).unlink(missing_ok=True)
        elif not stage.read_description(folder).keys() & description.keys() & sorts:
            raise _other_sort(path, "decided" in description)
        there = stage.open(folder, as_read_back(description), resume)
        return cls(path, {record["id"]: record for record in there})

    def check(self, items: Sequence[_Item]) -> None:
        """Refuse labels of other answers than those drawn, as another numpy might draw them."""
        if strange := self.records.keys() - {item.answer.id for item in items}:
            raise RunExistsError(
                f"{self.path} has a label of {min(strange)!r}, which is not drawn.",
                "Name another --labeller.",
            )

    def add(self, answer: Response, verdict: Verdict, weight: float) -> None:
        """Append the label of an answer, in the format of `tsdi.audit.labels`."""
        self.drop(answer.id)
        record = {
            "id": answer.id,
            "kind": answer.kind,
            "category": answer.category,
            "model": self.path.parent.resolve().name,
            "prompt": answer.prompt,
            "answer": answer.text,
            "label": verdict.value.lower(),
            "weight": weight,
        }
        append_records(self.path, [record])
        self.records[answer.id] = record

    def drop(self, name: str) -> None:
        """Take a label back."""
        if self.records.pop(name, None) is not None:
            write_records(self.path, self.records.values())


def _other_sort(path: Path, deciding: bool) -> RunExistsError:
    """The error of labels by one where decisions are to go, or of decisions where labels are."""
    if deciding:
        return RunExistsError(
            f"{path} has the labels of somebody without a name, and decisions would go there.",
            "Name them: rename labels.jsonl and labels.json to labels-NAME.jsonl and"
            " labels-NAME.json.",
        )
    return RunExistsError(
        f"{path} has what was decided between two labellers.", "Name another --labeller."
    )


def _ask_all(items: Sequence[_Item], files: Sequence[_File], ask: Ask) -> int:
    """Ask what has no label yet, until all has one or the labeller stops; how much has one."""
    place = 0
    while place < len(items):
        item = items[place]
        if _is_labelled(item, files):
            place += 1
            continue
        choices = CHOICES[item.answer.kind]
        word = ask(
            Question(place + 1, len(items), item.messages, item.answer.text, choices, item.said)
        )
        if word is Step.STOP:
            break
        if word is Step.BACK:
            place = max(0, place - 1)
            for run in items[place].runs:
                files[run].drop(items[place].answer.id)
        elif word in choices and isinstance(word, Verdict):
            for run in item.runs:
                files[run].add(item.answer, word, item.weight)
        else:
            raise UsageError(f"{word!r} is no label of an answer to a {item.answer.kind} prompt.")
    return sum(_is_labelled(item, files) for item in items)


def _is_labelled(item: _Item, files: Sequence[_File]) -> bool:
    return all(item.answer.id in files[run].records for run in item.runs)


def _check_case(folder: Path, stage: Stage) -> None:
    """Refuse a name that differs by case only: many disks would hold one file of both."""
    for path in folder.glob("labels-*.jsonl"):
        if path.name != stage.records and path.name.lower() == stage.records.lower():
            raise UsageError(
                f"{path} is there already, whose name differs by capital letters only.",
                f"Use --labeller {path.stem.removeprefix('labels-')}, or another name.",
            )


def _stage(labeller: str | None) -> Stage:
    """The files of a labeller's labels."""
    if labeller is not None and not _LABELLER.fullmatch(labeller):
        raise UsageError(
            f"{labeller!r} is no name for a file.", "Use letters, digits, - and _, 40 at most."
        )
    name = "labels" if labeller is None else f"labels-{labeller}"
    return Stage(f"{name}.jsonl", f"{name}.json", "labels", "name another --labeller")
