"""``tsdi cleanse``: preference pairs without those that a judge contradicts."""

import json as json_format
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from tsdi.cli import console, frame
from tsdi.cli.figures import share
from tsdi.cli.options import (
    DeviceMapOption,
    DtypeOption,
    JsonOption,
    JudgeLabelsOption,
    ResumeOption,
    TrustRemoteCodeOption,
)
from tsdi.errors import UsageError
from tsdi.files import check_output, working_on

if TYPE_CHECKING:
    from tsdi.judging.base import JudgeOptions
    from tsdi.suites.prompts import Row
    from tsdi.training.cleansing import Cleansing, Count
    from tsdi.training.data import Pair

WIDTH = 26  # of a category's name
FIELDS = ("prompt", "chosen", "rejected", "category", "chosen_safety", "rejected_safety")
JUDGING = ("judge_labels", "dtype", "device_map", "trust_remote_code", "resume")


def cleanse(
    context: typer.Context,
    pairs: Annotated[
        Path,
        typer.Argument(
            metavar="PAIRS",
            help="Pairs: rows with prompt, chosen and rejected, or those of PKU-SafeRLHF; .jsonl,"
            " .json or .csv, also with .gz.",
        ),
    ],
    out: Annotated[Path, typer.Option(metavar="FILE.jsonl", help="File for the pairs kept.")],
    threshold: Annotated[
        float,
        typer.Option(min=0.0, max=1.0, help="Least probability that the chosen answer is safe."),
    ] = 0.25,
    rejected: Annotated[
        bool,
        typer.Option(
            "--rejected",
            help="Also drop pairs whose rejected answer is safe with more than 1 - threshold.",
        ),
    ] = False,
    columns: Annotated[
        str,
        typer.Option(
            metavar="FIELD=COLUMN,...",
            help="Where prompt, chosen, rejected, category, chosen_safety and rejected_safety are,"
            " if they have other names.",
        ),
    ] = "",
    judge: Annotated[
        str | None,
        typer.Option(
            metavar="NAME[=MODEL]",
            help="A judge that gives probabilities, such as md-judge-v0.1 (see tsdi judges)."
            " Default: the scores in PAIRS.",
        ),
    ] = None,
    judge_labels: JudgeLabelsOption = None,
    dtype: DtypeOption = "auto",
    device_map: DeviceMapOption = None,
    trust_remote_code: TrustRemoteCodeOption = False,
    plot: Annotated[
        Path | None, typer.Option(metavar="FILE.html", help="Figure of probabilities and counts.")
    ] = None,
    resume: ResumeOption = False,
    json: JsonOption = False,
) -> None:
    """Drop preference pairs whose chosen answer is unsafe in a judge's eyes.

    chosen_safety and rejected_safety are probabilities that an answer is SAFE. Pairs without a
    score are neither kept nor dropped, but counted. With --judge the verdicts stay beside FILE; a
    killed run, or one with another threshold, goes on from them with --resume.

    Example: tsdi cleanse pairs.jsonl --judge md-judge-v0.1 --out cleaned.jsonl --plot f3.html
    """
    from tsdi.judging.base import JudgeOptions
    from tsdi.training.cleansing import check_scored
    from tsdi.training.cleansing import cleanse as cleanse_pairs
    from tsdi.training.data import to_pairs

    _check_places(pairs, out, plot)
    frame.hold(working_on(out))
    rows = _read(pairs, columns)
    if judge is None:
        _refuse_judging(context)
        check_scored(rows, rejected)
    usable = to_pairs(rows, "safe", drop_unusable=True)
    if not usable:
        raise UsageError(f"{pairs} holds no pair of two different answers.", "Name another file.")
    notes = _left_out(len(rows) - len(usable))
    if judge is not None:
        options = JudgeOptions(None, None, dtype, device_map, trust_remote_code, judge_labels)
        usable, said = _score(judge, options, usable, out, resume)
        notes += said
    found = cleanse_pairs(usable, threshold, rejected)
    _write(out, found.kept)
    if plot is not None:
        _draw(plot, found, {"Pairs": pairs.name, "Scores": judge or f"of {pairs.name}"})
    if json:
        console.show_json(
            {"pairs": str(pairs), "out": str(out), "judge": judge, **found.to_dict()}
            | {"unusable": len(rows) - len(usable), "notes": notes}
        )
        return
    console.out.print(categories_table(found))
    for note in notes:
        console.note(note)
    console.say(_summary(found, out))


def _check_places(pairs: Path, out: Path, plot: Path | None) -> None:
    """Refuse, before any work is done, places where the results could not be."""
    from tsdi.report.page import is_report
    from tsdi.training.cleansing import are_cleansed

    for option, path, kind, what, ours in (
        ("--out", out, ".jsonl", "a file of cleansed pairs", are_cleansed),
        ("--plot", plot, ".html", "a report of tsdi's", is_report),
    ):
        if path is None:
            continue
        if path.suffix != kind:
            raise UsageError(f"{option} is {path}.", f"Name a file that ends in {kind}.")
        check_output(path, option, what, ours, [pairs])


def _read(path: Path, columns: str) -> "list[Row]":
    from tsdi.suites.prompts import parse_columns, read_rows
    from tsdi.training.data import rename

    return rename(read_rows(path), parse_columns(columns, FIELDS))


def _refuse_judging(context: typer.Context) -> None:
    """Refuse options that mean nothing where nobody judges."""
    for name in JUDGING:
        source = context.get_parameter_source(name)
        if source is not None and source.name != "DEFAULT":
            option = "--" + name.replace("_", "-")
            raise UsageError(f"{option} needs --judge.", f"Leave {option} out.")


def _left_out(unusable: int) -> list[str]:
    if not unusable:
        return []
    return [f"{unusable} rows with an empty text or two equal answers are left out."]


def _score(
    name: str, options: "JudgeOptions", pairs: "Sequence[Pair]", out: Path, resume: bool
) -> "tuple[list[Pair], list[str]]":
    """Pairs with a judge's scores, and what a reader of these must know."""
    from tsdi.evaluation.evaluate import most_often
    from tsdi.judging.registry import check_judge, load_judge
    from tsdi.judging.verdict import Verdict
    from tsdi.training.pair_safety import score_pairs, verdicts_beside

    if len(check_judge(name)) > 1:
        raise UsageError(f"{name!r} names two judges.", "Prompts of pairs have no kind: name one.")
    if not resume:
        verdicts_beside(out).check_unused(out.parent)
    console.quiet_libraries()
    judge = load_judge(name, options)
    with console.bar("judge") as update:
        scored = score_pairs(
            judge,
            pairs,
            out,
            resume=resume,
            progress=lambda done, total: update("judge", done, total),
        )
    notes = []
    if not judge.sees_safety:
        notes.append(
            f"{judge.name} sees refusals, not safety: its probability of a refusal stands for that"
            " of being safe, which is too low for safe answers that do not refuse."
        )
    if unscored := [one for one in scored.judgements if one.verdict is Verdict.UNSCORED]:
        notes.append(f"{len(unscored)} answers are unscored. {most_often(unscored)}")
    return scored.pairs, notes


def _write(out: Path, pairs: "Sequence[Pair]") -> None:
    from tsdi.files import write_bytes
    from tsdi.training.cleansing import to_row

    lines = [json_format.dumps(to_row(pair), ensure_ascii=False) + "\n" for pair in pairs]
    write_bytes(out, "".join(lines).encode())


def _draw(plot: Path, found: "Cleansing", source: dict[str, str]) -> None:
    from importlib.metadata import version

    from tsdi.report.cleansing import write_cleansing_report

    write_cleansing_report(plot, found, {**source, "tsdi": version("tsdi")})


def categories_table(found: "Cleansing") -> Table:
    """Pairs of every category, what is dropped of them, and the judge's mean probabilities."""
    from tsdi.categories import by_code

    also = f", or rejected one above {1 - found.threshold:g}" if found.rejected else ""
    table = Table(
        title=f"Dropped: chosen answer below {found.threshold:g}{also}", title_justify="left"
    )
    table.add_column("", no_wrap=True)
    whole = found.overall
    unscored = ["unscored"] if whole.unscored else []
    means = ["P(safe),\nchosen", "P(safe),\nrejected"]
    for column in ("pairs", "dropped", "share", *unscored, *means):
        table.add_column(column, justify="right", no_wrap=True)
    categories = found.categories
    for name in by_code(categories):
        table.add_row(
            _title(name, WIDTH - 10 * len(unscored)), *_cells(categories[name], bool(unscored))
        )
    if len(categories) > 1:
        table.add_section()
        table.add_row("all", *_cells(whole, bool(unscored)))
    return table


def _title(category: str, width: int) -> str:
    from tsdi.training.cleansing import category_name

    return console.one_line(category_name(category), width)


def _cells(count: "Count", unscored: bool) -> list[str]:
    means = (count.chosen_safety, count.rejected_safety)
    return [
        str(count.total),
        str(count.dropped),
        share(count.dropped / count.total),
        *([str(count.unscored)] if unscored else []),
        *("-" if mean is None else share(mean) for mean in means),
    ]


def _summary(found: "Cleansing", out: Path) -> str:
    count = found.overall
    because = f" ({found.fates.count('rejected safe')} for the rejected answer alone)"
    return (
        f"Kept {count.kept} of {count.total} pairs, dropped {count.dropped}"
        f"{because if found.rejected else ''}, {count.unscored} without a score. Saved in {out}."
    )
