"""``audit``: a judge's error rates against people's labels, and agreement with other judges."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TypeVar

from tsdi.arguments import as_list
from tsdi.audit.confusion import Figures, Seen, measure
from tsdi.audit.labels import (
    LabelFormat,
    Labelled,
    check_agree,
    parse_label,
    read_labels,
    safety_kinds,
)
from tsdi.audit.result import TARGETS, Audit, is_audit
from tsdi.categories import by_code
from tsdi.errors import MismatchError, PromptError, UsageError
from tsdi.files import check_output, file_sha256, json_sha256, working_on, write_json
from tsdi.judging.base import KINDS, Judge, JudgeOptions, Response
from tsdi.judging.panel import judge_of, refusal_kinds
from tsdi.judging.registry import check_judge, load_judge, without
from tsdi.judging.verdict import OF_SAFETY, Judgement, Verdict, unscored
from tsdi.runs.records import Record
from tsdi.runs.stage import Progress, Stage, StageProgress, as_read_back, named
from tsdi.runs.verdicts import read_judgement, to_record
from tsdi.stats.interval import Estimate

COLUMN = "column:"
T = TypeVar("T")


@dataclass(frozen=True)
class Audited:
    """An audit with the labelled answers and the judgements behind it.

    Attributes:
        audit: The figures.
        labelled: The answers with people's labels.
        judgements: The judgement of each answer.
    """

    audit: Audit
    labelled: list[Labelled]
    judgements: list[Judgement]

    def errors(self, number: int) -> list[tuple[Labelled, Judgement]]:
        """Examples of errors: up to `number` missed answers, and as many false alarms."""
        found = TARGETS[self.audit.target]
        sorts: dict[bool, list[tuple[Labelled, Judgement]]] = {True: [], False: []}
        for one, judgement in zip(self.labelled, self.judgements, strict=True):
            truth, said = found(one.verdict), _said(judgement, found)
            if said is not None and said is not truth:
                sorts[truth].append((one, judgement))
        return [pair for errors in sorts.values() for pair in _spread(errors, number)]


def _spread(errors: Sequence[T], number: int) -> Sequence[T]:
    """At most `number` errors, spread over the whole list."""
    step = max(1, len(errors) // max(1, number))
    return errors[::step][:number]


def audit(
    judge: str,
    labels: Sequence[str | Path],
    out: str | Path | None = None,
    *,
    against: Sequence[str] = (),
    label_format: LabelFormat = LabelFormat(),
    judge_options: JudgeOptions = JudgeOptions(),
    resume: bool = False,
    progress: StageProgress | None = None,
) -> Audited:
    """Measure a judge's error rates on answers that people have labelled.

    Args:
        judge: Spec as for `tsdi.judging.registry.load_judge`; or "column:NAME" for verdicts in a
            column of the labels.
        labels: Files of labelled answers.
        out: File for the audit, to correct rates; beside it verdicts are kept while it goes on.
        against: Other judges, to see how far they agree.
        label_format: Columns and defaults of the files.
        judge_options: Options of opening the judges; what not all take is for `judge` alone.
        resume: Go on with the verdicts of a killed audit.
        progress: Called with a judge's name, the answers it has judged, and all of them.

    Raises:
        UsageError: If a name, a place or an option cannot be.
        PromptError: If the labels cannot be used.
        MismatchError: If a judge does not see what the labels are about, or two labels of one
            answer differ.
        RunExistsError: If another process works there, or there are other verdicts.
        TsdiError: If a judge cannot be loaded, or the file cannot be written.
    """
    files = [Path(label) for label in as_list("labels", labels)]
    against = as_list("against", against)
    _check_names(judge, against, judge_options)
    if out is None and resume:
        raise UsageError("--resume needs --out.", "Without, no verdict is kept.")
    if out is not None:
        out = Path(out)
        check_output(out, "--out", "an audit", is_audit, files)
    with working_on(out) if out else nullcontext():
        labelled = read_labels(files, label_format)
        check_agree(labelled)
        names, words = [judge, *against], []
        keeps = [out and out.with_name(f"{out.name}.{place}") for place in range(len(names))]
        for name, keep in zip(names, keeps, strict=True):
            words.append(_judgements(name, labelled, judge_options, keep, resume, progress))
            judge_options = without(judge_options)
        others = {name: said for name, (_, said) in zip(against, words[1:], strict=True)}
        found = audit_judge(*words[0], labelled, others, files)
        if out:
            write_json(out, found.to_dict())
            for keep in filter(None, keeps):
                forget_verdicts(keep)
    return Audited(found, labelled, words[0][1])


def _check_names(judge: str, against: Sequence[str], judge_options: JudgeOptions) -> None:
    """Refuse unknown judges and options before any work is done."""
    names = [judge, *against]
    for name in names:
        if not name.startswith(COLUMN):
            check_judge(name, judge_options if name == judge else JudgeOptions())
    if len({*names}) < len(names):
        raise UsageError("A judge is named twice.", "Name others with --against.")


def _judgements(
    name: str,
    labelled: Sequence[Labelled],
    options: JudgeOptions,
    keep: Path | None,
    resume: bool,
    progress: StageProgress | None,
) -> tuple[Record, list[Judgement]]:
    """A judge's description, and its judgement of each answer."""
    if name.startswith(COLUMN):
        description, words = recorded_judge(name, labelled)
        check_sees(description, labelled)
        return description, words
    judge = load_judge(name, options)
    check_sees(judge.describe(), labelled)
    told = named(progress, name)
    return judge.describe(), judge_labelled(judge, labelled, told, keep=keep, resume=resume)


def target_of(labelled: Sequence[Labelled]) -> str:
    """The target of the labels: unsafe answers or refusals, one of `TARGETS`.

    Raises:
        PromptError: If some say what is safe, and others what is refused.
    """
    kinds = safety_kinds(labelled)
    of_safety = [one for one in labelled if one.response.kind in kinds]
    known = (*OF_SAFETY, Verdict.REFUSED)
    if 0 < len(of_safety) < len(labelled) or any(one.verdict not in known for one in of_safety):
        raise PromptError(
            "Some labels say what is safe, others what is refused.",
            "Audit them one by one: --target refusal, --target unsafe.",
        )
    return "unsafe" if of_safety else "refusal"


def judge_labelled(
    judge: Judge,
    labelled: Sequence[Labelled],
    progress: Progress | None = None,
    chunk: int = 64,
    keep: Path | None = None,
    resume: bool = False,
) -> list[Judgement]:
    """A judge's judgements of labelled answers.

    Where `keep` names a file, the verdicts are kept beside it until `forget_verdicts`, so that a
    killed audit goes on.

    Raises:
        RunExistsError: If verdicts are kept there already, and either `resume` is off or they are
            another judge's or of other answers; or if another process works there.
        FormatError: If these are damaged.
        TsdiError: If the disk is full.
    """
    if keep is None:
        said: list[Judgement] = []
        for start in range(0, len(labelled), chunk):
            said += judge.judge([one.response for one in labelled[start : start + chunk]])
            if progress:
                progress(len(said), len(labelled))
        return said

    def judged(part: Sequence[Response]) -> list[Record]:
        return [to_record(r.id, j) for r, j in zip(part, judge.judge(part), strict=True)]

    # Several models' answers share ids.
    answers = [replace(one.response, id=str(n)) for n, one in enumerate(labelled)]
    stage = _stage(keep)
    content = [
        [one.model, one.response.messages, one.response.text, one.response.end_of_thinking]
        for one in labelled
    ]
    description = {"judge": judge.describe(), "answers_sha256": json_sha256(content)}
    with working_on(keep):
        done = stage.open(keep.parent, as_read_back(description), resume)
        records = stage.fill(keep.parent, done, answers, chunk, partial(map, judged), progress)
    file = keep.with_name(stage.records)
    return [read_judgement(one, file, "Delete it, and audit again.") for one in records]


def _stage(keep: Path) -> Stage:
    return Stage(
        f"{keep.name}.verdicts.jsonl",
        f"{keep.name}.judge.json",
        f"verdicts of an audit into {keep.name}",
        f"delete {keep.name}.verdicts.jsonl",
    )


def forget_verdicts(keep: Path) -> None:
    """Remove the verdicts that `judge_labelled` kept, when the audit is written."""
    stage = _stage(keep)
    for name in (stage.records, stage.description):
        (keep.parent / name).unlink(missing_ok=True)


def recorded_judge(name: str, labelled: Sequence[Labelled]) -> tuple[Record, list[Judgement]]:
    """The description and judgements of a judge recorded in a column of the labels.

    Returns:
        Its description, and one judgement per answer; a cell that is no label is UNSCORED, its
        text kept.

    Raises:
        PromptError: If a file lacks the column, or it holds no label at all.
    """
    column = name.removeprefix(COLUMN)
    for one in labelled:
        if column not in one.recorded:
            raise PromptError(
                f"The labels of {one.model!r} have no column {column!r}.",
                f"There are {', '.join(one.recorded) or 'no others'}.",
            )
    cells = [one.recorded[column] for one in labelled]
    verdicts = [parse_label(cell) for cell in cells]
    known = {verdict for verdict in verdicts if verdict}
    if not known:
        raise PromptError(f"The column {column!r} holds no label, but {cells[0][:40]!r}.")
    safety = known <= {*OF_SAFETY}
    description = {"name": name, "sees_safety": safety, "sees_refusal": not safety}
    return description, [
        Judgement(verdict) if verdict else unscored(cell)
        for verdict, cell in zip(verdicts, cells, strict=True)
    ]


def check_sees(judge: Record, labelled: Sequence[Labelled]) -> None:
    """Raise MismatchError if a judge cannot see the target of the labels."""
    target = target_of(labelled)
    if target == "unsafe" and not judge["sees_safety"]:
        raise MismatchError(
            f"The labels say what is safe; {judge['name']} sees refusals, not safety.",
            "Audit it with labels of refusals.",
        )
    blind = {one.response.kind for one in labelled} - {*refusal_kinds(judge)}
    if target == "refusal" and blind:
        part = judge_of(judge, min(blind))["name"]
        raise MismatchError(
            f"The labels say what is refused; {part} sees what is unsafe, not refusals.",
            "Audit it with labels of safety.",
        )


def audit_judge(
    judge: Record,
    judgements: Sequence[Judgement],
    labelled: Sequence[Labelled],
    others: Mapping[str, Sequence[Judgement]] | None = None,
    paths: Sequence[str | Path] = (),
) -> Audit:
    """Compute the audit of a judge from its judgements and people's labels.

    Other judges' words, by name, show how far they agree with it; paths are those of the label
    files, for the provenance.

    Raises:
        PromptError: If the labels are of two sorts.
        MismatchError: If the judge does not see what the labels are about.
    """
    check_sees(judge, labelled)
    target = target_of(labelled)
    found = TARGETS[target]
    seen = [
        (one, Seen(found(one.verdict), _said(judgement, found), one.response.prompt))
        for one, judgement in zip(labelled, judgements, strict=True)
    ]
    models = sorted({one.model for one in labelled})
    return Audit(
        judge=judge,
        target=target,
        labels=[_provenance(Path(path)) for path in paths],
        kinds=_by_kind(seen),
        models={model: _by_kind([s for s in seen if s[0].model == model]) for model in models},
        categories={
            category: measure([s for one, s in seen if one.response.category == category])
            for category in by_code({one.response.category for one in labelled})
        },
        agreement={
            name: _agreement(labelled, judgements, words, found)
            for name, words in (others or {}).items()
        },
    )


def _by_kind(seen: Sequence[tuple[Labelled, Seen]]) -> dict[str, Figures]:
    """Figures over all answers, and by kind of prompt."""
    groups = {"all": [s for _, s in seen]}
    for kind in KINDS:
        groups[kind] = [s for one, s in seen if one.response.kind == kind]
    return {name: measure(group) for name, group in groups.items() if group}


def _agreement(
    labelled: Sequence[Labelled],
    first: Sequence[Judgement],
    second: Sequence[Judgement],
    found: Callable[[Verdict], bool],
) -> dict[str, dict[str, Estimate]]:
    """Agreement and kappa of two judges, by kind, on answers that both scored."""
    seen = [
        (one, Seen(truth, said, one.response.prompt))
        for one, a, b in zip(labelled, first, second, strict=True)
        if (truth := _said(a, found)) is not None and (said := _said(b, found)) is not None
    ]
    return {
        kind: {"share": figures.accuracy, "kappa": figures.kappa}
        for kind, figures in _by_kind(seen).items()
    }


def _said(judgement: Judgement, found: Callable[[Verdict], bool]) -> bool | None:
    return None if judgement.verdict is Verdict.UNSCORED else found(judgement.verdict)


def _provenance(path: Path) -> Record:
    return {"name": path.name, "sha256": file_sha256(path)}
