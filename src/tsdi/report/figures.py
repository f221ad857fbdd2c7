"""Plotly figures of the reports, from data alone.

Texts from outside (labels, tokens, names) are shown as they are, never as markup.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import plotly.graph_objects as go

from tsdi.errors import UsageError
from tsdi.report.theme import (
    ALERT,
    GRID,
    INK,
    axis,
    colours,
    layout,
    limit_line,
    plain,
    show,
    token_text,
)
from tsdi.stats.interval import Estimate

Style = Literal["grid", "debiased", "null", "model"]
_MARKERS: dict[str, dict[str, Any]] = {
    "grid": {"symbol": "circle-open", "size": 9, "line": {"width": 2}},
    "debiased": {"symbol": "diamond", "size": 11},
    "model": {"symbol": "circle", "size": 11},
}
_DIVERGING = [[0, "#0072b2"], [0.25, "#7fb8d8"], [0.5, "#fff"], [0.75, "#eaa97f"], [1, "#d55e00"]]
_FEW, _FAINT = 6, 0.18  # opacity of the whiskers of many markers, which would hide these
_TITLE, _BAR = 24, 11  # pixels of a category's title and of a bar


@dataclass(frozen=True)
class Point:
    """A point of two estimates, with their intervals.

    The label is shown when pointed at, and beside the marker of a model that is a series of its
    own.
    """

    label: str
    x: Estimate
    y: Estimate


@dataclass(frozen=True)
class Series:
    """Points that share a name and a style.

    Attributes:
        name: Name in the legend; "reference", "aligned" or "debiased" in it decides the colour.
        style: "grid" (open circles), "debiased" (diamonds), "model" (dots), or "null", a curve
            through the points in their order.
        points: The points; those without a value are left out.
    """

    name: str
    style: Style
    points: Sequence[Point]


@dataclass(frozen=True)
class Dose:
    """A response at one dose, with its interval and that of every seed.

    The responses of the single seeds are shown as faint dots.
    """

    x: float
    y: Estimate
    seeds: Sequence[float] = ()


@dataclass(frozen=True)
class Line:
    """A dose-response curve."""

    name: str
    doses: Sequence[Dose]


def trade_off(series: Sequence[Series], x_title: str, y_title: str) -> go.Figure:
    """Shares against shares: models as markers with both intervals, null hypotheses as curves.

    The axes show the markers; curves may leave the picture (a double click shows all of them).

    Raises:
        UsageError: If no point has values.
    """
    figure = _plane(series, x_title, y_title)
    marked = [point for one in series if one.style != "null" for point in _known(one)]
    points = marked or [point for one in series for point in _known(one)]
    figure.update_xaxes(range=_share_range([point.x for point in points]))
    figure.update_yaxes(range=_share_range([point.y for point in points]))
    return figure


def lines(
    series: Sequence[Line], x_title: str, y_title: str, *, y_percent: bool = True
) -> go.Figure:
    """Dose-response curves with intervals, and every seed as a faint dot.

    Raises:
        UsageError: If no dose has a response.
    """
    _require(any(dose.y.value is not None for line in series for dose in line.doses))
    colour = colours([line.name for line in series])
    figure = go.Figure(layout=layout(420))
    for line in series:
        seeds = [(dose.x, seed) for dose in line.doses for seed in dose.seeds]
        if seeds:
            figure.add_scatter(
                x=[x for x, _ in seeds],
                y=[y for _, y in seeds],
                mode="markers",
                marker={"color": colour[line.name], "size": 6, "opacity": 0.35},
                hovertext=[f"{plain(line.name)}, one seed: {y:.3f}" for _, y in seeds],
                hoverinfo="text",
                showlegend=False,
                legendgroup=plain(line.name),
            )
        figure.add_scatter(**_line(line, colour[line.name], y_title, y_percent))
    figure.update_xaxes(axis(x_title, percent=False))
    figure.update_yaxes(axis(y_title, y_percent))
    return figure


def category_bars(
    arms: Mapping[str, Mapping[str, Estimate]],
    titles: Mapping[str, str],
    marked: Collection[str] = (),
) -> go.Figure:
    """Grouped bars of shares by category and arm, with intervals.

    The order of `titles` is that of the figure, from the top; those of marked categories are red.

    Raises:
        UsageError: If there is nothing to show.
    """
    _require(bool(arms) and bool(titles))
    colour = colours(list(arms))
    pixels = _TITLE + _BAR * len(arms)  # of a category, whose place is 1 high
    figure = go.Figure(layout=layout(80 + len(titles) * pixels))
    for number, (arm, shares) in enumerate(arms.items()):
        shown = [
            (place, title, shares[category])
            for place, (category, title) in enumerate(titles.items())
            if category in shares and shares[category].value is not None
        ]
        figure.add_bar(
            y=[place + (_TITLE + (number + 0.5) * _BAR) / pixels for place, _, _ in shown],
            x=[share.value for _, _, share in shown],
            error_x=_error([share for _, _, share in shown], INK),
            hovertext=[
                f"<b>{plain(title)}</b><br>{plain(arm)}: {show(share, percent=True)}"
                for _, title, share in shown
            ],
            hoverinfo="text",
            orientation="h",
            width=0.85 * _BAR / pixels,
            name=plain(arm),
            marker={"color": colour[arm], "opacity": 0.85},
        )
    for place, (category, title) in enumerate(titles.items()):
        figure.add_annotation(
            x=0,
            y=place + _TITLE / pixels,
            text=plain(title),
            showarrow=False,
            xanchor="left",
            yanchor="bottom",
            xshift=-3,
            font={"size": 12, "color": ALERT if category in marked else INK},
        )
    figure.update_xaxes({**axis("", percent=True), "range": [0, 1.01], "dtick": 0.25})
    figure.update_yaxes(range=[len(titles) + 0.1, 0], visible=False)
    figure.update_layout(barmode="overlay", margin={"l": 20, "b": 30})
    return figure


def token_shifts(
    values: npt.ArrayLike, errors: npt.ArrayLike, tokens: Sequence[str], k: int
) -> go.Figure:
    """The k most promoted and the k most demoted tokens of a bias, step by step.

    Tokens are ranked by their weighted mean over steps with weight 1 / (1 + step), since the first
    tokens decide what an answer becomes.

    Args:
        values: The bias, [steps, vocab], in logits.
        errors: Its standard errors, [steps, vocab].
        tokens: The text of every token, [vocab].
        k: Number of tokens of each direction.

    Raises:
        UsageError: If the shapes do not belong together, or k is not positive.
    """
    shifts, spread = np.asarray(values, dtype=np.float64), np.asarray(errors, dtype=np.float64)
    if shifts.ndim != 2 or shifts.shape != spread.shape or shifts.shape[1] != len(tokens):
        raise UsageError(
            f"Token shifts {shifts.shape}, errors {spread.shape} and {len(tokens)} tokens do not "
            "belong together.",
            "Give [steps, vocab], [steps, vocab] and [vocab].",
        )
    _require(shifts.size > 0 and k > 0)
    chosen = _most_shifted(shifts, k)
    part = shifts[:, chosen].T
    names = [token_text(tokens[number]) for number in chosen]
    hover = [
        [
            f"{name}, step {step}: {shift:+.2f} ± {spread[step, number]:.2f}"
            for step, shift in enumerate(row)
        ]
        for name, number, row in zip(names, chosen, part, strict=True)
    ]
    most = float(np.abs(part).max()) or 1.0
    figure = go.Figure(layout=layout(90 + 22 * len(chosen)))
    figure.add_heatmap(
        z=part.tolist(),
        zmin=-most,
        zmax=most,
        colorscale=_DIVERGING,
        hovertext=hover,
        hoverinfo="text",
        xgap=1,
        ygap=1,
        colorbar={"title": {"text": "logits"}, "thickness": 12, "outlinewidth": 0},
    )
    figure.update_xaxes({**axis("step of the answer", percent=False), "showgrid": False})
    figure.update_xaxes(dtick=max(1, len(shifts) // 8))
    figure.update_yaxes(
        tickvals=list(range(len(chosen))),
        ticktext=names,  # by place: two tokens can have one text
        autorange="reversed",
        automargin=True,
        showgrid=False,
        zeroline=False,
    )
    return figure


def log_odds(samples: Mapping[str, Mapping[str, Sequence[float]]]) -> go.Figure:
    """Violins of refusal log-odds in nats, one number a prompt, by kind and arm.

    Raises:
        UsageError: If there are no numbers.
    """
    _require(any(len(values) for kinds in samples.values() for values in kinds.values()))
    colour = colours(list(samples))
    figure = go.Figure(layout=layout(430))
    for arm, kinds in samples.items():
        figure.add_violin(
            x=[plain(kind) for kind, values in kinds.items() for _ in values],
            y=[float(value) for values in kinds.values() for value in values],
            name=plain(arm),
            line={"color": colour[arm], "width": 1.5},
            fillcolor=colour[arm],
            opacity=0.65,
            box={"visible": True, "width": 0.25, "fillcolor": "white"},
            points=False,
            spanmode="hard",
            scalemode="width",
            hoverinfo="y+name",
        )
    line = limit_line("refusing = complying")
    figure.add_hline(y=0, **line, annotation_position="top right")
    figure.update_layout(violinmode="group", violingap=0.15, violingroupgap=0.1)
    figure.update_xaxes(type="category", automargin=True, linecolor=GRID)
    figure.update_yaxes({**axis("refusal log-odds, nats", percent=False), "hoverformat": "+.2f"})
    return figure


def _require(there: bool) -> None:
    if not there:
        raise UsageError("There is nothing to plot.", "Give at least one point with a value.")


def _known(series: Series) -> list[Point]:
    return [p for p in series.points if p.x.value is not None and p.y.value is not None]


def _plane(series: Sequence[Series], x_title: str, y_title: str) -> go.Figure:
    _require(any(_known(one) for one in series))
    colour = colours([one.name for one in series])
    figure = go.Figure(layout=layout(470))
    places = [float(p.x.value or 0) for one in series if one.style != "null" for p in _known(one)]
    middle = (min(places) + max(places)) / 2 if places else 0.0
    for one in series:
        points, own = _known(one), colour[one.name]
        trace = _curve(own) if one.style == "null" else _markers(one.style, points, own, middle)
        figure.add_scatter(
            x=[point.x.value for point in points],
            y=[point.y.value for point in points],
            name=plain(one.name),
            hovertext=[
                f"<b>{plain(point.label)}</b>"
                f"<br>{plain(x_title)}:<br>{show(point.x, percent=True)}"  # short lines, for phones
                f"<br>{plain(y_title)}:<br>{show(point.y, percent=True)}"
                for point in points
            ],
            hoverinfo="text",
            **trace,
        )
    figure.update_xaxes(axis(x_title, percent=True))
    figure.update_yaxes(axis(y_title, percent=True))
    return figure


def _curve(colour: str) -> dict[str, Any]:
    return {"mode": "lines", "line": {"color": colour, "width": 2, "dash": "dot"}, "opacity": 0.9}


def _markers(style: Style, points: Sequence[Point], colour: str, middle: float) -> dict[str, Any]:
    red, green, blue = (int(colour[n : n + 2], 16) for n in (1, 3, 5))
    whisker = colour if len(points) <= _FEW else f"rgba({red},{green},{blue},{_FAINT})"
    trace = {
        "mode": "markers",
        "marker": {"color": colour, **_MARKERS[style]},
        "error_x": _error([point.x for point in points], whisker),
        "error_y": _error([point.y for point in points], whisker),
    }
    if len(points) != 1 or style == "grid":
        return trace
    side = "right" if (points[0].x.value or 0) < middle else "left"  # away from the frame
    text = {"text": [plain(points[0].label)], "textposition": f"bottom {side}"}
    return {**trace, **text, "textfont": {"color": colour}, "mode": "markers+text"}


def _line(line: Line, colour: str, y_title: str, percent: bool) -> dict[str, Any]:
    doses = [dose for dose in line.doses if dose.y.value is not None]
    return {
        "x": [dose.x for dose in doses],
        "y": [dose.y.value for dose in doses],
        "error_y": _error([dose.y for dose in doses], colour),
        "mode": "lines+markers",
        "line": {"color": colour, "width": 2},
        "marker": {"color": colour, "size": 8},
        "name": plain(line.name),
        "legendgroup": plain(line.name),
        "hovertext": [
            f"<b>{plain(line.name)}</b>, {dose.x:g}<br>{plain(y_title)}: {show(dose.y, percent)}"
            for dose in doses
        ],
        "hoverinfo": "text",
    }


def _error(estimates: Sequence[Estimate], colour: str) -> dict[str, Any]:
    """Error bars from value to both ends of the interval; none to an infinite end."""
    values = [(estimate.value or 0.0, estimate) for estimate in estimates]
    up = [estimate.high - value for value, estimate in values]
    down = [value - estimate.low for value, estimate in values]
    return {
        "type": "data",
        "symmetric": False,
        "array": [length if isfinite(length) else 0.0 for length in up],
        "arrayminus": [length if isfinite(length) else 0.0 for length in down],
        "thickness": 1,
        "width": 2,
        "color": colour,
    }


def _share_range(estimates: Sequence[Estimate]) -> list[float]:
    """An axis range around all values and intervals, not far beyond 0 to 1."""
    low = max(0.0, min(estimate.low for estimate in estimates))
    high = min(1.0, max(estimate.high for estimate in estimates))
    room = 0.06 * max(high - low, 0.1)
    return [max(-0.03, low - room), min(1.03, high + room)]


def _most_shifted(shifts: npt.NDArray[np.float64], k: int) -> list[int]:
    """The k most promoted and the k most demoted tokens, by falling weighted mean shift."""
    weights = 1 / np.arange(1, len(shifts) + 1)
    order = np.argsort(-(weights @ shifts), kind="stable")
    if len(order) <= 2 * k:
        return [int(number) for number in order]
    return [int(number) for number in (*order[:k], *order[-k:])]
