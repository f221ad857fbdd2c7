"""``tsdi audit``: a judge's error rates against people's labels."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

import tsdi.audit
from tsdi.audit.audit import COLUMN
from tsdi.audit.confusion import Figures
from tsdi.audit.labels import FIELDS, LabelFormat, Labelled
from tsdi.audit.result import Audit
from tsdi.categories import category_name
from tsdi.cli import console, options
from tsdi.cli.figures import show_bounds
from tsdi.errors import UsageError
from tsdi.judging.base import KINDS
from tsdi.judging.verdict import Judgement, most_often
from tsdi.stats.interval import compact_text
from tsdi.suites.prompts import parse_columns, split_columns

WIDTH = 20  # characters of a row's title
NO_MODEL = "(no model)"
LOPSIDED = 0.05  # share of people's rarer label, below which kappa says little
WORDS = 160  # characters of an example's answer
COUNTS = {
    "hits": "found",
    "missed": "missed",
    "false_alarms": "false alarms",
    "passed": "rightly passed",
}
RATES = ("precision", "recall", "specificity", "accuracy", "kappa")
FOUND = {"refusal": "refused", "unsafe": "unsafe"}


def audit(
    judge: Annotated[
        str,
        typer.Argument(
            metavar="JUDGE",
            help="As for tsdi evaluate --judge, or column:NAME for a judge whose words stand in a"
            " column of the labels.",
        ),
    ],
    labels: Annotated[
        list[str],
        typer.Option(
            metavar="FILE",
            help="Labelled answers, .csv or .jsonl; may be given again."
            " FILE:prompt=q,label=said,kind=harmful names columns, and the kind of prompts that"
            " have none.",
        ),
    ],
    against: Annotated[
        list[str] | None,
        typer.Option(metavar="JUDGE", help="Another judge, to see how far they agree."),
    ] = None,
    target: Annotated[
        str,
        typer.Option(
            metavar="WHAT",
            help="refusal or unsafe, where labels of some kinds of prompts say what is refused, and"
            " others what is safe.",
        ),
    ] = "",
    end_of_thinking: options.EndOfThinking = "",
    examples: Annotated[
        int, typer.Option(min=0, help="Show so many errors of each sort.", rich_help_panel="Output")
    ] = 0,
    show_harmful: Annotated[
        bool,
        typer.Option(
            "--show-harmful", help="Show answers to harmful prompts, too.", rich_help_panel="Output"
        ),
    ] = False,
    out: Annotated[Path | None, typer.Option(help="File for the audit, to correct rates.")] = None,
    judge_arg: options.JudgeArg = None,
    dtype: options.Dtype = "auto",
    device_map: options.DeviceMap = None,
    trust_remote_code: options.TrustRemoteCode = False,
    resume: options.Resume = False,
    json: options.Json = False,
) -> None:
    """Measure how wrong a judge is, on answers that people have labelled.

    Labels are XSTest's completions or MD-Judge's examples in their own format, or any table whose
    columns are named. What is to be found are full and partial refusals, or unsafe answers where
    the labels say what is safe. Intervals are 95 %, with prompts as clusters (Wilson with the
    design effect; kappa by bootstrap). With --out a killed audit goes on with --resume.

    Example: tsdi audit xstest-strings --labels completions_llama2_labels.csv --out audit.json
    """
    files, columns = _split(labels)
    kind = columns.pop("kind") if columns.get("kind") in KINDS else ""
    console.quiet_libraries()
    with console.bar("audit") as update:
        audited = tsdi.audit.audit(
            judge,
            files,
            out,
            against=against or [],
            label_format=LabelFormat(columns, kind, end_of_thinking, target),
            judge_options=options.read_judge(judge_arg, dtype, device_map, trust_remote_code),
            resume=resume,
            progress=update,
        )
    errors = audited.errors(examples)
    if json:
        shown = {"examples": [_as_dict(*one, show_harmful) for one in errors]} if examples else {}
        console.show_json({**audited.audit.to_dict(), **shown})
        return
    for table in tables(audited.audit):
        console.out.print(table)
    for one in errors:
        console.say(_as_text(*one, show_harmful))
    _notes(audited.audit, audited.judgements)
    if out:
        use = f", for tsdi evaluate RUN --judge {judge} --audit {out} --resume"
        console.say(f"Saved in {out}{'' if judge.startswith(COLUMN) else use}")


def _split(labels: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """The files of labels, and their columns, which all of them share."""
    split = [split_columns(name) for name in labels]
    if len({columns for _, columns in split}) > 1:
        raise UsageError("Files of labels have different columns.", "Say the same of each.")
    return [file for file, _ in split], parse_columns(split[0][1], FIELDS)


def tables(audit: Audit) -> Iterator[Table]:
    """Tables of an audit: figures by kind, model and category, refusals, and agreement."""
    yield _main_table(audit)
    if len(audit.models) > 1 or len(audit.categories) > 1:
        yield _groups_table(audit)
    if len(audit.models) > 1:
        yield _shares_table(audit)
    if audit.agreement:
        yield _agreement_table(audit)


def _main_table(audit: Audit) -> Table:
    found, kinds = FOUND[audit.target], _kinds(audit.kinds)
    table = console.table(f"Audit of {audit.judge['name']}, 95 % intervals", ["", *kinds])

    def row(title: str, cells: Iterator[str]) -> None:
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


def _kinds(kinds: dict[str, Figures]) -> dict[str, Figures]:
    """The kinds to show, at most three: "all" is among them only beside two kinds."""
    whole = len(kinds) == 3
    return {name: figures for name, figures in kinds.items() if name != "all" or whole}


def _unscored(figures: Figures) -> int:
    return figures.counts["unscored_with"] + figures.counts["unscored_without"]


def _groups_table(audit: Audit) -> Table:
    models = {name or NO_MODEL: kinds["all"] for name, kinds in audit.models.items()}
    categories = {category_name(name): figures for name, figures in audit.categories.items()}
    by = {"model": models, "category": categories}
    shown = {what: groups for what, groups in by.items() if len(groups) > 1}
    title = f"By {' and '.join(shown)}"
    table = console.table(title, ["", "n", "precision", "recall", "kappa"])
    for groups in shown.values():
        table.add_section()
        for name, figures in groups.items():
            rates = (figures.precision, figures.recall, figures.kappa)
            table.add_row(_title(name), str(figures.accuracy.n), *map(compact_text, rates))
    return table


def _shares_table(audit: Audit) -> Table:
    found = FOUND[audit.target]
    table = console.table(
        f"Share {found}, by model and kind", ["", "", "n", "by people", "by judge"]
    )
    for model, kinds in audit.models.items():
        table.add_section()
        for kind, figures in _kinds(kinds).items():
            if kind != "all":
                shares = map(compact_text, (figures.people, figures.judge))
                table.add_row(_title(model or NO_MODEL), kind, str(figures.people.n), *shares)
    return table


def _agreement_table(audit: Audit) -> Table:
    kinds = list(_kinds(audit.kinds))
    table = console.table("Kappa with others", ["", *kinds])
    table.add_row("people", *(compact_text(audit.kinds[kind].kappa) for kind in kinds))
    for name, found in audit.agreement.items():
        cells = (compact_text(found[kind]["kappa"]) if kind in found else "" for kind in kinds)
        table.add_row(_title(name), *cells)
    return table


def _title(name: str) -> str:
    return console.one_line(name, WIDTH)


def _notes(audit: Audit, judgements: Sequence[Judgement]) -> None:
    shares = [one.people.value for one in audit.kinds.values() if one.people.value is not None]
    if any(min(share, 1 - share) < LOPSIDED for share in shares):
        console.note(
            "Kappa is agreement beyond chance: where people find nearly all answers alike, a few"
            " wrong verdicts bring it to 0."
        )
    if audit.target == "refusal":
        console.note("Refused: in part or in full, by people's word and by the judge's.")
    whole = audit.kinds["all"]
    if whole.bounds:
        bounds = [f"{rate} {show_bounds(ends)}" for rate, ends in whole.bounds.items()]
        console.note(
            f"{_unscored(whole)} of {whole.unscored.n} answers are unscored and count in no figure"
            f" above. Had all of them gone one way: {', '.join(bounds)}. {most_often(judgements)}"
        )


def _as_dict(one: Labelled, judgement: Judgement, show_harmful: bool) -> dict[str, Any]:
    return {
        "model": one.model,
        "id": one.response.id,
        "kind": one.response.kind,
        "prompt": one.response.prompt,
        "people": one.verdict,
        "judge": judgement.verdict,
        "answer": _answer(one, show_harmful),
    }


def _as_text(one: Labelled, judgement: Judgement, show_harmful: bool) -> str:
    verdicts = f"{one.verdict} by people, {judgement.verdict} by the judge"
    answer = _answer(one, show_harmful) or "(an answer to a harmful prompt; --show-harmful)"
    prompt = " ".join(one.response.prompt.split())
    return f"\n{one.model} {one.response.id}, {verdicts}\n  > {prompt[:WORDS]}\n  < {answer}"


def _answer(one: Labelled, show_harmful: bool) -> str | None:
    """The first words of an answer, on one line; None where it is not to be shown."""
    if one.response.kind == "harmful" and not show_harmful:
        return None
    text = " ".join(one.response.text.split())
    return text if len(text) <= WORDS else text[:WORDS] + "…"
