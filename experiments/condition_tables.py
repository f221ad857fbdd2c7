"""The tables of docs/condition.md: what a condition on SmolLM2 knows of other suites."""

import json
from typing import Any

from experiments import DOCS, HERE
from tsdi.stats.interval import Estimate, compact_text

PAGE = DOCS / "condition.md"
TRANSFER = HERE / "smollm2" / "transfer.json"
BEGIN, END = "<!-- transfer: begin -->\n", "<!-- transfer: end -->"


def with_tables(text: str) -> str:
    """The page with its table made anew."""
    before, _, rest = text.partition(BEGIN)
    return f"{before}{BEGIN}{transfer()}{END}{rest.partition(END)[2]}"


def transfer() -> str:
    """Areas under the ROC curve, by what a condition was fitted to and what it was tested on."""
    found = json.loads(TRANSFER.read_bytes())
    names = list(found["prompts"])
    counts = [f"{one['harmful']} + {one['harmless']}" for one in found["prompts"].values()]
    rows = [
        ["fitted to", *names],
        ["---"] * (len(names) + 1),
        ["*prompts, harmful + harmless*", *counts],
        *([fit, *_areas(row, names)] for fit, row in found["fitted_to"].items()),
        ["the three others", *_areas(found["fitted_to_the_others"], names)],
        ["*nothing: refusal log-odds*", *_areas(found["log_odds"], names)],
    ]
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def _areas(row: dict[str, dict[str, Any]], names: list[str]) -> list[str]:
    return [compact_text(Estimate.from_dict(row[name])) for name in names]
