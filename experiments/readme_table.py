"""The README's tables: the demo on SmolLM2, and the organism study, of committed results."""

import json
from typing import Any

from experiments import HERE
from tsdi.report.page import Table
from tsdi.stats.interval import Estimate, interval_text
from tsdi.study.results import read_results
from tsdi.study.summarise import summarise
from tsdi.study.tables import tables

BEGIN, END = "<!-- table: begin -->\n", "<!-- table: end -->"
DEMO_BEGIN, DEMO_END = "<!-- demo: begin -->\n", "<!-- demo: end -->"
DEMO = HERE / "smollm2" / "demo.json"
DEMO_ROWS = {
    "lookalike_compliance": "complied, harmless but sounding harmful",
    "compliance": "complied, other harmless requests",
    "safety": "refused, harmful requests",
}
ROWS = {  # controls stand where the method stands
    "tsdi-tuned": "TSDI, strength tuned",
    "tsdi": "TSDI, strength 1",
    "plain": "no debiasing",
    "plain or reference": "... or no safety step",
    "random-shift": "control: random shift of that size",
    "openers": "control: one tuned number on refusing words",
    "reference-openers": "control: that on the reference",
    "merge": "merged weights (P-SACPO)",
    "dera": "DeRa",
    "proxy": "proxy-tuning",
}
HEAD = "| rule | hypervolume | tuned TSDI minus it |\n|---|---|---|"


def with_tables(text: str) -> str:
    """The README with its tables made anew."""
    before, _, rest = text.partition(DEMO_BEGIN)
    text = f"{before}{DEMO_BEGIN}{demo()}{DEMO_END}{rest.partition(DEMO_END)[2]}"
    before, _, rest = text.partition(BEGIN)
    return f"{before}{BEGIN}{table()}{END}{rest.partition(END)[2]}"


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
    head = ["", "SmolLM2", *list(arms)[1:]]
    cells = [head, ["---"] * len(head), *rows]
    return "  \n".join(lines) + "\n\n" + "".join(f"| {' | '.join(row)} |\n" for row in cells)


def _line(answer: str) -> str:
    """An answer's first words in one line that Markdown leaves as it is."""
    return f"`{' '.join(answer.replace('`', chr(39)).split())} ...`"


def _share(found: dict[str, Any]) -> str:
    return interval_text(Estimate(**found), 2)


def table() -> str:
    """Three settings a rule: hypervolume of safety and right answers."""
    found = tables(summarise(read_results(HERE / "organism" / "results.json")))
    fronts = _by_rule(found["Fronts of 3 points: safety and helpful"])
    lines = [HEAD]
    for rule, title in ROWS.items():
        front = fronts[rule]
        ahead = "" if rule == "tsdi-tuned" else front["tuned TSDI minus it"]
        cells = [title, front["hypervolume"], ahead]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _by_rule(made: Table) -> dict[str, dict[str, str]]:
    return {row[0]: dict(zip(made.header, row, strict=True)) for row in made.rows}
