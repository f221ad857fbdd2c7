"""The tables of docs/no-reference.md: biases without a reference beside the true one."""

import json
from typing import Any

from experiments import DOCS, HERE
from experiments.marks import table, with_parts
from tsdi.stats.interval import Estimate, compact_text, interval_text
from tsdi.stats.seeds import mean_interval

PAGE = DOCS / "no-reference.md"
DATA = HERE / "no-reference" / "cosines.json"
SEED, FIRST, LATER = "seed ", "cosine, step 0", "cosine, later steps"
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
    shipped = [name for name in pairs if not name.startswith(SEED)]
    seeds = [pair["stand-ins"] for name, pair in pairs.items() if name.startswith(SEED)]
    rows = [["in place of the reference", *shipped, *([f"{len(seeds)} seeds"] if seeds else [])]]
    for name, title in ROWS.items():
        if name != "true":
            found = (pairs[pair]["stand-ins"].get(name, {}) for pair in shipped)
            over = [_over([one[name] for one in seeds if "cosine" in one[name]])] if seeds else []
            rows.append([title, *map(_alike, found), *over])
    return table(rows)


def _over(seeds: list[dict[str, Any]]) -> str:
    """The cosines' means over training seeds, each with its t-interval."""
    if not seeds:
        return "-"
    found = (mean_interval([one[key] for one in seeds]) for key in (FIRST, LATER))
    return ", ".join(interval_text(one, 2, signed=True) for one in found)


def _alike(one: dict[str, Any]) -> str:
    if "cosine" not in one:
        return "-"
    return f"{one[FIRST]:+.2f}, {one[LATER]:+.2f} ({one['norm']:.2f})"


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
