"""The tables of a study's fronts: how large they are, and how far TSDI is ahead of each."""

from collections.abc import Mapping
from dataclasses import replace

from tsdi.report.page import Table
from tsdi.stats.interval import interval_text
from tsdi.study.sentences import change_text, interval_note
from tsdi.study.summary import Front, FrontComparison, Summary

SHOWN_POINTS = 8


def fronts_title(summary: Summary, comparison: FrontComparison) -> str:
    """The title of a table of fronts."""
    return f"Fronts of {comparison.size}: {summary.judge.measure} and {comparison.helpfulness}"


def rules_overview(summary: Summary) -> Table:
    """Overview table: every rule's hypervolume, TSDI's lead over it, and its cost."""
    comparison = summary.comparison
    rows, marked = [], []
    for rule in summary.rules:
        if rule.vary:
            continue
        if rule.reason_against:
            rows.append([rule.name, "n/a", "", "", "", ""])
            continue
        front, cost = comparison.fronts.get(rule.name), summary.costs.get(rule.name)
        ahead = (front.ours_minus, front.tuned_minus) if front else (None, None)
        rows.append(
            [
                rule.name,
                interval_text(front.volume) if front else "-",
                *(change_text(one) if one else "-" for one in ahead),
                interval_text(cost.ratio) if cost else "-",
                f"{cost.memory:.2f}" if cost else "-",
            ]
        )
        if front and front.is_ahead:
            marked.append(len(rows) - 1)
    reasons = sorted({rule.reason_against for rule in summary.rules if rule.reason_against})
    note = (
        f"Hypervolume of ({summary.judge.measure}, {comparison.helpfulness}) of {comparison.size},"
        " chosen on validation; TSDI minus the method; tokens/s and memory over the plain model's."
        f" {interval_note(summary)} In red: methods that are ahead of TSDI beyond the interval."
        + "".join(f" n/a: {reason.removeprefix('not applicable: ')}." for reason in reasons)
    )
    ahead_of = ("TSDI minus it", "tuned TSDI minus it")
    header = ["method", f"front, k = {comparison.k}", *ahead_of, "tokens/s", "memory"]
    return Table(header, rows, note, marked)


def front_table(summary: Summary, comparison: FrontComparison) -> Table:
    """Table of the hypervolumes of all rules with enough operating points."""
    choosing, test = (
        ", ".join(map(str, seeds)) for seeds in (summary.choosing_seeds, summary.test_seeds)
    )
    note = (
        f"Every method has {comparison.size}, chosen on validation prompts (training seeds"
        f" {choosing}) and measured on test prompts (seeds {test}). {interval_note(summary)}"
    )
    made = _ahead("hypervolume", comparison.fronts, note)
    chosen = (front.chosen for front in comparison.fronts.values())
    points = ("; ".join(one) if len(one) <= SHOWN_POINTS else "all of the grid" for one in chosen)
    rows = [[*row, one] for row, one in zip(made.rows, points, strict=True)]
    return replace(made, header=[*made.header, "points"], rows=rows)


def each_point_title(summary: Summary) -> str:
    """The title of the table of single grid points."""
    return f"Every point of the grid alone: {summary.judge.measure} times helpful answers"


def each_point_table(summary: Summary) -> Table:
    """Table of every rule's product of safety and help at a single grid point, mean over all."""
    note = (
        f"{summary.judge.measure.capitalize()} times helpful answers at each of the"
        f" {len(summary.grid_of_a_seed)} points alone, the mean over them: what to expect of a"
        f" model that nobody chose. {interval_note(summary)}"
    )
    return _ahead("mean over the grid", summary.each_point, note)


def _ahead(measure: str, fronts: Mapping[str, Front], note: str) -> Table:
    """Table of a figure of every rule, and the lead of each kind of TSDI over it."""
    rows: list[list[str]] = []
    marked = []
    conditioned = any(front.conditioned_minus for front in fronts.values())
    for name, front in fronts.items():
        minus = [front.ours_minus, front.tuned_minus]
        minus += [front.conditioned_minus] if conditioned else []
        ahead = ("-" if one is None else change_text(one) for one in minus)
        rows.append([name, interval_text(front.volume), *ahead])
        if front.is_ahead:
            marked.append(len(rows) - 1)
    header = ["method", measure, "TSDI minus it", "tuned TSDI minus it"]
    header += ["conditioned TSDI minus it"] if conditioned else []
    return Table(header, rows, note, marked)
