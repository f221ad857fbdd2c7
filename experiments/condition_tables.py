"""The tables of docs/condition.md: what a condition does, and what it knows of other suites."""

import json
from typing import Any

from experiments import DOCS, HERE, MEASURED
from experiments.marks import table, with_parts
from tsdi.stats.interval import Estimate, compact_share, compact_text
from tsdi.stats.seeds import mean_interval
from tsdi.study.fronts import within

PAGE = DOCS / "condition.md"
ANSWERS = MEASURED / "condition.json"
TRANSFER = HERE / "smollm2" / "transfer.json"
SIBLINGS = HERE / "organism-condition" / "siblings.json"
USED = {
    ("the model", "itself"): ("step200", "step200"),
    ("the model before its safety step", "the model"): ("reference", "step200"),
    ("the model after fewer steps", "the model"): ("step60", "step200"),
    ("the model", "that after fewer steps"): ("step200", "step60"),
    ("the model", "that before its safety step"): ("step200", "reference"),
    ("the model", "that of another training seed"): ("step200", "another seed"),
}
"""Models of a training seed: those that conditions are fitted to, and used on."""
ARMS = {
    "0": "0: the model as it is",
    "1": "1 for all",
    "2": "2 for all",
    "0 to 1": "by prompt, `--low 0 --high 1`",
    "-1 to 2": "by prompt, `--low -1 --high 2`",
    "-1 to 2, without O3": "the same, fitted without labels of O3",
}


def with_tables(text: str) -> str:
    """The page with its tables made anew."""
    parts = {"answers": answers(), "transfer": transfer(), "siblings": siblings()}
    return with_parts(text, parts)


def answers() -> str:
    """Shares of answers by strength, on the shipped organisms."""
    found = json.loads(ANSWERS.read_bytes())["raw"]["arms"]
    rows = [["strength", "lookalikes answered", "right answers", "safe", "safe, O3"]]
    for name, title in ARMS.items():
        arm = found[name]
        shares = [arm["lookalike_compliance"], arm["correct"], arm["safety"]]
        shares.append(arm["safety_by_category"]["O3"])
        rows.append([title, *(compact_text(Estimate.from_dict(share)) for share in shares)])
    return table(rows)


def transfer() -> str:
    """Areas under the ROC curve, by what a condition was fitted to and what it was tested on."""
    found = json.loads(TRANSFER.read_bytes())
    names = list(found["prompts"])
    counts = [f"{one['harmful']} + {one['harmless']}" for one in found["prompts"].values()]
    rows = [
        ["fitted to", *names],
        ["*prompts, harmful + harmless*", *counts],
        *([fit, *_areas(row, names)] for fit, row in found["fitted_to"].items()),
        ["the three others", *_areas(found["fitted_to_the_others"], names)],
        ["*nothing: refusal log-odds*", *_areas(found["log_odds"], names)],
    ]
    xstest = found["xstest"]
    curve = ", ".join(f"{n} {compact_share(one['value'])}" for n, one in xstest["labels"].items())
    left = {n: compact_text(Estimate.from_dict(one)) for n, one in xstest["left_out"].items()}
    worst = min(xstest["left_out"], key=lambda name: float(xstest["left_out"][name]["value"]))
    return (
        f"{table(rows)}\nXSTest by labels of each kind: {curve}; with shuffled labels"
        f" {compact_text(Estimate.from_dict(xstest['shuffled']))}.\n"
        f"Worst of its types where that was left out: `{worst}`, {left[worst]}.\n"
    )


def siblings() -> str:
    """Areas under the ROC curve, by the model that a condition is fitted to, and used on."""
    found = json.loads(SIBLINGS.read_bytes())
    seeds, main = found["seeds"], found["main"]
    areas = {
        titles: [seed["areas"][fit][on] for seed in seeds] for titles, (fit, on) in USED.items()
    }
    areas["*nothing: refusal log-odds*", "the model"] = [seed["log_odds"][main] for seed in seeds]
    rows = [["fitted to", "used on", "area", "least of the seeds"]]
    rows += [
        [*titles, compact_text(within(0.0, mean_interval(values))), compact_share(min(values))]
        for titles, values in areas.items()
    ]
    counts = seeds[0]["labels"]
    curve = ", ".join(
        f"{n} {compact_share(sum(seed['labels'][n] for seed in seeds) / len(seeds))}"
        for n in counts
    )
    return f"{table(rows)}\nUsed on itself, by labels of each kind: {curve}.\n"


def _areas(row: dict[str, dict[str, Any]], names: list[str]) -> list[str]:
    return [compact_text(Estimate.from_dict(row[name])) for name in names]
