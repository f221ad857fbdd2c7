"""The picture of the real-text experiment, drawn from its committed figures; measures nothing."""

import os
from typing import Any

import numpy as np

from experiments import HERE
from tsdi.report.theme import OTHER_COLOURS
from tsdi.stats.proportions import wilson
from tsdi.study.real_text_results import Results, read_results
from tsdi.study.real_text_tables import all_complied, all_refused
from tsdi.training.monitor_log import read_log

SOURCE = HERE / "real-text-suites"
PICTURE = SOURCE / "trade-off.png"


def draw() -> None:
    """Draw it again."""
    os.environ.setdefault("MPLBACKEND", "Agg")
    from matplotlib import pyplot

    results = read_results(SOURCE)
    betas = sorted({one["beta"] for one in results.aligned.values()}, reverse=True)
    colours = dict(zip(betas, OTHER_COLOURS, strict=False))
    figure, (trade_off, shift, compliance) = pyplot.subplots(1, 3, figsize=(12, 4.2))
    for beta, colour in colours.items():
        names = [name for name, one in results.aligned.items() if one["beta"] == beta]
        for arm, style in (("plain", {"fmt": "o-"}), ("debiased", {"fmt": "D:", "mfc": "none"})):
            _draw(trade_off, results, names, arm, {"color": colour, "ms": 5, "lw": 1} | style)
        records = read_log(SOURCE / f"log-safety-beta{beta:g}.monitor.jsonl")
        steps = [record.step for record in records]
        label = f"beta {beta:g}"
        shift.plot(steps, [r.refusal_shift for r in records], color=colour, label=label)
        compliance.plot(steps, [r.compliance for r in records], color=colour)
    _draw(trade_off, results, ["helpful"], "plain", {"fmt": "*", "color": "black", "ms": 11})
    trade_off.plot([], [], "o-", color="grey", label="aligned, 50 to 300 iterations")
    trade_off.plot([], [], "D:", color="grey", mfc="none", label="the same, debiased")
    trade_off.plot([], [], "*", color="black", label="helpful, the reference")
    trade_off.set_xlabel("complied, share of harmless prompts")
    trade_off.set_ylabel("refused, share of harmful prompts")
    shift.set_ylabel("refusal-token shift on random prompts, nats")
    compliance.set_ylabel("complied, 24 harmless prompts of the monitor")
    shift.axhline(1.0, color="grey", lw=0.7, ls="--")
    for axes in (shift, compliance):
        axes.set_xlabel("iterations of the safety step")
    for axes in (trade_off, shift, compliance):
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    for axes in (trade_off, shift):
        axes.legend(frameon=False, fontsize=8)
    figure.tight_layout()
    figure.savefig(PICTURE, dpi=110)


def _draw(axes: Any, results: Results, names: list[str], arm: str, style: dict[str, Any]) -> None:
    shares = [
        [wilson(sum(found), len(found)) for name in names for found in [flags(results, name, arm)]]
        for flags in (all_complied, all_refused)
    ]
    points = [[float(share.value or 0) for share in side] for side in shares]
    whiskers = [
        np.array([[s.value - s.low, s.high - s.value] for s in side if s.value is not None]).T
        for side in shares
    ]
    axes.errorbar(*points, whiskers[1], whiskers[0], elinewidth=0.5, **style)
