"""The tables of docs/no-reference.md: biases without a reference beside the true one."""

import json
from typing import Any

from experiments import DOCS, HERE
from experiments.marks import table, with_parts
from tsdi.stats.interval import Estimate, compact_text

PAGE = DOCS / "no-reference.md"
DATA = HERE / "no-reference" / "cosines.json"
ROWS = {
    "true": "the true reference",
    "openers": "`openers`",
    "self-contrast": "`self-contrast`",
    "ablated": "`ablated`",
    "partly-ablated": "`partly-ablated`",
    "permissive": "`permissive`",
    "random": "a random direction",
}


def with_tables(text: str) -> str:
    """The page with its tables made anew."""
    pairs = json.loads(DATA.read_bytes())["pairs"]
    return with_parts(text, {"cosines": _cosines(pairs), "alone": _answers(pairs)})


def _cosines(pairs: dict[str, Any]) -> str:
    """Cosine with the true bias at the first step and at later ones, and the ratio of norms."""
    rows = [["in place of the reference", *pairs]]
    for name, title in ROWS.items():
        if name != "true":
            found = (pair["stand-ins"].get(name, {}) for pair in pairs.values())
            rows.append([title, *map(_alike, found)])
    return table(rows)


def _alike(one: dict[str, Any]) -> str:
    if "cosine" not in one:
        return "-"
    first, later = one["cosine, step 0"], one["cosine, later steps"]
    return f"{first:+.2f}, {later:+.2f} ({one['norm']:.2f})"


def _answers(pairs: dict[str, Any]) -> str:
    """Shares of helpful and of safe answers of the pairs that answered."""
    answered = {name: pair["answers"] for name, pair in pairs.items() if pair["answers"]}
    heads = [f"{name}, {what}" for name in answered for what in ("helpful", "safe")]
    rows = [["in place of the reference", *heads]]
    for name, title in {"plain": "*nothing is subtracted*", **ROWS}.items():
        arms = [found.get(name) for found in answered.values()]
        if any(arms):
            shares = (_share(arm, what) for arm in arms for what in ("helpful", "safe"))
            rows.append([title, *shares])
    return table(rows)


def _share(arm: dict[str, Any] | None, what: str) -> str:
    return "-" if arm is None else compact_text(Estimate.from_dict(arm[what]))
