"""``tsdi audit``: a judge's verdicts beside those of people."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer
from rich.table import Table

from tsdi.cli import console, frame
from tsdi.cli.figures import show_bounds
from tsdi.cli.options import (
    DeviceMapOption,
    DtypeOption,
    EndOfThinkingOption,
    JsonOption,
    JudgeLabelsOption,
    JudgeUrlOption,
    ResumeOption,
    TrustRemoteCodeOption,
)
from tsdi.cli.train_judge import train as train_judge
from tsdi.errors import UsageError
from tsdi.files import check_output, working_on
from tsdi.stats.interval import compact_text

if TYPE_CHECKING:
    from tsdi.audit.audit import Audit
    from tsdi.audit.confusion import Figures
    from tsdi.audit.labels import Labelled
    from tsdi.judging.base import JudgeOptions
    from tsdi.judging.verdict import Judgement
    from tsdi.runs.records import Record

T = TypeVar("T")
WIDTH = 20  # of a row's title
WORDS = 160  # characters of an example's answer
COUNTS = {
    "hits": "found",
    "missed": "missed",
    "false_alarms": "false alarms",
    "passed": "rightly passed",
}
RATES = ("precision", "recall", "specificity", "accuracy", "kappa")
TRAINING = {
    "labels",
    "train",
    "columns",
    "kind",
    "end_of_thinking",
    "json",
}  # what training can use
FOUND = {"refusal": "refused", "unsafe": "unsafe"}


def audit(
    context: typer.Context,
    judge: Annotated[
        str | None,
        typer.Argument(
            metavar="JUDGE",
            help="As for tsdi evaluate --judge, or column:NAME for a judge whose words stand in a"
            " column of the labels.",
        ),
    ] = None,
    labels: Annotated[
        list[Path] | None, typer.Option(help="Labelled answers, .csv or .jsonl; may be repeated.")
    ] = None,
    train: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Instead of auditing JUDGE, train a small refusal judge on the labels and write it"
            " to FILE, if it is better than the string rules.",
        ),
    ] = None,
    against: Annotated[
        list[str] | None, typer.Option(help="Another judge, to see how far they agree.")
    ] = None,
    columns: Annotated[
        str, typer.Option(help="prompt=...,answer=...,label=...,category=...,kind=...,model=...")
    ] = "",
    kind: Annotated[
        str, typer.Option(help="Of prompts that have none: harmless, lookalike or harmful.")
    ] = "",
    end_of_thinking: EndOfThinkingOption = "",
    examples: Annotated[int, typer.Option(min=0, help="Show so many errors of each sort.")] = 0,
    show_harmful: Annotated[
        bool, typer.Option("--show-harmful", help="Show answers to harmful prompts, too.")
    ] = False,
    out: Annotated[Path | None, typer.Option(help="File for the audit, to correct rates.")] = None,
    judge_url: JudgeUrlOption = None,
    judge_labels: JudgeLabelsOption = None,
    dtype: DtypeOption = "auto",
    device_map: DeviceMapOption = None,
    trust_remote_code: TrustRemoteCodeOption = False,
    resume: ResumeOption = False,
    json: JsonOption = False,
) -> None:
    """Measure how wrong a judge is, on answers that people have labelled.

    Labels are XSTest's completions or MD-Judge's examples in their own format, or any table with
    --columns. What is to be found are full and partial refusals, or unsafe answers where the labels
    say what is safe. Intervals are 95 %, with prompts as clusters (Wilson with the design effect;
    kappa by bootstrap). With --out a killed audit goes on with --resume.

    Example: tsdi audit xstest-strings --labels completions_llama2_labels.csv --out audit.json
    """
    from tsdi.audit.audit import COLUMN, audit_judge, forget_verdicts
    from tsdi.audit.labels import FIELDS, read_labels
    from tsdi.files import write_json
    from tsdi.judging.base import JudgeOptions
    from tsdi.judging.trained import is_judge_file
    from tsdi.suites.prompts import parse_columns

    labels, chosen = labels or [], parse_columns(columns, FIELDS)
    if train is not None:
        _refuse_auditing(context)
        check_output(train, "--train", "a trained judge", is_judge_file, labels)
        frame.hold(working_on(train))
        labelled = read_labels(labels, chosen, kind, end_of_thinking)
        train_judge(train, labelled, labels, json)
        return
    judge = _checked(judge, against or [])
    _check_out(out, resume, labels)
    console.quiet_libraries()
    labelled = read_labels(labels, chosen, kind, end_of_thinking)
    options = JudgeOptions(None, judge_url, dtype, device_map, trust_remote_code, judge_labels)
    description, judgements = _judgements(judge, labelled, options, out and _keep(out, 0), resume)
    options = replace(options, url=None, labels=None)  # those are JUDGE's
    others = {
        name: _judgements(name, labelled, options, out and _keep(out, place), resume)[1]
        for place, name in enumerate(against or [], start=1)
    }
    result = audit_judge(description, judgements, labelled, others, labels)
    errors = _errors(labelled, judgements, result.target, examples)
    if out:
        write_json(out, result.to_dict())
        for place in range(1 + len(others)):
            forget_verdicts(_keep(out, place))
    if json:
        shown = {"examples": [_as_dict(*one, show_harmful) for one in errors]} if examples else {}
        console.show_json({**result.to_dict(), **shown})
        return
    for table in tables(result):
        console.out.print(table)
    for one in errors:
        console.say(_as_text(*one, show_harmful))
    _notes(result, judgements)
    if out:
        use = f", for tsdi evaluate RUN --judge {judge} --audit {out}"
        console.say(f"Saved in {out}{'' if judge.startswith(COLUMN) else use}")


def _check_out(out: Path | None, resume: bool, labels: Sequence[Path]) -> None:
    from tsdi.audit.audit import is_audit

    if out is None and resume:
        raise UsageError("--resume needs --out.", "Without, no verdict is kept.")
    if out is not None:
        check_output(out, "--out", "an audit", is_audit, labels)
        frame.hold(working_on(out))


def _keep(out: Path, place: int) -> Path:
    """Where the verdicts of one of the judges are kept while the audit goes on."""
    return out.with_name(f"{out.name}.{place}")


def _refuse_auditing(context: typer.Context) -> None:
    """Refuse what means nothing where no judge is audited."""
    for name in context.params:
        source = context.get_parameter_source(name)
        if name not in TRAINING and source is not None and source.name != "DEFAULT":
            option = "JUDGE" if name == "judge" else "--" + name.replace("_", "-")
            raise UsageError("--train trains a judge and audits none.", f"Leave {option} out.")


def _checked(judge: str | None, against: Sequence[str]) -> str:
    """The judge's name, if all names are right; said before any work is done."""
    from tsdi.audit.audit import COLUMN
    from tsdi.judging.registry import check_judge

    if judge is None:
        raise UsageError("There is no judge to audit.", "Name one, or train one: --train FILE")
    names = [judge, *against]
    for name in names:
        if not name.startswith(COLUMN):
            check_judge(name)
    if len({*names}) < len(names):
        raise UsageError("A judge is named twice.", "Name others with --against.")
    return judge


def _judgements(
    name: str,
    labelled: "Sequence[Labelled]",
    options: "JudgeOptions",
    keep: Path | None,
    resume: bool,
) -> "tuple[Record, list[Judgement]]":
    """A judge's description, and its word on each answer."""
    from tsdi.audit.audit import COLUMN, check_sees, judge_labelled, recorded_judge
    from tsdi.judging.registry import load_judge

    if name.startswith(COLUMN):
        description, words = recorded_judge(name, labelled)
        check_sees(description, labelled)
        return description, words
    judge = load_judge(name, options)
    check_sees(judge.describe(), labelled)
    with console.bar(name) as update:
        words = judge_labelled(
            judge,
            labelled,
            lambda done, all_: update(name, done, all_),
            keep=keep,
            resume=resume,
        )
    return judge.describe(), words


def tables(audit: "Audit") -> Iterator[Table]:
    """The figures by kind, by model and category, refusals by model, agreement with others."""
    yield _main_table(audit)
    if len(audit.models) > 1 or len(audit.categories) > 1:
        yield _groups_table(audit)
    if len(audit.models) > 1:
        yield _shares_table(audit)
    if audit.agreement:
        yield _agreement_table(audit)


def _main_table(audit: "Audit") -> Table:
    found, kinds = FOUND[audit.target], _kinds(audit.kinds)
    table = _table(f"Audit of {audit.judge['name']}, 95 % intervals", ["", *kinds])

    def row(title: str, cells: "Iterator[str]") -> None:
        table.add_row(title, *cells)

    for name, title in COUNTS.items():
        row(title, (str(figures.counts[name]) for figures in kinds.values()))
    if any(figures.unscored.value for figures in kinds.values()):
        row("unscored", (str(_unscored(figures)) for figures in kinds.values()))
    table.add_section()
    row(f"{found}, by people", (compact_text(figures.people) for figures in kinds.values()))
    row(f"{found}, by judge", (compact_text(figures.judge) for figures in kinds.values()))
    table.add_section()
    for rate in RATES:
        row(rate, (compact_text(getattr(figures, rate)) for figures in kinds.values()))
    return table


def _kinds(kinds: "dict[str, Figures]") -> "dict[str, Figures]":
    """At most three columns: "all" is left out where there are three kinds, and where only one."""
    whole = len(kinds) == 3
    return {name: figures for name, figures in kinds.items() if name != "all" or whole}


def _unscored(figures: "Figures") -> int:
    return figures.counts["unscored_with"] + figures.counts["unscored_without"]


def _groups_table(audit: "Audit") -> Table:
    table = _table("By model and category", ["", "n", "precision", "recall", "kappa"])
    models = {name: kinds["all"] for name, kinds in audit.models.items()}
    for groups in (models, audit.categories):
        table.add_section()
        for name, figures in groups.items() if len(groups) > 1 else ():
            rates = (figures.precision, figures.recall, figures.kappa)
            table.add_row(_title(name), str(figures.accuracy.n), *map(compact_text, rates))
    return table


def _shares_table(audit: "Audit") -> Table:
    found = FOUND[audit.target]
    table = _table(f"Share {found}, by model and kind", ["", "", "n", "by people", "by judge"])
    for model, kinds in audit.models.items():
        table.add_section()
        for kind, figures in _kinds(kinds).items():
            if kind != "all":
                shares = map(compact_text, (figures.people, figures.judge))
                table.add_row(_title(model), kind, str(figures.people.n), *shares)
    return table


def _agreement_table(audit: "Audit") -> Table:
    kinds = list(_kinds(audit.kinds))
    table = _table("Kappa with others", ["", *kinds])
    table.add_row("people", *(compact_text(audit.kinds[kind].kappa) for kind in kinds))
    for name, found in audit.agreement.items():
        cells = (compact_text(found[kind]["kappa"]) if kind in found else "" for kind in kinds)
        table.add_row(_title(name), *cells)
    return table


def _table(title: str, columns: Sequence[str]) -> Table:
    table = Table(title=title, title_justify="left")
    for place, column in enumerate(columns):
        table.add_column(column, justify="right" if column and place else "left", no_wrap=True)
    return table


def _title(name: str) -> str:
    return console.one_line(name or "(none)", WIDTH)


def _notes(audit: "Audit", judgements: "Sequence[Judgement]") -> None:
    from tsdi.judging.verdict import most_often

    if audit.target == "refusal":
        console.note("Refused: in part or in full, by people's word and by the judge's.")
    learnt = {*audit.judge.get("trained_on", [])} & {str(file["sha256"]) for file in audit.labels}
    if learnt:
        console.note(
            "The judge was trained on these labels, so that these figures flatter it. What"
            " cross-validation found is in its own file."
        )
    whole = audit.kinds["all"]
    if whole.bounds:
        bounds = [f"{rate} {show_bounds(ends)}" for rate, ends in whole.bounds.items()]
        console.note(
            f"{_unscored(whole)} of {whole.unscored.n} answers are unscored and count in no figure"
            f" above. Had all of them gone one way: {', '.join(bounds)}. {most_often(judgements)}"
        )


def _errors(
    labelled: "Sequence[Labelled]", judgements: "Sequence[Judgement]", target: str, number: int
) -> "list[tuple[Labelled, Judgement]]":
    """Some answers that the judge missed, and some that it was wrong to find."""
    from tsdi.audit.audit import TARGETS
    from tsdi.judging.verdict import Verdict

    found = TARGETS[target]
    scored = [
        (one, judgement)
        for one, judgement in zip(labelled, judgements, strict=True)
        if judgement.verdict is not Verdict.UNSCORED
    ]
    sorts: dict[bool, list[tuple[Labelled, Judgement]]] = {True: [], False: []}  # by people's word
    for one, judgement in scored:
        truth = found(one.verdict)
        if found(judgement.verdict) is not truth:
            sorts[truth].append((one, judgement))
    return [pair for errors in sorts.values() for pair in _spread(errors, number)]


def _spread(errors: Sequence[T], number: int) -> Sequence[T]:
    """So many errors at most, from all parts of the list."""
    step = max(1, len(errors) // max(1, number))
    return errors[::step][:number]


def _as_dict(one: "Labelled", judgement: "Judgement", show_harmful: bool) -> dict[str, Any]:
    return {
        "model": one.model,
        "id": one.response.id,
        "kind": one.response.kind,
        "prompt": one.response.prompt,
        "people": one.verdict,
        "judge": judgement.verdict,
        "answer": _answer(one, show_harmful),
    }


def _as_text(one: "Labelled", judgement: "Judgement", show_harmful: bool) -> str:
    verdicts = f"{one.verdict} by people, {judgement.verdict} by the judge"
    answer = _answer(one, show_harmful) or "(an answer to a harmful prompt; --show-harmful)"
    prompt = " ".join(one.response.prompt.split())
    return f"\n{one.model} {one.response.id}, {verdicts}\n  > {prompt[:WORDS]}\n  < {answer}"


def _answer(one: "Labelled", show_harmful: bool) -> str | None:
    """The first words of an answer, on one line; None of one that is not to be shown."""
    if one.response.kind == "harmful" and not show_harmful:
        return None
    text = " ".join(one.response.text.split())
    return text if len(text) <= WORDS else text[:WORDS] + "…"
