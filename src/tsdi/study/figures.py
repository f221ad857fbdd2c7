"""The figures of a study, from its summary; F1, F2, F4, F5 and F6 are the paper's."""

from collections.abc import Mapping, Sequence

import plotly.graph_objects as go

from tsdi.report import figures as plots
from tsdi.report.figures import Dose, Line, Point, Series, Style
from tsdi.report.theme import plain
from tsdi.stats.interval import Estimate
from tsdi.stats.seeds import mean_interval
from tsdi.study.entries import conditioned_name
from tsdi.study.sentences import category_title, measure_title
from tsdi.study.summary import Ablation, OperatingPoint, Summary

_FAR = 8
LATER = 8  # steps that are drawn of the openers' shifts
NAMES = {"plain": "aligned", "tsdi": "debiased", "reference": "reference"}
STYLES: Mapping[str, Style] = {"plain": "grid", "tsdi": "debiased"}
FRONT = ("plain", "openers", "random-shift", "merge", "reference", "tsdi")
"""What the picture of fronts shows, from the back to the front; more would hide it."""
CONDITIONED_FRONT = ("plain", "openers", "merge", "reference", "reference-refuser", "tsdi")
"""The same where a rule has a condition, which goes in front."""


def figures(summary: Summary) -> dict[str, go.Figure]:
    """All figures of a study by file name."""
    grid = summary.grid_of_a_seed
    found = {
        "f1-categories": aligned(summary),
        "f5-front": front(summary),
        "categories": categories(summary, ("reference", "plain", "tsdi")),
    }
    for category in shown_categories(summary):
        found[f"f5-front-{category}"] = front(summary, category)
    betas, numbers, annotators = (
        {getattr(model, key) for model in grid} for key in ("beta", "iterations", "annotators")
    )
    if len(betas) > 1 and None not in numbers and len(annotators) == 1:
        found |= {f"f2-{key}": iterations(summary, key) for key in ("safety", "helpful")}
    if summary.biases:
        found |= {f"f4-{place}": openers(summary, place == "later") for place in ("first", "later")}
        found["f4-steps"] = steps(summary)
    for one in summary.ablations:
        found[f"f6-{one.name}"] = ablation(summary, one)
    return found


def shown_categories(summary: Summary) -> list[str]:
    """The three categories in which the plain grid is safe least often."""
    points = summary.grid["plain"]
    mean = {
        category: sum(one.by_category[category].value or 0.0 for one in points)
        for category in points[0].by_category
    }
    return sorted(mean, key=mean.__getitem__)[:3]


def front(summary: Summary, category: str | None = None) -> go.Figure:
    """Safety against helpfulness, a point for each grid point: the paper's figures 5 and 6.

    Safety is that in a category, or over all harmful prompts.
    """

    def point(name: str, one: OperatingPoint) -> Point:
        safety = one.measures.safety if category is None else one.by_category[category]
        return Point(f"{name}, {one.cell}", one.measures.helpful, safety)

    series = [
        Series(
            NAMES.get(name, name),
            STYLES.get(name, "model" if name == "reference" else "grid"),
            [point(name, one) for one in summary.grid[name]],
        )
        for name in _of_front(summary)
        if name in summary.grid
    ]
    where = "harmful prompts" if category is None else category_title(category)
    return plots.trade_off(
        series, "helpful answers, harmless prompts", f"{summary.judge.good} answers, {where}"
    )


def _of_front(summary: Summary) -> tuple[str, ...]:
    """The rules in the figure of fronts."""
    name = conditioned_name(summary.rules)
    return (*CONDITIONED_FRONT, name) if name else FRONT


def categories(summary: Summary, names: Sequence[str]) -> go.Figure:
    """Safety by category of some rules at the main grid point."""
    arms = {}
    for name in (name for name in names if name in summary.grid):
        points = summary.grid[name]
        at_main = next((one for one in points if one.cell == summary.main), points[0])
        arms[NAMES.get(name, name)] = at_main.by_category
    lost = [row.category for row in summary.gate.get("tsdi", ()) if row.lost and not row.attack]
    return _category_bars(arms, lost if "tsdi" in names else ())


def aligned(summary: Summary) -> go.Figure:
    """Safety by category of the aligned models without a rule: the paper's figure 1, left.

    The models are those of the main point's beta, over iterations; all where none has a beta.
    """
    betas = {model.name: model.beta for model in summary.grid_of_a_seed}
    points = [one for one in summary.grid["plain"] if betas[one.cell] == betas[summary.main]]
    return _category_bars({one.cell: one.by_category for one in points}, ())


def _category_bars(arms: Mapping[str, Mapping[str, Estimate]], marked: Sequence[str]) -> go.Figure:
    titles = {category: category_title(category) for category in next(iter(arms.values()))}
    return plots.category_bars(arms, titles, marked)


def iterations(summary: Summary, measure: str) -> go.Figure:
    """Safety or helpfulness over iterations, a line for each beta: the paper's figures 1 and 2."""
    shares = {one.cell: one.measures.titled()[measure] for one in summary.grid["plain"]}
    models = sorted(summary.grid_of_a_seed, key=lambda model: model.iterations or 0)
    betas = sorted({m.beta for m in models if m.beta is not None}, reverse=True)
    series = [
        Line(
            f"beta {beta:g}",
            [
                Dose(model.iterations or 0, shares[model.name])
                for model in models
                if model.beta == beta
            ],
        )
        for beta in betas
    ]
    safe = f"{summary.judge.good} answers, harmful prompts"
    what = {"safety": safe, "helpful": "helpful answers, harmless ones"}
    return plots.lines(series, "iterations of the safety step", what[measure])


def _lifts(summary: Summary, name: str, part: slice) -> list[float]:
    """Mean shift of refusing less complying openers over some steps, by test seed."""
    values = []
    for one in summary.biases:
        seed, _, cell = one.model.removeprefix("seed").partition("/")
        if cell == name and int(seed) in summary.test_seeds:
            shifts = [a - b for a, b in zip(one.refusing, one.complying, strict=True)][part]
            values.append(sum(shifts) / len(shifts) if shifts else 0.0)
    return values


def openers(summary: Summary, later: bool) -> go.Figure:
    """Shift of refusing over complying openers on random prompts: the paper's figure 4.

    Over beta, or the share of annotators who prefer refusals where that is varied, a line for every
    number of iterations; over the models where they have no beta. `later` shows the mean of all
    later positions instead of the first one.
    """
    part = slice(1, None) if later else slice(0, 1)
    models = sorted(
        summary.grid_of_a_seed,
        key=lambda model: (model.iterations or 0, model.beta or 0, model.annotators or 0),
    )
    by_annotators = len({model.annotators for model in models}) > 1
    lines: dict[str, list[Dose]] = {}
    for number, model in enumerate(models):
        values = _lifts(summary, model.name, part)
        x = model.annotators if by_annotators else model.beta
        title = f"{'?' if model.iterations is None else model.iterations} iterations"
        title = f"beta {model.beta:g}, {title}" if by_annotators else title
        dose = Dose(number if x is None else x, mean_interval(values), values)
        lines.setdefault("models" if x is None else title, []).append(dose)
    where = "later positions" if later else "first position"
    what = f"refusing minus complying openers, logits, {where}"
    series = [Line(title, doses) for title, doses in lines.items()]
    if "models" in lines:
        figure = plots.lines(series, "model", what, y_percent=False)
        return _named(figure, [model.name for model in models])
    x_title = "share of annotators who prefer refusals" if by_annotators else "beta"
    figure = plots.lines(series, x_title, what, y_percent=False)
    return _logarithmic(figure, [dose.x for doses in lines.values() for dose in doses])


def steps(summary: Summary) -> go.Figure:
    """Shift of refusing over complying openers at the main grid point, position by position."""
    doses = []
    for step in range(min(LATER, len(summary.biases[0].refusing))):
        values = _lifts(summary, summary.main, slice(step, step + 1))
        doses.append(Dose(step, mean_interval(values), values))
    title = "refusing minus complying openers, logits"
    return plots.lines([Line("random prompts", doses)], "position", title, y_percent=False)


def ablation(summary: Summary, one: Ablation) -> go.Figure:
    """Safety and helpfulness over a parameter's values: the paper's appendix."""
    values = [row.value for row in one.values]
    numbers = [value for value in values if isinstance(value, int | float)]
    places = numbers if len(numbers) == len(values) else range(len(values))
    effects = [row.measures.titled() for row in one.values]
    series = [
        Line(
            measure_title(summary, measure),
            [Dose(x, own[measure].value) for x, own in zip(places, effects, strict=True)],
        )
        for measure in ("safety", "helpful", "complied, lookalike")
        if measure in effects[0]
    ]
    figure = plots.lines(series, one.parameter, "share of answers")
    return _logarithmic(figure, numbers) if places is numbers else _named(figure, values)


def _named(figure: go.Figure, names: Sequence[str | float]) -> go.Figure:
    """The figure with names as ticks at 0, 1, 2 ...; of paths the file name."""
    shown = [plain(str(name).rpartition("/")[2].removesuffix(".txt")) for name in names]
    return figure.update_xaxes(tickvals=list(range(len(shown))), ticktext=shown)


def _logarithmic(figure: go.Figure, values: Sequence[float]) -> go.Figure:
    """The figure with a logarithmic axis if its values are far apart."""
    if min(values) <= 0 or max(values) / min(values) < _FAR:
        return figure
    shown = sorted(set(values))
    return figure.update_xaxes(type="log", tickvals=shown, ticktext=[f"{v:g}" for v in shown])
