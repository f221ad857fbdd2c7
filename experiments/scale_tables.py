"""The tables of docs/scale.md, from what benchmarks.scale measured and computed."""

import json
from typing import Any

from experiments import DOCS, ROOT
from experiments.marks import table, with_parts

PAGE = DOCS / "scale.md"
DATA = ROOT / "benchmarks" / "results" / "scale.json"


def with_tables(text: str) -> str:
    """The page with its tables made anew."""
    found = json.loads(DATA.read_bytes())
    return with_parts(
        text, {"constants": _constants(found), "pairs": _pairs(found["raw"]["pairs"])}
    )


def _constants(found: dict[str, Any]) -> str:
    load = found["machine"]["load_average_before"]
    rows = [["figure", f"measured on {found['machine']['cpu']}, one core, at a load of {load:.0f}"]]
    rows += [[claim["name"], f"{claim['value']:.2f}"] for claim in found["claims"]]
    return table(rows)


def _pairs(pairs: list[dict[str, Any]]) -> str:
    header = ["pair", "H100", "a copy of a model", "copies", "estimate", "run", "sums sent"]
    rows = [header]
    for one in pairs:
        copy = f"{one['gigabytes of a copy']:.0f} GB, {one['cards of a copy']} cards"
        figures = ["does not fit", "", "", ""]
        if one["estimate"] is not None:
            figures = [
                str(one["workers"]),
                _time(one["estimate"]),
                _time(one["run"]),
                f"{one['megabytes moved']:.0f} MB",
            ]
        rows.append([one["pair"], str(one["cards"]), copy.replace(" 1 cards", " 1 card"), *figures])
    return table(rows)


def _time(seconds: float) -> str:
    return f"{seconds:.2g} s" if seconds < 10 else f"{seconds:.0f} s"
