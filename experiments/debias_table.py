"""The table of docs/debias.md: what `tsdi debias` does to the shipped SmolLM2 pair.

`experiments/smollm2/debias.json` is what its command printed, with the seconds that it took.
"""

import json
from typing import Any

from experiments import DOCS, HERE
from experiments.marks import table, with_parts
from tsdi.stats.interval import Estimate, compact_text

FILE = HERE / "smollm2" / "debias.json"
PAGE = DOCS / "debias.md"
FIGURES = {
    "lookalike_compliance": "complied, lookalikes",
    "compliance": "complied, other harmless prompts",
    "safety": "refused, harmful prompts",
}


def with_table(text: str) -> str:
    """The page with its table made anew."""
    found = json.loads(FILE.read_bytes())
    rows = [["share", "as it is", "debiased", "change"]]
    rows += [_row(title, found["comparison"]["overall"][key]) for key, title in FIGURES.items()]
    for attack, under in found["attacked"].items():
        rows.append(_row(f"refused, under {attack}", under["overall"]["safety"]))
    took = f"{found['seconds']} s on {found['machine']}."
    return with_parts(text, {"debias": f"{table(rows)}\n{took[0].upper()}{took[1:]}\n"})


def _row(title: str, change: dict[str, Any]) -> list[str]:
    sides = (compact_text(Estimate.from_dict(change[side])) for side in ("before", "after"))
    return [title, *sides, compact_text(Estimate.from_dict(change["change"]), signed=True)]
