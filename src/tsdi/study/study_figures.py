"""The figures of a study, from its summary; the paper's F1, F2, F4, F5 and F6 with its axes."""

from collections.abc import Mapping, Sequence
from typing import Any

import plotly.graph_objects as go

from tsdi.interval import Estimate
from tsdi.study import plots
from tsdi.study.plots import Dose, Line, Point, Series, Style
from tsdi.suites.suite import SALAD_TASKS

Figures = Mapping[str, Any]
LATER = 8  # steps that are drawn of the openers' shifts
NAMES = {"plain": "aligned", "tsdi": "debiased", "reference": "reference"}
STYLES: Mapping[str, Style] = {"plain": "grid", "tsdi": "debiased"}
FRONT = ("plain", "openers", "dera", "merge", "reference", "tsdi")
"""What the picture of fronts shows, from the back to the front; more would hide it."""


def figures(summary: Figures) -> dict[str, go.Figure]:
    """All figures by name; those of findings begin with the finding's."""
    found = {
        "f1-categories": categories(summary, ("plain",)),
        "f5-front": front(summary, "safety"),
        "categories": categories(summary, ("reference", "plain", "tsdi")),
    }
    for category in shown_categories(summary):
        found[f"f5-front-{category}"] = front(summary, category)
    if len({member["beta"] for member in grid_of(summary)}) > 1:
        found |= {f"f2-{key}": iterations(summary, key) for key in ("safety", "helpful")}
    if summary["biases"]:
        found |= {"f4-openers": openers(summary), "f4-steps": steps(summary)}
    for one in summary["ablations"]:
        found[f"f6-{one['rule']}"] = ablation(one)
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
    return plots.trade_off(series, "helpful answers, harmless prompts", f"safe answers, {where}")


def _title(category: str) -> str:
    return f"{category} {SALAD_TASKS.get(category, '')}".strip()


def categories(summary: Figures, names: Sequence[str]) -> go.Figure:
    """Safety by category at the main grid point: the paper's figure 1, left."""
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
    what = {"safety": "safe answers, harmful prompts", "helpful": "helpful answers, harmless ones"}
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


def openers(summary: Figures) -> go.Figure:
    """Shift of refusing over complying openers on random prompts: the paper's figure 4.

    The first position and the mean of the later ones, over beta (or grid point by grid point).
    """
    from tsdi.interval import mean_interval

    series = []
    points = grid_of(summary)
    last = max((member["iterations"] or 0 for member in points), default=0)
    shown = [member for member in points if (member["iterations"] or 0) == last]
    for title, part in (("first position", slice(0, 1)), ("later positions", slice(1, None))):
        doses = []
        for number, member in enumerate(sorted(shown, key=lambda one: one["beta"] or 0)):
            values = _openers(summary, member["name"], part)
            x = member["beta"] if member["beta"] is not None else number
            doses.append(Dose(x, mean_interval(values), values))
        series.append(Line(title, doses))
    title = "refusing minus complying openers, logits"
    return plots.lines(series, f"beta, after {last} iterations", title, y_percent=False)


def steps(summary: Figures) -> go.Figure:
    """The same at the main grid point, position by position."""
    from tsdi.interval import mean_interval

    doses = []
    for step in range(min(LATER, len(summary["biases"][0]["refusing"]))):
        values = _openers(summary, summary["main"], slice(step, step + 1))
        doses.append(Dose(step, mean_interval(values), values))
    title = "refusing minus complying openers, logits"
    return plots.lines([Line("random prompts", doses)], "position", title, y_percent=False)


def ablation(one: Figures) -> go.Figure:
    """Safety and helpfulness over a parameter's values: the paper's appendix."""
    values = [entry["value"] for entry in one["values"]]
    numeric = all(isinstance(value, int | float) for value in values)
    series = [
        Line(
            key,
            [
                Dose(entry["value"] if numeric else place, _estimate(entry[key]["value"]))
                for place, entry in enumerate(one["values"])
            ],
        )
        for key in one["values"][0]
        if key.startswith(("safety", "helpful", "complied, lookalike"))
    ]
    figure = plots.lines(series, one["parameter"], "share of answers")
    if not numeric:
        figure.update_xaxes(tickvals=list(range(len(values))), ticktext=[str(v) for v in values])
    elif min(values) > 0 and max(values) / min(values) >= 8:
        figure.update_xaxes(type="log", tickvals=values, ticktext=[f"{v:g}" for v in values])
    return figure
