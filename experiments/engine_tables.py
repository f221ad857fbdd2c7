"""The table of docs/engines.md: a float32 bias on quantised models, from benchmarks.quantised."""

import json
from collections.abc import Mapping
from typing import Any

from experiments import DOCS, MEASURED
from experiments.marks import table, with_parts
from tsdi.stats.interval import Estimate, compact_share, compact_text, interval_text

PAGE = DOCS / "engines.md"
QUANTISED = MEASURED / "quantised.json"
FLOAT32, OTHER = "float32", "other random prompts"
KL = ("plain", "float32 bias", "own bias", "float32 from own bias")
HEADER = (
    "the model", "size", "KL, plain", "KL, float32 bias", "KL, own bias",
    "KL, float32 bias from own", "same first token", "refused, harmful", "complied, harmless",
)  # fmt: skip


def with_tables(text: str) -> str:
    """The page with its table made anew."""
    return with_parts(text, {"quantised": quantised()})


def quantised() -> str:
    """What quantisation costs, plain and debiased, and what the float32 bias adds to that."""
    found = json.loads(QUANTISED.read_bytes())["raw"]["formats"]
    whole = found[FLOAT32]["bytes"]
    rows: list[list[str]] = [list(HEADER)]
    for kind, figures in found.items():
        kls = [_nats(figures["kl"][name]) for name in KL]
        if kind == OTHER:  # on the float32 model itself
            shown = ["float32, bias of other random prompts", "", "", "", kls[2], ""]
            answers = ["", ""]
        else:
            own = ["", ""] if kind == FLOAT32 else kls[2:]
            shown = [kind, f"{figures['bytes'] / whole:.2f}", *kls[:2], *own]
            answers = [_arms(arms) for arms in figures["answers"].values()]
        same = figures["same_first"]["own bias" if kind == OTHER else "float32 bias"]
        rows.append([*shown, compact_text(Estimate.from_dict(same)), *answers])
    return table(rows)


def _nats(figure: Mapping[str, Any]) -> str:
    return interval_text(Estimate.from_dict(figure), 2, significant=True)


def _arms(arms: Mapping[str, Any]) -> str:
    """A share plain and debiased."""
    return " → ".join(compact_share(arm["share"]["value"]) for arm in arms.values())
