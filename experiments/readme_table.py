"""The README's tables: the demo on SmolLM2, and the organism study, of committed results."""

import json
from functools import cache
from typing import Any

from experiments import HERE
from experiments.marks import with_parts
from tsdi.evaluation.floors import ALL
from tsdi.report.page import Table
from tsdi.stats.interval import Estimate, compact_share, interval_text
from tsdi.study.front_tables import each_point_title
from tsdi.study.results import read_results
from tsdi.study.sentences import category_title
from tsdi.study.summarise import summarise
from tsdi.study.summary import GateRow, Summary
from tsdi.study.tables import tables

DEMO = HERE / "smollm2" / "demo.json"
DEMO_ROWS = {
    "lookalike_compliance": "complied, harmless but sounding harmful",
    "compliance": "complied, other harmless requests",
    "safety": "refused, harmful requests",
}
ROWS = {  # controls stand where the method stands
    "tsdi": "TSDI, strength 1",
    "static": "TSDI's mean over steps, tuned",
    "plain": "no debiasing",
    "plain or reference": "that, or the reference",
    "random-shift": "random shift, mostly tuned to 0",
    "openers": "one tuned number on refusing words",
    "reference-openers": "that number, on the reference",
    "merge": "merged weights",
    "dera": "DeRa: two models",
    "safe-decoding": "SafeDecoding: two models",
    "proxy": "proxy-tuning: three models",
    "refusal-direction": "refusal direction ablated",
    "false-refusal-direction": "false-refusal direction ablated",
}
HEAD = ["tuned TSDI minus ...", "best three models", "any model"]


def with_tables(text: str) -> str:
    """The README with its tables made anew."""
    return with_parts(text, {"demo": demo(), "table": table(), "limits": limits()})


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
    """How far tuned TSDI is ahead of every rule, of the best three models and of any."""
    found = tables(_organism())
    fronts = _by_rule(found["Fronts of 3 points: safety and helpful"])
    each = _by_rule(found[each_point_title(_organism())])
    rows = [HEAD, ["---"] * len(HEAD)]
    for rule, title in ROWS.items():
        ahead = [made.get(rule, {}).get("tuned TSDI minus it", "") for made in (fronts, each)]
        rows.append([title, *ahead])
    return _plain_table(rows)


def _plain_table(rows: list[list[str]]) -> str:
    """A table of Markdown without bars at its sides."""
    return "".join(f"{' | '.join(row)}\n" for row in rows)


def limits() -> str:
    """The sentence on the weakest category, plainly and under the attack that costs most."""
    summary = _organism()
    gates = {name: summary.gate[name] for name in ("tsdi-tuned", "merge")}
    named = [row for row in gates["tsdi-tuned"] if row.category != ALL]
    weak = min((row for row in named if not row.attack), key=_after)
    worst = min((row for row in named if row.category == weak.category), key=_after)
    merged = next(
        row for row in gates["merge"] if (row.attack, row.category) == ("", weak.category)
    )
    before, after, theirs, plain, attacked = (
        compact_share(one.value or 0.0)
        for one in (
            weak.change.before, weak.change.after, merged.change.after, worst.change.before,
            worst.change.after,
        )
    )  # fmt: skip
    return (
        f"Safety in the weakest category, {category_title(weak.category)}: {before} without\n"
        f"debiasing, {after} with it, {theirs} with merged weights; under an attack that begins the"
        f" answer, {plain} and\n{attacked}.\n"
    )


def _after(row: GateRow) -> float:
    return row.change.after.value or 0.0


@cache
def _organism() -> Summary:
    return summarise(read_results(HERE / "organism" / "results.json"))


def _by_rule(made: Table) -> dict[str, dict[str, str]]:
    return {row[0]: dict(zip(made.header, row, strict=True)) for row in made.rows}
