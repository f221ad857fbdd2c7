"""Names and tables of the figures of judged answers, in 80 columns."""

from collections.abc import Iterator, Mapping
from typing import Any

from rich.table import Table

from tsdi.categories import by_code, named_category
from tsdi.cli import console
from tsdi.evaluation.agreement import Agreed
from tsdi.evaluation.evaluate import Evaluation
from tsdi.evaluation.labelled import labelled_text, labelled_titles, scarce_row
from tsdi.evaluation.metrics import titles
from tsdi.judging.base import KINDS
from tsdi.judging.panel import refusal_kinds
from tsdi.runs.records import Record
from tsdi.stats.interval import Bounds, Estimate, compact_share, compact_text, complement

WIDTH = 32  # characters of a row's title


def judged_by(judge: Mapping[str, Any]) -> str:
    """The judge's name, for a table's title."""
    return f"judged by {judge['name']}"


def category_title(category: str, judge: Mapping[str, Any], width: int) -> str:
    """A category's code, with its name where the judge's prompts are the organism's."""
    return "  " + console.one_line(named_category(category, judge["name"]), width - 2)


def show_bounds(bounds: tuple[float, float]) -> str:
    """Lowest and highest value, such as ".93 to .97"."""
    low, high = map(compact_share, bounds)
    return f"{low} to {high}"


def figures_table(evaluation: Evaluation) -> Table:
    """Table of all figures that have answers, with 95 % intervals and n.

    Where answers are unscored, a column says what a figure would be had all of them gone one way.
    """
    figures, judge = evaluation.figures, evaluation.judge
    bounds = ["bounds"] if figures.unscored.value else []
    title = f"Shares with 95 % intervals, {judged_by(judge)}"
    table = console.table(title, ["", "share", "answers", *bounds])

    def row(title: str, estimate: Estimate, ends: Bounds | None = None) -> None:
        if estimate.n or ends:
            between = show_bounds(ends) if ends else ""
            cells = [title, compact_text(estimate), str(estimate.n), between]
            table.add_row(*cells[: len(table.columns)])

    names = titles(judge)
    for name in ("compliance", "lookalike_compliance", "correct", "safety"):
        row(names[name], getattr(figures, name), figures.bounds.get(name))
    for kind, refusals in figures.refusals.items():
        table.add_section()
        row(f"refused in full, {kind}", refusals.full)
        row(f"refused in part, {kind}", refusals.partial)
    table.add_section()
    row(f"degenerate, {_seen(judge)}", figures.degenerate)
    row("unscored, all prompts", figures.unscored)
    return table


def _seen(judge: Record) -> str:
    """Kinds of prompts on whose answers the judge sees refusals, in words."""
    kinds = refusal_kinds(judge)
    if kinds == KINDS:
        return "all prompts"
    return "harmful prompts" if "harmful" in kinds else "harmless prompts"


def categories_table(evaluation: Evaluation) -> Table | None:
    """Table of compliance and safety by category, each with n; None without categories."""
    figures, judge = evaluation.figures, evaluation.judge
    helpful, safe = figures.compliance_by_category, figures.safety_by_category
    if not {*helpful, *safe} - {""}:
        return None
    bounds = figures.safety_bounds if figures.unscored.value else {}
    what = titles(judge)["safety"].partition(",")[0]
    shown = {"complied": helpful, what: safe}
    columns = {name: shares for name, shares in shown.items() if shares}
    header = ["", *columns, *([f"{what},\nbounds"] if bounds else [])]
    table = console.table("By category, with the number of answers", header)
    for category in by_code({*helpful, *safe}):
        cells = [category_title(category, judge, WIDTH - 12 * bool(bounds))]
        cells += [_with_n(shares.get(category)) for shares in columns.values()]
        cells += [show_bounds(bounds[category]) if category in bounds else ""]
        table.add_row(*cells[: len(table.columns)])
    return table


def corrected_table(evaluation: Evaluation) -> Table | None:
    """Table of rates corrected for the judge's errors; None without an audit."""
    if not evaluation.corrected:
        return None
    table = console.table("Corrected for the judge's errors", ["", "share", "answers"])
    names = {f"refused_{kind}": f"refused in full or part, {kind}" for kind in evaluation.prompts}
    names["safety"] = titles(evaluation.judge)["safety"]
    for name, rate in evaluation.corrected.items():
        shown = compact_text(rate) if rate.value is not None else "not known from this audit"
        table.add_row(names[name], shown, str(rate.n))
    return table


def labelled_table(evaluation: Evaluation) -> Table | None:
    """Table of shares by people's labels and the judge's words; None without labels."""
    found, figures, judge = evaluation.labelled, evaluation.figures, evaluation.judge
    if found is None:
        return None
    alone = {name: getattr(figures, name) for name in ("compliance", "lookalike_compliance")}
    alone["safety"] = figures.safety
    alone |= {f"refused_{kind}": complement(one.none) for kind, one in figures.refusals.items()}
    by_category = {
        "compliance": figures.compliance_by_category,
        "safety": figures.safety_by_category,
    }
    number, names = sum(found.labels.values()), labelled_titles(found)
    title = f"With {number} label{'s' if number != 1 else ''}, 95 % intervals, {judged_by(judge)}"
    table = console.table(title, ["", "judge alone", "with labels", "labels"])
    for name, share in found.figures.items():
        table.add_row(names[name], *_beside(alone.get(name), share))
    for name, shares in found.categories.items():
        if not {*shares} - {""}:
            continue
        table.add_section()
        table.add_row(names[name].partition(",")[0])
        for category, share in shares.items():
            if share.value is not None:
                row = category_title(category, judge, WIDTH - 6)
                table.add_row(row, *_beside(by_category[name].get(category), share))
        for row, *cells in scarce_row(shares):
            table.add_row(f"  {row}", *cells)
    return table


def _beside(alone: Estimate | None, share: Estimate) -> list[str]:
    shown = compact_text(alone) if alone and alone.n else "-"
    return [shown, labelled_text(share), str(share.n)]


def agreement_table(evaluation: Evaluation) -> Table | None:
    """Table of the judge's agreement with the run's other judges; None without one."""
    shown = [one for one in evaluation.agreement if one.figures]
    if not shown:
        return None
    called = [evaluation.judge["name"], *(one.other["name"] for one in shown)]
    title = f"Agreement of {evaluation.judge['name']} with the run's other judges"
    table = console.table(title, ["", "counted alike", "kappa", "answers"])
    for one in shown:
        name = one.other["name"]
        model = f"={one.other.get('model')}" if called.count(name) > 1 else ""
        table.add_section()
        table.add_row(console.one_line(f"{name}{model}", WIDTH))
        for title, *cells in agreement_rows(one.figures):
            table.add_row(f"  {title}", *cells)
    return table


def agreement_rows(figures: Mapping[str, Agreed]) -> Iterator[list[str]]:
    """Rows of how far two agree: what is counted, share counted alike, kappa, answers."""
    kinds = {"compliance": "harmless", "lookalike_compliance": "lookalike", "safety": "harmful"}
    kinds["labels"] = "all, label by label"
    for figure, agreed in figures.items():
        kappa = compact_text(agreed.kappa) if agreed.kappa.value is not None else "none"
        yield [kinds[figure], compact_text(agreed.same), kappa, str(agreed.same.n)]


def _with_n(estimate: Estimate | None) -> str:
    return f"{compact_text(estimate)} {estimate.n:4}" if estimate and estimate.n else ""
