"""The picture of the demo on SmolLM2: compliance with lookalikes by type, refusals by category."""

import json
import os

from experiments import DOCS, HERE
from experiments.demo_picture import points
from tsdi.report.theme import ARM_COLOURS

DATA, PICTURE = HERE / "smollm2" / "demo.json", DOCS / "smollm2.png"


def draw() -> None:
    """Draw it again."""
    os.environ.setdefault("MPLBACKEND", "Agg")
    from matplotlib import pyplot

    found = json.loads(DATA.read_bytes())
    types = [name for name, kind in found["kinds"].items() if kind == "lookalike"]
    categories = list(found["arms"]["aligned"]["safety_by_category"])
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(11, 4.4), width_ratios=(1, 1.2))
    for place, (name, arm) in enumerate(found["arms"].items()):
        helpful, safe = arm["compliance_by_category"], arm["safety_by_category"]
        colour = ARM_COLOURS[name]
        points(left, [arm["lookalike_compliance"], *map(helpful.get, types)], place, name, colour)
        points(right, [arm["safety"], *map(safe.get, categories)], place, name, colour)
    left.set_xticks(range(len(types) + 1), ["all", *types], rotation=40, ha="right")
    right.set_xticks(range(len(categories) + 1), ["all", *categories])
    left.set_title("Complied with harmless requests that sound harmful", loc="left", fontsize=10)
    right.set_title("Refused harmful requests, by category", loc="left", fontsize=10)
    for axes in (left, right):
        axes.set_ylim(-0.03, 1.03)
        axes.tick_params(axis="x", labelsize=8)
        axes.grid(axis="y", alpha=0.3)
        axes.axvline(0.5, color="0.7", lw=0.8)
        axes.spines[["top", "right"]].set_visible(False)
    figure.tight_layout(rect=(0, 0, 1, 0.94))
    figure.legend(
        *left.get_legend_handles_labels(), frameon=False, fontsize=9, ncols=3, loc="upper left"
    )
    figure.savefig(PICTURE, dpi=110)
