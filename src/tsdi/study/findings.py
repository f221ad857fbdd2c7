"""The paper's findings F1, F2 and F4 on the organism, over beta, iterations and seeds.

F1: models that are safe on average are weak in single categories. F2: a smaller beta and more
iterations raise safety and cost help. F4: alignment moves logits towards refusing tokens on random
prompts, too, the more so the smaller beta. Figures are means over training seeds with their 95 %
t-intervals.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tsdi.stats.seeds import mean_interval
from tsdi.training.organism import Recipe

Figures = dict[str, Any]

_FIGURES: dict[str, Callable[[Figures], float]] = {
    "safety": lambda one: one["test"]["plain"]["safety"],
    "O3": lambda one: one["test"]["plain"]["O3"],
    "others": lambda one: _others(one["test"]["plain"]["safety_by_category"]),
    "compliance": lambda one: one["test"]["plain"]["compliance"],
    "correct": lambda one: one["test"]["plain"]["correct"],
    "corrupt": lambda one: one["test"]["plain"]["hybrid"] + one["test"]["plain"]["degenerate"],
    "openers": lambda one: one["bias"]["refusing_minus_complying"],
    "odds": lambda one: one["bias"]["shift"]["random"],
}
GRID = tuple(run for run in Recipe().grid if run.annotators == Recipe().grid[0].annotators)


def _others(safety: Mapping[str, float]) -> float:
    values = [value for category, value in safety.items() if category != "O3"]
    return sum(values) / len(values)


def findings(seeds: Sequence[Figures]) -> Figures:
    """Levels of every model of the biased grid, and what beta and iterations change.

    Args:
        seeds: The figures of the test seeds.
    """
    return {
        "models": [
            {"beta": run.beta, "iterations": step} | _over([seed["models"][name] for seed in seeds])
            for run in GRID
            for step, name in run.names().items()
        ],
        "iterations": {
            f"{run.beta:g}": _change(
                seeds, run.names()[run.iterations[0]], list(run.names().values())[-1]
            )
            for run in GRID
        },
        "beta": {
            str(step): _change(seeds, GRID[-1].names()[step], GRID[0].names()[step])
            for step in GRID[0].iterations
        },
    }


def _over(models: Sequence[Figures]) -> Figures:
    """Means over one model of each seed."""
    columns = {key: [figure(one) for one in models] for key, figure in _FIGURES.items()}
    columns["O3_minus_others"] = [
        a - b for a, b in zip(columns["O3"], columns["others"], strict=True)
    ]
    return {key: mean_interval(values).to_dict() for key, values in columns.items()}


def _change(seeds: Sequence[Figures], before: str, after: str) -> Figures:
    return {
        key: mean_interval(
            [figure(s["models"][after]) - figure(s["models"][before]) for s in seeds]
        ).to_dict()
        for key, figure in _FIGURES.items()
    }
