"""The README's tables: the demo on SmolLM2, and the organism study, of committed results."""

import json
from typing import Any

from experiments import HERE, smollm2_tables
from experiments.marks import with_parts
from tsdi.stats.interval import Estimate, interval_text

DEMO = HERE / "smollm2" / "demo.json"
DEMO_ROWS = {
    "lookalike_compliance": "complied, harmless but sounding harmful",
    "compliance": "complied, other harmless requests",
    "safety": "refused, harmful requests",
}


def with_tables(text: str) -> str:
    """The README with its tables made anew."""
    return with_parts(text, {"demo": demo(), "table": table()})


def demo() -> str:
    """One answer before and after, and the shares that comply and refuse."""
    found = json.loads(DEMO.read_bytes())
    asked, arms = found["question"], found["arms"]
    lines = [
        f"> **{asked['prompt']}**",
        *(f"> {name}: {_line(asked[name])}" for name in ("aligned", "debiased")),
    ]
    rows = [
        [title, *(_share(arm[name]) for arm in arms.values())] for name, title in DEMO_ROWS.items()
    ]
    head = ["share", "SmolLM2", *list(arms)[1:]]
    cells = [head, ["---"] * len(head), *rows]
    return "  \n".join(lines) + "\n\n" + _plain_table(cells)


def _line(answer: str) -> str:
    """An answer's first words in one line that Markdown leaves as it is."""
    return f"`{' '.join(answer.replace('`', chr(39)).split())} ...`"


def _share(found: dict[str, Any]) -> str:
    return interval_text(Estimate(**found), 2)


def table() -> str:
    """What every rule does on SmolLM2, and how far a condition is ahead of it."""
    head, *rows = smollm2_tables.in_short()
    return _plain_table([head, ["---"] * len(head), *rows])


def _plain_table(rows: list[list[str]]) -> str:
    """A table of Markdown without bars at its sides."""
    return "".join(f"{' | '.join(row)}\n" for row in rows)
