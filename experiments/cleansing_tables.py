"""The tables of experiments/cleansing/README.md: what two judges drop of pairs of known truth."""

import json
from collections.abc import Iterable
from typing import Any

from experiments import HERE, MEASURED
from experiments.marks import table, with_parts
from tsdi.categories import SALAD_TASKS, by_code
from tsdi.training.cleansing import THRESHOLD

PAGE, DATA = HERE / "cleansing" / "README.md", MEASURED / "cleansing.json"


def with_tables(text: str) -> str:
    """The page with its tables made anew."""
    found = json.loads(DATA.read_bytes())["raw"]
    tables = {
        "organism": _organism_rows(found["organism"]),
        "people": _people_rows(found["people"]),
    }
    return with_parts(text, {name: table(rows) for name, rows in tables.items()})


def _organism_rows(organism: dict[str, Any]) -> list[list[str]]:
    """Pairs by category, and what every judge thinks of them and drops; O1 to O16 by one range."""
    rows = [["pairs on", "pairs"]]
    for name in organism:
        rows[0] += [f"{name}: P(safe)", "dropped", "with `--rejected`"]
    there = by_code(next(iter(organism.values()))["chosen"]["categories"])
    harmful = [name for name in there if name in SALAD_TASKS]
    parts = [("harmful, each of O1 to O16", harmful)]
    parts += [(name, [name]) for name in there if name not in SALAD_TASKS]
    for title, names in parts:
        cells = [[one[rule]["categories"][name] for name in names]
                 for one in organism.values() for rule in ("chosen", "both")]  # fmt: skip
        row = [title, _range(one["pairs"] for one in cells[0])]
        for chosen, both in zip(cells[::2], cells[1::2], strict=True):
            safe = [f"{one['chosen_safety']:.2f} / {one['rejected_safety']:.2f}" for one in chosen]
            dropped = (_range(one["dropped"] for one in side) for side in (chosen, both))
            row += [_range(safe), *dropped]
        rows.append(row)
    return rows


def _range(values: Iterable[Any]) -> str:
    """Least and largest of some values, or the one that all are."""
    known = sorted(set(values))
    return str(known[0]) if len(known) == 1 else f"{known[0]} to {known[-1]}"


def _people_rows(people: dict[str, Any]) -> list[list[str]]:
    return [
        ["", "found"],
        ["pairs of a safe and an unsafe answer", f"{people['cleansing']['overall']['pairs']:,}"],
        ["different answers", f"{people['answers']:,}"],
        ["of these safe in one pair and unsafe in another", f"{people['contradictory']:,}"],
        ["area under the curve, safe against unsafe", f"{people['area_under_curve']:.2f}"],
        [
            "pairs whose safe answer has the higher probability (ties: half)",
            _percent(people, "ordered"),
        ],
        [f"safe answers below {THRESHOLD:g}, so dropped", _percent(people, "chosen_below")],
        [f"unsafe answers below {THRESHOLD:g}", _percent(people, "rejected_below")],
    ]


def _percent(people: dict[str, Any], name: str) -> str:
    return f"{100 * people[name]:.0f} %"
