"""``tsdi compare``: two judged runs on the same prompts."""

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

import tsdi
from tsdi.categories import category_name
from tsdi.cli import console, options
from tsdi.cli.figures import category_title, judged_by
from tsdi.errors import UsageError
from tsdi.evaluation.compare import (
    ALPHA,
    FAMILY,
    LABELLED_HEADER,
    Change,
    Comparison,
    labelled_rows,
)
from tsdi.evaluation.floors import FEWEST_PROMPTS
from tsdi.evaluation.gate import Gated
from tsdi.evaluation.labelled import Powered
from tsdi.evaluation.metrics import titles
from tsdi.files import check_output
from tsdi.stats.interval import compact_share, compact_text, p_text

WIDTH = 22  # characters of a row's title


def compare(
    before: Annotated[Path, typer.Argument(help="A judged run, such as the aligned model's.")],
    after: Annotated[Path, typer.Argument(help="Another one, such as the debiased model's.")],
    attacked: Annotated[
        list[str] | None,
        typer.Option(
            metavar="BEFORE=AFTER",
            help="Two more runs of the same models, answered with --attack; may be given again.",
        ),
    ] = None,
    gate: Annotated[
        bool,
        typer.Option(
            "--gate",
            help="Exit with 1 if safety is lost anywhere beyond the interval, or unknown, or rests"
            " on too few prompts.",
        ),
    ] = False,
    fewest_prompts: options.FewestPrompts = FEWEST_PROMPTS,
    judge: Annotated[
        str,
        typer.Option(
            metavar="NAME[=MODEL]", help="Whose verdicts, where runs have several judges'."
        ),
    ] = "",
    labels: Annotated[
        str | None,
        typer.Option(
            metavar="BEFORE=AFTER",
            help="A file of people's labels of each run, of answers to the same prompts (tsdi label"
            " BEFORE AFTER): show changes that hold however wrong the judge is.",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.html",
            help="Page with all answers side by side, to search and filter by what changed.",
        ),
    ] = None,
    card: Annotated[
        Path | None,
        typer.Option(
            metavar="BIAS",
            help="Keep the figures in the folder and model card of the bias of AFTER.",
        ),
    ] = None,
    json: options.Json = False,
) -> None:
    """Compare two judged runs on the same prompts, and name categories that lost safety.

    Changes are AFTER minus BEFORE over the prompts that both have a verdict for, with 95 %
    intervals (Bonett and Price) and exact McNemar p-values; those of the categories are also
    adjusted by Holm's method, all categories being one family.

    Example: tsdi compare run-aligned run-debiased
    """
    pairs = [_pair("--attacked", text, "RUN1=RUN2") for text in attacked or []]
    files = None if labels is None else _pair("--labels", labels, "FILE1=FILE2")
    _check_page(out)
    found = tsdi.compare(before, after, pairs, fewest_prompts, judge, files)
    _write_page(out, before, after, found, judge)
    if card:
        from tsdi.evaluation.measured import keep_measured  # with torch

        keep_measured(found, before, after, card)
    if json:
        runs = {"before": str(before), "after": str(after)}
        console.show_json({**runs, **found.to_dict()})
    else:
        _show(found)
        if out:
            console.say(f"Saved in {out}")
        if card:
            console.say(f"Kept in {card}, and in its model card, {card / 'README.md'}.")
    if gate and not found.opens:
        raise typer.Exit(1)


def _check_page(out: Path | None) -> None:
    """Refuse a place where the page cannot be, before any work."""
    if out:
        if out.suffix.lower() not in (".html", ".htm"):
            raise UsageError(f"--out {out} is no page.", "Name a file that ends in .html.")
        from tsdi.report.page import is_report  # with plotly

        check_output(out, "--out", "a report of tsdi's", is_report)


def _write_page(out: Path | None, before: Path, after: Path, found: Gated, judge: str) -> None:
    if out:
        from tsdi.report.comparison import write_comparison

        write_comparison(out, before, after, found, judge)


def _show(found: Gated) -> None:
    """Print the changes, those by labels, and losses of safety."""
    table = changes_table(found.comparison)
    if table.row_count:
        console.out.print(table)
    if found.comparison.labelled:
        console.out.print(labelled_changes_table(found.comparison, found.comparison.labelled))
    for line in _losses(found.comparison):
        console.out.print(line)
    _show_gate(found)


def _pair(option: str, text: str, form: str) -> tuple[Path, Path]:
    first, _, second = text.partition("=")
    if not first or not second:
        raise UsageError(f"{option} {text!r} is no pair.", f"Write it like {form}.")
    return Path(first), Path(second)


def _show_gate(found: Gated) -> None:
    """Print losses of safety in red, and what was not measured."""
    if len(found.blind) == len(found.attacks) == 1:  # said above
        return
    for attack in found.blind:
        console.out.print(
            console.red(f"Safety gate: nothing to judge ({_prompts(attack)}), so it stays shut.")
        )
    for gap in found.gaps:
        console.out.print(console.red(f"Safety gate: it stays shut. {gap}"))
    for one in found.lost:
        where = "all harmful prompts" if one.category == "all" else category_name(one.category)
        attack = f" under {one.attack}" if one.attack else ""
        before, after = (
            compact_share(x.value or 0.0) for x in (one.change.before, one.change.after)
        )
        console.out.print(
            console.red(
                f"Safety gate: lost in {where}{attack}, {before} -> {after},"
                f" {compact_text(one.change.change, signed=True)}."
            )
        )
    if found.opens:
        where = " and ".join(dict.fromkeys(map(_prompts, found.attacks)))
        console.say(
            f"Safety gate: nothing lost beyond the interval ({where}).{_largest_fall(found)}"
        )
    if not any(found.attacks):
        console.note("Not compared under attack: tsdi evaluate --attack, then --attacked.")


def _largest_fall(found: "Gated") -> str:
    """A sentence on the category that fell most on plain prompts, though not clearly."""
    falls = {
        name: one
        for name, one in found.comparison.categories.items()
        if one.change.value is not None and one.change.value < 0
    }
    if not falls:
        return ""
    name, one = min(falls.items(), key=lambda each: each[1].change.value or 0.0)
    before, after = (compact_share(x.value or 0.0) for x in (one.before, one.after))
    return (
        f" The largest fall is in {category_name(name)}, {before} -> {after},"
        f" {compact_text(one.change, signed=True)} of {one.change.n}."
    )


def _prompts(attack: str) -> str:
    return attack or "plain prompts"


def changes_table(comparison: Comparison) -> Table:
    """Table of every figure before and after, its change and p-value."""
    names = titles(comparison.judge)
    table = console.table(
        f"Changes with 95 % intervals, {judged_by(comparison.judge)}",
        ["", "before", "after", "change", "p", "Holm"],
    )

    def row(title: str, change: Change, style: str = "") -> None:
        if change.before.value is not None and change.after.value is not None:
            table.add_row(
                title,
                compact_share(change.before.value),
                compact_share(change.after.value),
                compact_text(change.change, signed=True),
                p_text(change.p),
                p_text(change.p_holm),
                style=style,
            )

    for name, change in comparison.overall.items():
        if name == "safety":
            table.add_section()
        row(names[name], change)
    for category, change in comparison.categories.items():
        title = category_title(category, comparison.judge, WIDTH)
        row(title, change, "red" if category in comparison.lost else "")
    return table


def labelled_changes_table(comparison: Comparison, found: Powered) -> Table:
    """Table of changes by people's labels and the judge's words."""
    number = sum(found.labels.values())
    table = console.table(
        f"Changes with labels of {number} pair{'s' if number != 1 else ''} of answers,"
        " 95 % intervals",
        LABELLED_HEADER,
    )
    figures, categories = labelled_rows(comparison, found)
    for row in figures:
        table.add_row(*row)
    table.add_section()
    for title, *cells in categories:
        table.add_row(category_title(title, comparison.judge, WIDTH), *cells)
    return table


def _losses(comparison: Comparison) -> list[str | Text]:
    before: list[str | Text] = [*map(console.red, _unscored(comparison)), *_missing(comparison)]
    if not comparison.categories:
        return before
    what = titles(comparison.judge)["safety"].partition(",")[0]
    family = f"{what} by category" if what == "refused" else FAMILY
    lost = f"Categories that are {what} less often, Holm p < {ALPHA}: {_names(comparison.lost)}."
    tests = len(comparison.categories)
    return [
        *before,
        f"Holm: p adjusted over one family, {family}, {tests} test{'s' if tests != 1 else ''}.",
        console.red(lost) if comparison.lost else lost,
        f"Beyond their own interval, but not significant: {_names(comparison.maybe_lost)}.",
    ]


def _missing(comparison: Comparison) -> list[str]:
    """Sentences on gaps of the figures: no prompts, no verdicts, a judge blind to them."""
    compared = {name for name, change in comparison.overall.items() if change.change.n}
    lines = []
    if not compared & {"compliance", "lookalike_compliance"}:
        lines.append(
            "No harmless prompts with a verdict on compliance in both runs: these figures say"
            " nothing of helpfulness."
        )
    if "safety" not in compared:
        lines.append(
            "No harmful prompts with a verdict in both runs: these figures say nothing of safety."
        )
    return lines


def _unscored(comparison: Comparison) -> list[str]:
    before, after, either = comparison.unscored
    if not either:
        return []
    return [
        f"{either} prompts are compared nowhere: {before} answers before and {after} after are"
        " unscored."
    ]


def _names(categories: list[str]) -> str:
    return ", ".join(map(category_name, categories)) or "none"
