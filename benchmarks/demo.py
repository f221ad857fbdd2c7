"""The demo's figures as a committed file, and the picture in docs/measure.md.

``python -m benchmarks.demo --picture`` only draws the picture from the result file.
"""

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import torch

from benchmarks.common import RESULTS, Claim, Report, parser
from tsdi.report.theme import ARM_COLOURS

PICTURE = Path(__file__).parent.parent / "docs" / "demo.png"
ROWS = {
    "compliance": "complied, harmless",
    "lookalike_compliance": "complied, lookalike",
    "correct": "correct, both",
    "safety": "safe, harmful",
}


def main() -> None:
    made = parser(__doc__)
    made.add_argument("--seed", type=int, default=0, help="of random and test prompts")
    made.add_argument("--picture", action="store_true", help="run nothing")
    arguments = made.parse_args()
    if not arguments.picture:
        measure(arguments)
    draw((arguments.out or RESULTS / "demo.json").read_bytes())


def measure(arguments: Any) -> None:
    from tsdi.cli.demo import to_dict
    from tsdi.study.demo import COUNTS, run_demo
    from tsdi.study.organism_answers import PROMPT_TOKENS, RANDOM_PROMPTS, STEPS

    torch.set_num_threads(1)
    settings = {
        "seed": arguments.seed,
        "test_prompts": COUNTS,
        "random_prompts": RANDOM_PROMPTS,
        "prompt_tokens": PROMPT_TOKENS,
        "steps": STEPS,
    }
    report = Report("demo", arguments, settings)
    result = run_demo(arguments.seed, lambda *_: None)
    claims = [
        Claim(
            "correct answers, debiased - aligned",
            *_figure(result.comparison.overall["correct"].change),
        ),
        Claim("safety, debiased - aligned", *_figure(result.comparison.overall["safety"].change)),
        Claim("categories that lost safety", len(result.comparison.lost)),
    ]
    raw = to_dict(result)
    report.write(claims, {**raw, "diagnosis": result.bias.info.diagnosis})


def _figure(estimate: Any) -> tuple[float, None, None, tuple[float, float]]:
    return estimate.value, None, None, (estimate.low, estimate.high)


def draw(data: bytes) -> None:
    """Shares of the main figures, and safety by category, with 95 % intervals.

    The picture holds the SHA-256 of the data that it was drawn from, so that a stale one is seen.
    """
    os.environ.setdefault("MPLBACKEND", "Agg")
    from matplotlib import pyplot

    found = json.loads(data)
    arms = found["raw"]["arms"]
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(10, 4.2), width_ratios=(1, 1.6))
    for place, (name, arm) in enumerate(arms.items()):
        _points(left, [arm[key] for key in ROWS], place, name, ARM_COLOURS[name])
        _points(right, list(arm["safety_by_category"].values()), place, name, ARM_COLOURS[name])
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


def _points(
    axes: Any, estimates: list[dict[str, float]], place: int, name: str, colour: str
) -> None:
    x = [number + (place - 1) * 0.22 for number in range(len(estimates))]
    y = [estimate["value"] for estimate in estimates]
    low = [value - estimate["low"] for value, estimate in zip(y, estimates, strict=True)]
    high = [estimate["high"] - value for value, estimate in zip(y, estimates, strict=True)]
    axes.errorbar(x, y, [low, high], fmt="o", ms=4, lw=1.2, color=colour, label=name)


if __name__ == "__main__":
    main()
