"""Report of the bias monitor: refusal-token shift and compliance by training step."""

from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from tsdi.errors import UsageError
from tsdi.report.page import Alert, Part, Section, Table, write_report
from tsdi.report.theme import INK, OTHER_COLOURS, axis, layout, limit_line, plain
from tsdi.training.monitor_log import Measurement, MonitorSettings, read_log
from tsdi.training.recipe import Preference, run_names
from tsdi.training.run_folder import monitor_log
from tsdi.training.train import Trained

TITLE = "Bias monitor"
_COLOURS = (INK, *OTHER_COLOURS)
_SYMBOLS = ("circle", "square", "diamond", "triangle-up", "x", "star")
_DASHES = ("solid", "dash", "dot", "dashdot")
_SPREAD = 2.36  # t of 7 degrees of freedom at 97.5 %: the error is that of eight group means


def write_monitor_report(
    path: Path,
    runs: Mapping[str, Sequence[Measurement]],
    settings: MonitorSettings,
    provenance: Mapping[str, str],
) -> None:
    """Write the page of one stage's runs, whole or not at all; it holds no answers.

    Raises:
        UsageError: If there is no measurement.
        TsdiError: If the file cannot be written.
    """
    body: list[Part] = [
        Alert(f"{name}: refusal has become context-independent at step {steps[0]}.")
        for name, measured in runs.items()
        if (steps := [one.step for one in measured if one.alarm])
    ]
    body += [monitor_figure(runs, settings), _table(runs)]
    section = Section(
        "Refusal-token shift and compliance",
        "Above: how much random prompts, which ask for nothing, move the model towards answers that"
        " begin like a refusal. Below: how many harmless prompts it answers.",
        body,
        "A rising shift alone is a bias that subtracting it takes out. With compliance falling"
        " below its limit, too, the model refuses whatever it is asked.",
    )
    write_report(path, TITLE, [section], provenance)


def write_monitor_reports(trained: Trained) -> list[Path]:
    """Write a page for every stage that was monitored, into the folder of logs."""
    pages, settings = [], trained.settings
    for name, stage in trained.recipe.stages.items():
        if isinstance(stage, Preference) and stage.monitor is not False:
            logs = {run: monitor_log(settings.out, run) for run in run_names(name, stage)}
            runs = {run: read_log(log) for run, log in logs.items() if log.exists()}
            if runs:
                pages.append(settings.out / "logs" / f"{name}.monitor.html")
                made = {"command": settings.command, "seed": str(settings.seed)}
                write_monitor_report(pages[-1], runs, stage.monitor, made)
    return pages


def monitor_figure(
    runs: Mapping[str, Sequence[Measurement]], settings: MonitorSettings
) -> go.Figure:
    """Refusal-token shift (above) and compliance (below) by step, with the limits of the alarm.

    Raises:
        UsageError: If there is no measurement.
    """
    known = {name: measured for name, measured in runs.items() if measured}
    if not known:
        raise UsageError("The bias monitor has measured nothing yet.", "Train for longer.")
    figure = make_subplots(rows=2, cols=1, shared_xaxes=True, vertical_spacing=0.08)
    figure.update_layout(layout(560), showlegend=len(known) > 1)
    for number, (name, measured) in enumerate(known.items()):
        _draw(figure, number, name, measured)
    first = next(iter(known.values()))[0]
    floor = settings.compliance_floor * first.compliance
    limits = ((settings.shift_limit, f"{settings.shift_limit:g} nats"), (floor, f"{floor:.0%}"))
    for row, (place, text) in enumerate(limits, start=1):
        line = limit_line(f"limit {text}")
        figure.add_hline(y=place, row=row, col=1, **line, annotation_position="top left")
    figure.update_xaxes(axis("", percent=False))
    figure.update_xaxes(axis("optimiser step", percent=False), row=2)
    figure.update_yaxes(axis("refusal-token shift, nats", percent=False), row=1)
    figure.update_yaxes({**axis("compliance", percent=True), "range": [-0.03, 1.05]}, row=2)
    return figure


def _draw(figure: go.Figure, number: int, name: str, measured: Sequence[Measurement]) -> None:
    colour = _COLOURS[number % len(_COLOURS)]
    look = {
        "mode": "lines+markers",
        "line": {"color": colour, "width": 2, "dash": _DASHES[number % len(_DASHES)]},
        "marker": {"color": colour, "size": 8, "symbol": _SYMBOLS[number % len(_SYMBOLS)]},
        "name": plain(name),
        "legendgroup": plain(name),
        "hoverinfo": "text",
        "x": [one.step for one in measured],
    }
    figure.add_scatter(
        **look,
        y=[one.refusal_shift for one in measured],
        error_y={
            "array": [_SPREAD * one.refusal_shift_error for one in measured],
            "color": colour,
            "thickness": 1,
            "width": 3,
        },
        hovertext=[
            f"<b>{plain(name)}</b>, step {one.step}<br>shift {one.refusal_shift:+.2f}"
            f" ± {_SPREAD * one.refusal_shift_error:.2f} nats<br>bias {one.bias_norm:.2f}"
            for one in measured
        ],
        row=1,
        col=1,
    )
    figure.add_scatter(
        **look,
        y=[one.compliance for one in measured],
        hovertext=[
            f"<b>{plain(name)}</b>, step {one.step}<br>answered {one.compliance:.0%},"
            f" refused {one.refused:.0%}, empty {one.degenerate:.0%}"
            for one in measured
        ],
        showlegend=False,
        row=2,
        col=1,
    )


def _table(runs: Mapping[str, Sequence[Measurement]]) -> Table:
    header = ["run", "step", "shift", "bias", "answered", "refused", "empty", "time"]
    rows = [
        [
            name,
            str(one.step),
            f"{one.refusal_shift:+.2f} ± {_SPREAD * one.refusal_shift_error:.2f}",
            f"{one.bias_norm:.2f}",
            *(f"{share:.0%}" for share in (one.compliance, one.refused, one.degenerate)),
            "-" if one.share_of_time is None else f"{one.share_of_time:.1%}",
        ]
        for name, measured in runs.items()
        for one in measured
    ]
    note = (
        "Shift: nats, with its 95 % interval over random prompts. Bias: root mean square, logits."
        " Time: the monitor's, as a share of the training's so far."
    )
    marked = [number for number, one in enumerate(chain(*runs.values())) if one.alarm]
    return Table(header, rows, note, marked)
