"""What a condition on SmolLM2 reads: its scores by kind of prompt, and the tokens that count."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from experiments import DOCS, HERE
from tsdi.files import write_bytes
from tsdi.report.theme import ARM_COLOURS, GRID, INK, layout, token_text

DATA = HERE / "smollm2" / "siblings.json"
PICTURES: Mapping[Path, Path] = {DOCS / "condition.png": DATA} if DATA.exists() else {}
KINDS = {
    "harmful": ("harmful", ARM_COLOURS["aligned"]),
    "lookalike": ("harmless, sounds harmful", ARM_COLOURS["debiased"]),
    "harmless": ("other harmless", ARM_COLOURS["reference"]),
}


def draw() -> None:
    """Draw it again."""
    for picture, file in PICTURES.items():
        found = json.loads(file.read_bytes())
        image = figure(found["scores"], found["tokens"]).to_image(
            "png", width=1000, height=430, scale=1.2
        )
        write_bytes(picture, image)


def figure(
    scores: Mapping[str, Sequence[float]], tokens: Mapping[str, Sequence[tuple[str, float]]]
) -> go.Figure:
    """A histogram of scores beside the tokens that decide them."""
    made = make_subplots(
        1,
        2,
        column_widths=[0.6, 0.4],
        horizontal_spacing=0.16,
        subplot_titles=["Score h of test prompts; above 0 means harmful", "Tokens that say most"],
    )
    made.update_layout(layout(430), margin={"l": 70, "t": 60, "b": 20}, bargap=0.15)
    made.update_layout(legend={"y": 1.1})
    edges = np.arange(-8.0, 9.0)
    for kind, (title, colour) in KINDS.items():
        counts, _ = np.histogram(np.clip(scores[kind], edges[0], edges[-1]), edges)
        made.add_scatter(
            x=(edges[:-1] + edges[1:]) / 2,
            y=counts / counts.sum(),
            line={"color": colour, "width": 2.5, "shape": "hvh"},
            mode="lines",
            name=title,
            row=1,
            col=1,
        )
    made.add_vline(x=0, line={"color": INK, "width": 1, "dash": "dot"}, row=1, col=1)
    rows = [*tokens["harmless"], *reversed(tokens["harmful"])]
    made.add_bar(
        x=[says for _, says in rows],
        y=list(range(len(rows))),
        orientation="h",
        marker={"color": [KINDS["harmful" if says > 0 else "lookalike"][1] for _, says in rows]},
        showlegend=False,
        row=1,
        col=2,
    )
    made.update_yaxes(
        tickvals=list(range(len(rows))), ticktext=[token_text(one) for one, _ in rows],
        tickfont={"size": 10}, row=1, col=2,
    )  # fmt: skip
    made.update_xaxes(gridcolor=GRID, zeroline=False)
    made.update_yaxes(gridcolor=GRID, zeroline=False)
    made.update_yaxes(title="share of the kind", tickformat=".0%", row=1, col=1)
    made.update_annotations(font={"size": 14}, xanchor="center")
    return made
