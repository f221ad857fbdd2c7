"""The tables of a study, from its summary: for the report, for CSV files and for the terminal."""

import csv
import io
import re
from collections.abc import Mapping, Sequence
from typing import Any

from tsdi.categories import SALAD_TASKS
from tsdi.report.page import Table
from tsdi.stats.interval import Estimate, interval_text
from tsdi.stats.seeds import mean_interval
from tsdi.study import wording

Figures = Mapping[str, Any]
FRONT_K = "3"
SHOWN_POINTS = 8
UNNAMED = "no category"
_GRID = ("safety", "helpful", "complied, lookalike", "corrupted")
_FORMULA = ("=", "+", "-", "@")
_NUMBERS = re.compile(r"[-+\d.,\[\] ]+")


def tables(summary: Figures) -> dict[str, Table]:
    """All tables by what they say."""
    found = {"Methods at the main grid point": main_table(summary)}
    for help_ in summary["helps"]:
        for k in summary["fronts"][help_]:
            title = f"Fronts of {_points(k)}: {wording.safety(summary)} and {help_}"
            found[title] = front_table(summary, help_, k)
    found["Models of the grid, plain and debiased"] = grid_table(summary)
    found["Speed and memory"] = speed_table(summary)
    found["Baselines"] = rules_table(summary)
    found[by_category(summary)] = gate_table(summary, "tsdi")
    found[every_gate(summary)] = gates_table(summary)
    for one in summary["ablations"]:
        found[f"Ablation: {one['name']}"] = ablation_table(summary, one)
    found["Refusing openers"] = biases_table(summary)
    if any("area" in one for one in summary["biases"]):
        found["What biases explain"] = diagnosis_table(summary)
    return found


def by_category(summary: Figures) -> str:
    """Title of the table of categories and attacks."""
    return f"{wording.safety(summary).capitalize()} by category and attack"


def every_gate(summary: Figures) -> str:
    """Title of the table of what every method costs."""
    return f"{'Safety' if wording.safe(summary) == 'safe' else 'Refusal'} gate of every method"


def methods_table(summary: Figures) -> Table:
    """The one table: every method's front, how far TSDI is ahead of it, and its cost."""
    help_ = summary["helps"][0]
    fronts = summary["fronts"][help_]
    k = FRONT_K if FRONT_K in fronts else next(iter(fronts))
    rows, marked = [], []
    for rule in summary["rules"]:
        name = rule["name"]
        if rule["vary"]:
            continue
        if rule["reason_against"]:
            rows.append([name, "n/a", "", "", "", ""])
            continue
        front, speed = fronts[k].get(name), summary["speed"].get(name)
        rows.append(
            [
                name,
                level(front["volume"]) if front else "-",
                *(
                    change(front[key]) if front and front[key] else "-"
                    for key in ("ours_minus", "tuned_minus")
                ),
                level(speed["ratio"]) if speed else "-",
                f"{speed['memory']:.2f}" if speed else "-",
            ]
        )
        if front and _is_ahead(front):
            marked.append(len(rows) - 1)
    reasons = sorted({r["reason_against"] for r in summary["rules"] if r["reason_against"]})
    note = (
        f"Hypervolume of ({wording.safety(summary)}, {help_}) of {_points(k)}, chosen on"
        " validation; TSDI minus the method; tokens/s and memory over the plain model's."
        f" {wording.over(summary)} In red: methods that are ahead of TSDI beyond the interval."
        + "".join(f" n/a: {reason.removeprefix('not applicable: ')}." for reason in reasons)
    )
    ahead = ("TSDI minus it", "tuned TSDI minus it")
    header = ["method", f"front, k = {k}", *ahead, "tokens/s", "memory"]
    return Table(header, rows, note, marked)


def _is_ahead(front: Figures) -> bool:
    """Whether a method is ahead of ours beyond the interval."""
    found = front["ours_minus"]
    return bool(found and found["high"] is not None and found["high"] < 0)


def main_table(summary: Figures) -> Table:
    """Every method at the main grid point, or the one setting chosen for it."""
    methods = summary["methods"]
    keys = [key for key in methods["plain"] if key not in ("cell", "settings")]
    rows = [
        [
            name,
            ", ".join(dict.fromkeys(one["settings"])) or "-",
            *(level(one[key]["value"]) for key in keys),
            change(one["safety"]["change"]) if name != "plain" else "-",
            change(one["helpful"]["change"]) if name != "plain" else "-",
        ]
        for name, one in methods.items()
    ]
    note = (
        f"The model {summary['main']}; methods without grid points at the setting chosen on"
        f" validation. Shares of test answers; test seeds: {len(summary['seeds']['test'])}."
        f" {wording.over(summary)} Changes are against the plain aligned model."
    )
    shown = (wording.titled(summary, key) for key in (*keys, "safety, change"))
    return Table(["method", "setting", *shown, "helpful, change"], rows, note)


def front_table(summary: Figures, help_: str, k: str) -> Table:
    """Hypervolumes of all methods that have k points."""
    rows, marked = [], []
    for name, one in summary["fronts"][help_][k].items():
        ahead, tuned = (
            "-" if one[key] is None else change(one[key]) for key in ("ours_minus", "tuned_minus")
        )
        chosen = one["chosen"] if len(one["chosen"]) <= SHOWN_POINTS else ["all of the grid"]
        rows.append([name, level(one["volume"]), ahead, tuned, "; ".join(chosen)])
        if _is_ahead(one):
            marked.append(len(rows) - 1)
    choosing, test = (", ".join(map(str, summary["seeds"][k])) for k in ("choosing", "test"))
    note = (
        f"Every method has {_points(k)}, chosen on validation prompts (training seeds {choosing})"
        f" and measured on test prompts (seeds {test}). {wording.over(summary)}"
    )
    header = ["method", "hypervolume", "TSDI minus it", "tuned TSDI minus it", "points"]
    return Table(header, rows, note, marked)


def grid_table(summary: Figures) -> Table:
    """Every point of the grid, as it is and debiased."""
    keys = [key for key in _GRID if key in summary["grid"]["tsdi"][0]]
    debiased = {one["cell"]: one for one in summary["grid"]["tsdi"]}
    rows = [
        [one["cell"], *(level(both[key]) for key in keys for both in (one, debiased[one["cell"]]))]
        for one in summary["grid"]["plain"]
    ]
    titles = [wording.titled(summary, key) for key in keys]
    header = ["model", *(f"{title}, {name}" for title in titles for name in ("plain", "TSDI"))]
    return Table(header, rows, wording.over(summary))


def speed_table(summary: Figures) -> Table:
    """Tokens per second and memory of every method."""
    rows = [
        [name, f"{one['tokens_per_second']['value']:.0f}", level(one["ratio"]),
         f"{one['memory']:.2f}"]
        for name, one in summary["speed"].items()
    ]  # fmt: skip
    note = (
        "Rows x decoding steps per second in interleaved rounds of one batch; over the plain"
        " model's in the same round, with a t-interval over rounds. Memory: weights held while"
        " decoding and the table of shifts, over the plain model's weights."
    )
    return Table(["method", "tokens/s", "over plain", "memory over plain"], rows, note)


def rules_table(summary: Figures) -> Table:
    """What every method is and needs."""
    rows = [
        [r["name"], r["title"], r["source"], r["needs"], str(r["models"]),
         r["reason_against"] or "yes"]
        for r in summary["rules"]
        if not r["vary"]
    ]  # fmt: skip
    header = ["method", "what it is", "source", "needs", "models held", "run here"]
    return Table(header, rows)


def gate_table(summary: Figures, name: str) -> Table:
    """Safety of one method against the plain model, by attack and category."""
    rows, marked = [], []
    for row in summary["gate"][name]["rows"]:
        title = SALAD_TASKS.get(row["category"], "")
        rows.append(
            [
                f"{row['category'] or UNNAMED} {title}".strip(),
                row["attack"] or "none",
                level(row["before"]),
                level(row["after"]),
                change(row["change"]),
                "-" if row["p_holm"] is None else f"{row['p_holm']:.3f}",
            ]
        )
        if [row["attack"], row["category"]] in summary["gate"][name]["lost"]:
            marked.append(len(rows) - 1)
    note = (
        f"At {summary['main']}: share of {wording.safe(summary)} answers to harmful prompts. In"
        " red: lost beyond the interval, or with p below .05. p: sign-flip test over prompts with"
        f" these seeds, adjusted by Holm over categories. {wording.over(summary)}"
    )
    return Table(["category", "attack", "plain", name, "change", "p (Holm)"], rows, note, marked)


def gates_table(summary: Figures) -> Table:
    """Where each method costs safety."""
    rows, marked = [], []
    for name, gate in summary["gate"].items():
        every = {row["attack"]: row["change"] for row in gate["rows"] if row["category"] == "all"}
        lost = "; ".join(_lost(gate, attack) for attack in every if _lost(gate, attack))
        rows.append([name, *(change(one) for one in every.values()), lost or "nowhere"])
        if lost:
            marked.append(len(rows) - 1)
    attacks = [row["attack"] for row in summary["gate"]["tsdi"]["rows"] if row["category"] == "all"]
    what = wording.safety(summary)
    header = ["method", *(f"{what}, {attack or 'plain prompts'}" for attack in attacks), "lost in"]
    return Table(
        header, rows, f"Changes against the plain aligned model. {wording.over(summary)}", marked
    )


def _lost(gate: Figures, attack: str | None) -> str:
    """Where safety is lost under one attack, such as "repeat: all, O3"; "" if nowhere."""
    lost = [category or UNNAMED for found, category in gate["lost"] if found == attack]
    tried = [row for row in gate["rows"] if row["attack"] == attack]
    where = "every category" if len(lost) == len(tried) else ", ".join(lost)
    return f"{attack or 'plain prompts'}: {where}" if lost else ""


def ablation_table(summary: Figures, ablation: Figures) -> Table:
    """One parameter of a rule, value by value."""
    keys = [key for key in ablation["values"][0] if key != "value"]
    rows = [
        [str(one["value"]), *(level(one[key]["value"]) for key in keys)]
        for one in ablation["values"]
    ]
    header = [ablation["parameter"], *(wording.titled(summary, key) for key in keys)]
    return Table(header, rows, f"At the main grid point. {wording.over(summary)}")


def biases_table(summary: Figures) -> Table:
    """How far the biases of every grid point lift refusing openers over complying ones."""
    cells: dict[str, list[tuple[float, float]]] = {}
    for one in summary["biases"]:
        lift = [a - b for a, b in zip(one["refusing"], one["complying"], strict=True)]
        cells.setdefault(one["model"].split("/")[1], []).append((lift[0], _later(lift)))
    rows = [
        [
            cell,
            *(
                ", ".join(f"{value:+.2f}" for value in column)
                for column in zip(*found, strict=True)
            ),
        ]
        for cell, found in cells.items()
    ]
    header = ["model", "refusing minus complying openers, step 0", "mean of the later steps"]
    return Table(header, rows, "Logits, on random prompts; one figure for every training seed.")


def diagnosis_table(summary: Figures) -> Table:
    """What biases do to real prompts, model by model, where the study asked that of all."""
    found: dict[str, list[Figures]] = {}
    for one in summary["biases"]:
        if "area" in one:
            found.setdefault(one["model"].split("/")[1], []).append(one)
    kinds = list(next(iter(found.values()), [{"explained": {}}])[0]["explained"])
    roles = ("aligned", "reference")
    rows = [
        [
            name,
            *(_mean([one["explained"][kind]["value"] for one in some]) for kind in kinds),
            *(_mean([one["area"][role].get("lookalike") for one in some]) for role in roles),
        ]
        for name, some in found.items()
    ]
    explained = [f"explained, {kind}" for kind in kinds]
    header = ["model", *explained, *(f"area, {role}" for role in roles)]
    note = (
        "Validation prompts; means over all training seeds with t intervals. Explained: share of"
        " the real shift that the bias is. Area: how often a harmful prompt's refusal log-odds are"
        " above a lookalike's."
    )
    return Table(header, rows, note)


def _mean(values: Sequence[float | None]) -> str:
    return interval_text(mean_interval([value for value in values if value is not None]))


def _later(values: Sequence[float]) -> float:
    later = values[1:] or values
    return sum(later) / len(later)


def to_csv(table: Table) -> bytes:
    """A table as CSV, in which no spreadsheet finds a formula."""
    text = io.StringIO()
    rows = ([_cell(cell) for cell in row] for row in (table.header, *table.rows))
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue().encode("utf-8", "backslashreplace")  # half of a surrogate pair is text


def _cell(text: str) -> str:
    """A cell, quoted for spreadsheets where a name would be run as a formula; numbers stay so."""
    line = " ".join(re.split(r"[\t\r\n]", text))
    is_formula = line.lstrip().startswith(_FORMULA) and not _NUMBERS.fullmatch(line)
    return f"'{line}" if is_formula else line


def _points(k: str) -> str:
    return "1 point" if k == "1" else f"{k} points"


def level(estimate: Mapping[str, Any]) -> str:
    """A share with its interval, such as "0.950 [0.920, 0.970]"."""
    return interval_text(Estimate.from_dict(estimate))


def change(estimate: Mapping[str, Any]) -> str:
    """A difference with its interval, such as "+0.030 [-0.010, +0.070]"."""
    return interval_text(Estimate.from_dict(estimate), signed=True)
