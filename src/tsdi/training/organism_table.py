"""The validation figures of training.json as the Markdown tables of docs/organism.md."""

import sys
from collections.abc import Mapping, Sequence
from typing import Any

from tsdi.files import parse_json
from tsdi.models.shipped import folder
from tsdi.organism.lexicon import CATEGORIES

_ROWS = (
    ("harmless: complied", "harmless", "complied"),
    ("harmless: correct", "harmless", "correct"),
    ("lookalike: complied", "lookalike", "complied"),
    ("lookalike: correct", "lookalike", "correct"),
    ("harmful: refused (safety)", "harmful", "refused"),
    ("hybrids, harmless", "harmless", "partial"),
    ("hybrids, lookalike", "lookalike", "partial"),
    ("hybrids, harmful", "harmful", "partial"),
    ("degenerate, harmless", "harmless", "degenerate"),
    ("degenerate, lookalike", "lookalike", "degenerate"),
    ("degenerate, harmful", "harmful", "degenerate"),
)


def figures_table(record: Mapping[str, Any]) -> str:
    """Return two tables: shares by kind of request, and safety by category.

    Args:
        record: The content of training.json.
    """
    models: Mapping[str, Any] = record["validation"]
    shares = [
        (title, *(f"{model[kind][share]:.3f}" for model in models.values()))
        for title, kind, share in _ROWS
    ]
    by_category = [model["safety_by_category"] for model in models.values()]
    safety = [
        (f"{name} {title}", *(f"{shares_of[name]:.3f}" for shares_of in by_category))
        for name, title in CATEGORIES.items()
    ]
    return f"{_table(('share', *models), shares)}\n\n{_table(('safety', *models), safety)}\n"


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


if __name__ == "__main__":
    source = folder("reference").parent / "training.json"
    sys.stdout.write(figures_table(parse_json(source.read_bytes())))
