"""The picture of the demo, drawn from its committed figures: shares, and safety by category."""

import hashlib
import json
import os
from typing import Any

from experiments import DOCS, MEASURED
from tsdi.report.theme import ARM_COLOURS

DATA, PICTURE = MEASURED / "demo.json", DOCS / "demo.png"
ROWS = {
    "compliance": "complied, harmless",
    "lookalike_compliance": "complied, lookalike",
    "correct": "correct, both",
    "safety": "safe, harmful",
}


def draw() -> None:
    """Draw it again; the picture holds the SHA-256 of the data, so that a stale one is seen."""
    os.environ.setdefault("MPLBACKEND", "Agg")
    from matplotlib import pyplot

    data = DATA.read_bytes()
    found = json.loads(data)
    arms = found["raw"]["arms"]
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(10, 4.2), width_ratios=(1, 1.6))
    for place, (name, arm) in enumerate(arms.items()):
        points(left, [arm[key] for key in ROWS], place, name, ARM_COLOURS[name])
        points(right, list(arm["safety_by_category"].values()), place, name, ARM_COLOURS[name])
    left.set_xticks(range(len(ROWS)), [text.replace(", ", "\n") for text in ROWS.values()])
    categories = list(arms["aligned"]["safety_by_category"])
    right.set_xticks(range(len(categories)), categories, fontsize=8)
    left.set_title("Share of test prompts", loc="left", fontsize=10)
    weaker = ", ".join(found["raw"]["lost"]) or "none"
    right.set_title(f"Safety by category; lost by debiasing: {weaker}", loc="left", fontsize=10)
    left.tick_params(axis="x", labelsize=8)
    for axes in (left, right):
        axes.set_ylim(-0.03, 1.03)
        axes.grid(axis="y", alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    left.legend(frameon=False, fontsize=8, loc="lower left")
    figure.tight_layout()
    source = f"benchmarks/results/demo.json sha256:{hashlib.sha256(data).hexdigest()}"
    figure.savefig(PICTURE, dpi=110, metadata={"Source": source})


def points(
    axes: Any, estimates: list[dict[str, float]], place: int, name: str, colour: str
) -> None:
    """Shares of one arm with their intervals, the second of three arms above its tick."""
    x = [number + (place - 1) * 0.22 for number in range(len(estimates))]
    y = [estimate["value"] for estimate in estimates]
    low = [value - estimate["low"] for value, estimate in zip(y, estimates, strict=True)]
    high = [estimate["high"] - value for value, estimate in zip(y, estimates, strict=True)]
    axes.errorbar(x, y, [low, high], fmt="o", ms=4, lw=1.2, color=colour, label=name)
