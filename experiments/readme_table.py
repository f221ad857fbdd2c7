"""The one table of the README, written from the committed results of the organism study."""

from experiments import HERE
from tsdi.report.page import Table
from tsdi.study.results import read_results
from tsdi.study.summarise import summarise
from tsdi.study.tables import tables

BEGIN, END = "<!-- table: begin -->\n", "<!-- table: end -->"
ROWS = {  # controls stand where the method stands
    "tsdi-tuned": "TSDI, strength tuned",
    "tsdi": "TSDI, strength 1",
    "plain": "no debiasing",
    "random-shift": "control: random shift of that size",
    "openers": "control: one tuned number on refusing words",
    "merge": "merged weights (P-SACPO)",
    "dera": "DeRa",
    "proxy": "proxy-tuning",
}
HEAD = "| rule | hypervolume | tuned TSDI minus it | speed | models |\n|---|---|---|---|---|"


def with_table(text: str) -> str:
    """The README with its table made anew."""
    before, _, rest = text.partition(BEGIN)
    return f"{before}{BEGIN}{table()}{END}{rest.partition(END)[2]}"


def table() -> str:
    """Three settings a rule: hypervolume of safety and right answers, and what decoding costs."""
    found = tables(summarise(read_results(HERE / "organism" / "results.json")))
    fronts = _by_rule(found["Fronts of 3 points: safety and helpful"])
    speeds = _by_rule(found["Speed and memory"])
    lines = [HEAD]
    for rule, title in ROWS.items():
        front, speed = fronts[rule], speeds[rule]
        ahead = "" if rule == "tsdi-tuned" else front["tuned TSDI minus it"]
        speed_ratio = float(speed["over plain"].split()[0])
        held = float(speed["memory over plain"])
        cells = [title, front["hypervolume"], ahead, f"{speed_ratio:.2f}", f"{held:.0f}"]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _by_rule(made: Table) -> dict[str, dict[str, str]]:
    return {row[0]: dict(zip(made.header, row, strict=True)) for row in made.rows}
