"""The pictures of the two demos: shares of answers of every arm, with their intervals."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from experiments import DOCS, HERE, MEASURED
from tsdi.files import write_bytes
from tsdi.report.theme import ARM_COLOURS, GRID, axis, layout

ORGANISM, SMOLLM2 = MEASURED / "demo.json", HERE / "smollm2" / "demo.json"
PICTURES = {DOCS / "demo.png": ORGANISM, DOCS / "smollm2.png": SMOLLM2}
"""Each picture, and the committed figures that it is drawn from."""
ROWS = {
    "compliance": "complied,<br>harmless",
    "lookalike_compliance": "complied,<br>lookalike",
    "correct": "correct,<br>both",
    "safety": "safe,<br>harmful",
}
Share = Mapping[str, float]


@dataclass(frozen=True)
class Panel:
    """One half of a picture: a title, and by arm the shares that stand above the names."""

    title: str
    names: Sequence[str]
    shares: Mapping[str, Sequence[Share]]


def draw() -> None:
    """Draw both again."""
    for picture, file in PICTURES.items():
        found = json.loads(file.read_bytes())
        panels = organism(found["raw"]) if file == ORGANISM else smollm2(found)
        image = beside(panels).to_image("png", width=1000, height=430, scale=1.2)
        write_bytes(Path(picture), image)


def organism(found: Mapping[str, Any]) -> tuple[Panel, Panel]:
    """Shares of test prompts, and safety by category, of the demo on the model organism."""
    arms = found["arms"]
    lost = ", ".join(found["lost"]) or "none"
    every = {name: list(arm["safety_by_category"].values()) for name, arm in arms.items()}
    return (
        Panel(
            "Share of test prompts",
            list(ROWS.values()),
            {name: [arm[key] for key in ROWS] for name, arm in arms.items()},
        ),
        Panel(
            f"Safety by category; lost by debiasing: {lost}",
            list(arms["aligned"]["safety_by_category"]),
            every,
        ),
    )


def smollm2(found: Mapping[str, Any]) -> tuple[Panel, Panel]:
    """Compliance with lookalikes by type, and refusals by category, of the demo on SmolLM2."""
    arms = found["arms"]
    types = [name for name, kind in found["kinds"].items() if kind == "lookalike"]
    categories = list(arms["aligned"]["safety_by_category"])

    def shares(whole: str, by: str, names: Sequence[str]) -> dict[str, list[Share]]:
        return {arm: [own[whole], *map(own[by].get, names)] for arm, own in arms.items()}

    return (
        Panel(
            "Complied with harmless requests that sound harmful",
            ["all", *types],
            shares("lookalike_compliance", "compliance_by_category", types),
        ),
        Panel(
            "Refused harmful requests, by category",
            ["all", *categories],
            shares("safety", "safety_by_category", categories),
        ),
    )


def beside(panels: Sequence[Panel]) -> go.Figure:
    """Panels beside each other, the arms' markers side by side above each name."""
    figure = make_subplots(1, len(panels), subplot_titles=[one.title for one in panels])
    figure.update_layout(layout(430), margin={"l": 20, "t": 60, "b": 20})
    figure.update_layout(legend={"y": 1.1})
    for column, panel in enumerate(panels, start=1):
        for place, (arm, shares) in enumerate(panel.shares.items()):
            value = [share["value"] for share in shares]
            both = list(zip(value, shares, strict=True))
            figure.add_scatter(
                x=[number + (place - 1) * 0.24 for number in range(len(shares))],
                y=value,
                error_y={
                    "array": [share["high"] - at for at, share in both],
                    "arrayminus": [at - share["low"] for at, share in both],
                    "thickness": 1.5,
                    "width": 0,
                },
                mode="markers",
                marker={"color": ARM_COLOURS[arm], "size": 7},
                name=arm,
                showlegend=column == 1,
                row=1,
                col=column,
            )
        places = list(range(len(panel.names)))
        crowded = max(len(name.partition("<br>")[0]) for name in panel.names) > 9
        figure.update_xaxes(
            axis("", percent=False), tickvals=places, ticktext=panel.names, col=column, ticks="",
            showgrid=False, tickfont={"size": 11 if crowded else 10},
            tickangle=-40 if crowded else 0,
        )  # fmt: skip
        figure.update_yaxes(axis("", percent=False), range=[-0.03, 1.04], gridcolor=GRID)
    figure.update_annotations(font={"size": 14}, xanchor="center")
    return figure
