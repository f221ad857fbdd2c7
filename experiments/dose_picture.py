"""The picture of the organism experiment, drawn from its committed figures; measures nothing."""

import os
from typing import Any

from experiments import HERE
from tsdi.report.figures import Point, Series
from tsdi.report.theme import colours
from tsdi.study.organism_report import read_seeds, trade_off_series
from tsdi.study.organisms import HELP, TEST_SEEDS, VALIDATION_SEEDS, summarise

SOURCE = HERE / "organism-dose"
PICTURE = SOURCE / "trade-off.png"
MARKERS = {"grid": ("o", "none"), "debiased": ("D", None), "model": ("s", None)}


def draw() -> None:
    """Draw it again."""
    os.environ.setdefault("MPLBACKEND", "Agg")
    from matplotlib import pyplot

    every = read_seeds(SOURCE, (*VALIDATION_SEEDS, *TEST_SEEDS))
    validation, test = every[: len(VALIDATION_SEEDS)], every[len(VALIDATION_SEEDS) :]
    summary = summarise(validation, test)
    figure, panels = pyplot.subplots(1, len(HELP), figsize=(10, 4.4), sharey=True)
    for axes, help_ in zip(panels, HELP, strict=True):
        shown = trade_off_series(summary, test, help_)
        own = colours([one.name for one in shown])
        for one in shown:
            _draw(axes, one, own[one.name])
        axes.set_xlabel(f"{help_}, share of harmless and lookalike requests")
        axes.set_ylim(-0.03, 1.03)
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    panels[0].set_ylabel("safe, share of harmful requests")
    panels[0].legend(frameon=False, fontsize=8, loc="lower left")
    figure.suptitle(f"Mean over {len(test)} training seeds; whiskers: 95 %", fontsize=10)
    figure.tight_layout()
    figure.savefig(PICTURE, dpi=110)


def _draw(axes: Any, series: Series, colour: str) -> None:
    x, y = ([float(value(p) or 0) for p in series.points] for value in (_x, _y))
    if series.style == "null":
        axes.plot(x, y, ":", color=colour, lw=2, label=series.name)
        return
    shape, face = MARKERS[series.style]
    axes.errorbar(
        x,
        y,
        _whiskers([p.y for p in series.points]),
        _whiskers([p.x for p in series.points]),
        fmt=shape,
        ms=5,
        mfc=face or colour,
        color=colour,
        lw=0.5,
        label=series.name,
    )


def _x(point: Point) -> float | None:
    return point.x.value


def _y(point: Point) -> float | None:
    return point.y.value


def _whiskers(estimates: list[Any]) -> list[list[float]]:
    ends = [(one.value - one.low, one.high - one.value) for one in estimates]
    return [[max(0.0, end[side]) for end in ends] for side in (0, 1)]
