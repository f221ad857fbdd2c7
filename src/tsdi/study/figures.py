"""The figures of a study, from its summary; the paper's F1, F2, F4, F5 and F6 with its axes."""

from collections.abc import Mapping, Sequence
from typing import Any

import plotly.graph_objects as go

from tsdi.categories import SALAD_TASKS
from tsdi.report import figures as plots
from tsdi.report.figures import Dose, Line, Point, Series, Style
from tsdi.report.theme import plain
from tsdi.stats.interval import Estimate
from tsdi.stats.seeds import mean_interval
from tsdi.study import wording
from tsdi.study.tables import UNNAMED

Figures = Mapping[str, Any]
_FAR = 8
LATER = 8  # steps that are drawn of the openers' shifts
NAMES = {"plain": "aligned", "tsdi": "debiased", "reference": "reference"}
STYLES: Mapping[str, Style] = {"plain": "grid", "tsdi": "debiased"}
FRONT = ("plain", "openers", "random-shift", "merge", "reference", "tsdi")
"""What the picture of fronts shows, from the back to the front; more would hide it."""


def figures(summary: Figures) -> dict[str, go.Figure]:
    """All figures by name; those of findings begin with the finding's."""
    found = {
        "f1-categories": aligned(summary),
        "f5-front": front(summary, "safety"),
        "categories": categories(summary, ("reference", "plain", "tsdi")),
    }
    for category in shown_categories(summary):
        found[f"f5-front-{category}"] = front(summary, category)
    shares = {member["annotators"] for member in grid_of(summary)}
    if len({member["beta"] for member in grid_of(summary)}) > 1 and len(shares) == 1:
        found |= {f"f2-{key}": iterations(summary, key) for key in ("safety", "helpful")}
    if summary["biases"]:
        found |= {f"f4-{place}": openers(summary, place == "later") for place in ("first", "later")}
        found["f4-steps"] = steps(summary)
    for one in summary["ablations"]:
        found[f"f6-{one['name']}"] = ablation(summary, one)
    return found


def shown_categories(summary: Figures) -> list[str]:
    """Three categories, as the paper shows: those in which the plain grid is safe least often."""
    points = summary["grid"]["plain"]
    mean = {
        category: sum(one["by_category"][category]["value"] or 0.0 for one in points)
        for category in points[0]["by_category"]
    }
    return sorted(mean, key=mean.__getitem__)[:3]


def grid_of(summary: Figures) -> list[dict[str, Any]]:
    """The grid's points with beta and iterations, of one seed."""
    first = summary["members"][0]["seed"]
    return [member for member in summary["members"] if member["seed"] == first]


def _estimate(figure: Figures) -> Estimate:
    return Estimate.from_dict(figure)


def front(summary: Figures, safety: str) -> go.Figure:
    """Safety against helpfulness, a point for each grid point: the paper's figures 5 and 6.

    Args:
        summary: The study's summary.
        safety: "safety" over all harmful prompts, or a category.
    """
    series = []
    for name in (name for name in FRONT if name in summary["grid"]):
        points = []
        for one in summary["grid"][name]:
            y = one["safety"] if safety == "safety" else one["by_category"][safety]
            points.append(Point(f"{name}, {one['cell']}", _estimate(one["helpful"]), _estimate(y)))
        style = STYLES.get(name, "model" if name == "reference" else "grid")
        series.append(Series(NAMES.get(name, name), style, points))
    where = "harmful prompts" if safety == "safety" else _title(safety)
    return plots.trade_off(
        series, "helpful answers, harmless prompts", f"{wording.safe(summary)} answers, {where}"
    )


def _title(category: str) -> str:
    return f"{category or UNNAMED} {SALAD_TASKS.get(category, '')}".strip()


def categories(summary: Figures, names: Sequence[str]) -> go.Figure:
    """Safety by category at the main grid point."""
    arms = {}
    for name in (name for name in names if name in summary["grid"]):
        cells = {one["cell"]: one for one in summary["grid"][name]}
        point = cells.get(summary["main"]) or next(iter(cells.values()))
        arms[NAMES.get(name, name)] = {
            category: _estimate(value) for category, value in point["by_category"].items()
        }
    titles = {category: _title(category) for category in next(iter(arms.values()))}
    lost = [category for attack, category in summary["gate"].get("tsdi", {}).get("lost", [])
            if not attack]  # fmt: skip
    return plots.category_bars(arms, titles, lost if "tsdi" in names else ())


def aligned(summary: Figures) -> go.Figure:
    """Safety by category of the aligned models as they are: the paper's figure 1, left.

    Those of the main point's beta, over iterations; all where the models have no beta.
    """
    betas = {member["name"]: member["beta"] for member in grid_of(summary)}
    arms = {
        one["cell"]: {category: _estimate(value) for category, value in one["by_category"].items()}
        for one in summary["grid"]["plain"]
        if betas[one["cell"]] == betas[summary["main"]]
    }
    titles = {category: _title(category) for category in next(iter(arms.values()))}
    return plots.category_bars(arms, titles, ())


def iterations(summary: Figures, key: str) -> go.Figure:
    """Safety or helpfulness over iterations, a line for each beta: the paper's figures 1 and 2."""
    cells = {one["cell"]: one for one in summary["grid"]["plain"]}
    betas = sorted({member["beta"] for member in grid_of(summary)}, reverse=True)
    series = [
        Line(
            f"beta {beta:g}",
            [
                Dose(member["iterations"], _estimate(cells[member["name"]][key]))
                for member in sorted(grid_of(summary), key=lambda one: one["iterations"])
                if member["beta"] == beta
            ],
        )
        for beta in betas
    ]
    safe = f"{wording.safe(summary)} answers, harmful prompts"
    what = {"safety": safe, "helpful": "helpful answers, harmless ones"}
    return plots.lines(series, "iterations of the safety step", what[key])


def _openers(summary: Figures, name: str, part: slice) -> list[float]:
    """Refusing minus complying openers' shift at a grid point, mean of some steps, by test seed."""
    values = []
    for one in summary["biases"]:
        seed, _, cell = one["model"].removeprefix("seed").partition("/")
        if cell == name and int(seed) in summary["seeds"]["test"]:
            shifts = [a - b for a, b in zip(one["refusing"], one["complying"], strict=True)][part]
            values.append(sum(shifts) / len(shifts) if shifts else 0.0)
    return values


def openers(summary: Figures, later: bool) -> go.Figure:
    """Shift of refusing over complying openers on random prompts: the paper's figure 4.

    Over beta, a line for every number of iterations; over the models where they have no beta.

    Args:
        summary: The study's summary.
        later: The mean of all later positions instead of the first one.
    """
    part = slice(1, None) if later else slice(0, 1)
    points = sorted(grid_of(summary), key=lambda one: (one["iterations"] or 0, one["beta"] or 0))
    lines: dict[str, list[Dose]] = {}
    for number, member in enumerate(points):
        values = _openers(summary, member["name"], part)
        with_beta = member["beta"] is not None
        title = f"{member['iterations']} iterations" if with_beta else "models"
        dose = Dose(member["beta"] if with_beta else number, mean_interval(values), values)
        lines.setdefault(title, []).append(dose)
    where = "later positions" if later else "first position"
    what = f"refusing minus complying openers, logits, {where}"
    series = [Line(title, doses) for title, doses in lines.items()]
    if "models" in lines:
        figure = plots.lines(series, "model", what, y_percent=False)
        return _named(figure, [member["name"] for member in points])
    figure = plots.lines(series, "beta", what, y_percent=False)
    return _logarithmic(figure, [dose.x for doses in lines.values() for dose in doses])


def steps(summary: Figures) -> go.Figure:
    """The same at the main grid point, position by position."""
    doses = []
    for step in range(min(LATER, len(summary["biases"][0]["refusing"]))):
        values = _openers(summary, summary["main"], slice(step, step + 1))
        doses.append(Dose(step, mean_interval(values), values))
    title = "refusing minus complying openers, logits"
    return plots.lines([Line("random prompts", doses)], "position", title, y_percent=False)


def ablation(summary: Figures, one: Figures) -> go.Figure:
    """Safety and helpfulness over a parameter's values: the paper's appendix."""
    values = [entry["value"] for entry in one["values"]]
    numeric = all(isinstance(value, int | float) for value in values)
    series = [
        Line(
            wording.titled(summary, key),
            [
                Dose(entry["value"] if numeric else place, _estimate(entry[key]["value"]))
                for place, entry in enumerate(one["values"])
            ],
        )
        for key in one["values"][0]
        if key.startswith(("safety", "helpful", "complied, lookalike"))
    ]
    figure = plots.lines(series, one["parameter"], "share of answers")
    return _logarithmic(figure, values) if numeric else _named(figure, values)


def _named(figure: go.Figure, names: Sequence[str]) -> go.Figure:
    """The figure with names at 0, 1, 2 ...; of paths the file's."""
    shown = [plain(str(name).rpartition("/")[2].removesuffix(".txt")) for name in names]
    return figure.update_xaxes(tickvals=list(range(len(shown))), ticktext=shown)


def _logarithmic(figure: go.Figure, values: Sequence[float]) -> go.Figure:
    """The figure with a logarithmic axis if its values are far apart."""
    if min(values) <= 0 or max(values) / min(values) < _FAR:
        return figure
    shown = sorted(set(values))
    return figure.update_xaxes(type="log", tickvals=shown, ticktext=[f"{v:g}" for v in shown])
