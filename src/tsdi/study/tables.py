"""The tables of a study, from its summary, for report, CSV files and terminal."""

import csv
import io
import re
from collections.abc import Sequence

from tsdi.evaluation.floors import ALL
from tsdi.report.page import Table
from tsdi.stats.interval import Estimate, interval_text, p_text
from tsdi.study.entries import RuleDescription
from tsdi.study.front_tables import each_point_table, each_point_title, front_table, fronts_title
from tsdi.study.outcomes import MARGIN
from tsdi.study.sentences import UNNAMED, category_title, change_text, interval_note, measure_title
from tsdi.study.summary import Ablation, GateRow, Summary

_GRID = ("safety", "helpful", "complied, lookalike", "corrupted")
_FORMULA = ("=", "+", "-", "@")
_NUMBERS = re.compile(r"[-+\d.,\[\] ]+")


def tables(summary: Summary) -> dict[str, Table]:
    """All tables of a study by title."""
    found = {"Methods at the main grid point": effects_table(summary)}
    if summary.safe_effects:
        found[safe_title(summary)] = safe_table(summary)
    for one in summary.comparisons:
        found[fronts_title(summary, one)] = front_table(summary, one)
    if summary.each_point:
        found[each_point_title(summary)] = each_point_table(summary)
    found["Models of the grid, plain and debiased"] = grid_table(summary)
    found["Speed and memory"] = cost_table(summary)
    found["Baselines"] = rules_table(summary)
    for name in summary.types:
        found[categories_title(summary, name)] = gate_table(summary, name)
    if any(summary.types.values()):
        found["Harmless prompts complied with, by type"] = types_table(summary)
    found[gates_title(summary)] = gates_table(summary)
    found["Weakest category of every method"] = weakest_table(summary)
    found["Harmful prompts complied with"] = harm_table(summary)
    if len(summary.seeds) > 1:
        found["The main model, seed by seed"] = seeds_table(summary)
    for ablation in summary.ablations:
        found[f"Ablation: {ablation.name}"] = ablation_table(summary, ablation)
    found["Refusing openers"] = biases_table(summary)
    return found


def safe_title(summary: Summary) -> str:
    """The title of the table of rules with safe settings."""
    return f"Most helpful answers where {summary.judge.measure} {_stays(summary)}"


def _stays(summary: Summary) -> str:
    return "stays" if summary.judge.sees_safety else "stay"


def categories_title(summary: Summary, name: str = "tsdi") -> str:
    """The title of a rule's table of categories and attacks."""
    of = "" if name == "tsdi" else f", {name}"
    return f"{summary.judge.measure.capitalize()} by category and attack{of}"


def gates_title(summary: Summary) -> str:
    """The title of the table of every rule's cost in safety."""
    return f"{'Safety' if summary.judge.sees_safety else 'Refusal'} gate of every method"


def effects_table(summary: Summary) -> Table:
    """Table of every rule's measures at the main grid point, or at its chosen setting."""
    measures = list(summary.effects["plain"].measures.titled())
    rows = [
        [
            name,
            ", ".join(dict.fromkeys(one.settings)) or "-",
            *(interval_text(effect.value) for effect in one.measures.titled().values()),
            change_text(one.measures.safety.change) if name != "plain" else "-",
            change_text(one.measures.helpful.change) if name != "plain" else "-",
        ]
        for name, one in summary.effects.items()
    ]
    note = (
        f"The model {summary.main}; methods without grid points at the setting chosen on"
        f" validation. Shares of test answers; test seeds: {len(summary.test_seeds)}."
        f" {interval_note(summary)} Changes are against the plain aligned model."
    )
    shown = (measure_title(summary, key) for key in (*measures, "safety, change"))
    return Table(["method", "setting", *shown, "helpful, change"], rows, note)


def safe_table(summary: Summary) -> Table:
    """Table of every rule's measures with the safe setting, at the main grid point."""
    kept = summary.safe_effects
    minus = any(one.ours_minus for one in kept.values())
    ours = next((name for name, one in kept.items() if minus and one.ours_minus is None), "")
    rows = []
    for name, one in kept.items():
        settings = dict.fromkeys(one.settings)
        cells = [interval_text(effect.value) for effect in one.measures.titled().values()]
        cells.append(change_text(one.measures.safety.change) if name != "plain" else "-")
        ahead = [change_text(one.ours_minus) if one.ours_minus else ""] if ours else []
        rows.append([name, ", ".join(settings), *cells, *ahead])
    note = (
        f"The model {summary.main}. Of each method's settings that lose at most {MARGIN:g} of the"
        f" plain model's {summary.judge.measure} on validation prompts, the one with most helpful"
        " answers there; plain where there is none. Shares of test answers."
        f" {interval_note(summary)}"
    )
    titles = (measure_title(summary, key) for key in kept["plain"].measures.titled())
    change = measure_title(summary, "safety, change")
    ahead = [f"helpful: {ours} minus it"] if ours else []
    return Table(["method", "setting", *titles, change, *ahead], rows, note)


def grid_table(summary: Summary) -> Table:
    """Table of every grid point, plain and debiased."""
    plain, debiased = (
        {one.cell: one.measures.titled() for one in summary.grid[rule]}
        for rule in ("plain", "tsdi")
    )
    measures = [key for key in _GRID if all(key in own for own in debiased.values())]
    rows = [
        [cell, *(interval_text(own[key]) for key in measures for own in (before, debiased[cell]))]
        for cell, before in plain.items()
    ]
    titles = [measure_title(summary, key) for key in measures]
    header = ["model", *(f"{title}, {name}" for title in titles for name in ("plain", "TSDI"))]
    return Table(header, rows, interval_note(summary))


def cost_table(summary: Summary) -> Table:
    """Table of every rule's tokens per second and memory."""
    rows = [
        [name, f"{one.tokens_per_second.value:.0f}", interval_text(one.ratio), f"{one.memory:.2f}"]
        for name, one in summary.costs.items()
    ]
    note = (
        "Rows x decoding steps per second in interleaved rounds of one batch; over the plain"
        " model's in the same round, with a t-interval over rounds. Memory: weights held while"
        " decoding and the table of shifts, over the plain model's weights."
    )
    return Table(["method", "tokens/s", "over plain", "memory over plain"], rows, note)


def rules_table(summary: Summary) -> Table:
    """Table of the rules: title, source, requirements and models held."""
    rows = [
        [rule.name, rule.title, rule.source, _needs(rule), str(rule.models),
         rule.reason_against or "yes"]
        for rule in summary.rules
        if not rule.vary
    ]  # fmt: skip
    header = ["method", "what it is", "source", "needs", "models held", "run here"]
    return Table(header, rows)


def _needs(rule: RuleDescription) -> str:
    """A rule's requirements, with judged prompts where its setting is chosen."""
    chosen = any(len(tried) > 1 for tried in rule.settings.values())
    return f"{rule.needs}; to choose its setting, judged prompts" if chosen else rule.needs


def gate_table(summary: Summary, name: str) -> Table:
    """Table of one rule's change of safety, by attack and category."""
    gate, of_one_seed = summary.gate[name], len(summary.test_seeds) == 1
    rows = [
        [
            category_title(row.category),
            row.attack or "none",
            interval_text(row.change.before),
            interval_text(row.change.after),
            change_text(row.change.change),
            *([p_text(row.change.p_holm) or "-"] if of_one_seed else []),
        ]
        for row in gate
    ]
    p_value = ", or with p below .05 (McNemar, Holm over categories)" if of_one_seed else ""
    note = (
        f"At {summary.main}: share of {summary.judge.good} answers to harmful prompts. In red: lost"
        f" beyond the interval{p_value}. {interval_note(summary)}"
    )
    header = ["category", "attack", "plain", name, "change", *(["p (Holm)"] if of_one_seed else [])]
    return Table(header, rows, note, [place for place, row in enumerate(gate) if row.lost])


def gates_table(summary: Summary) -> Table:
    """Table of every rule's change of safety, by attack, and categories that lost."""
    rows, marked = [], []
    for name, gate in summary.gate.items():
        every = {row.attack: row.change.change for row in gate if row.category == ALL}
        lost = "; ".join(filter(None, (_lost(gate, attack) for attack in every)))
        rows.append([name, *map(change_text, every.values()), lost or "nowhere"])
        if lost:
            marked.append(len(rows) - 1)
    attacks = [row.attack for row in summary.gate["tsdi"] if row.category == ALL]
    what = summary.judge.measure
    header = ["method", *(f"{what}, {attack or 'plain prompts'}" for attack in attacks), "lost in"]
    note = f"Changes against the plain aligned model. {interval_note(summary)}"
    return Table(header, rows, note, marked)


def weakest_table(summary: Summary) -> Table:
    """Table of the category in which every rule is safe least often, by attack."""
    attacks = list(dict.fromkeys(row.attack for row in summary.gate["tsdi"]))
    found = {
        "plain": [(row.attack, row.category, row.change.before) for row in summary.gate["tsdi"]]
    } | {
        name: [(row.attack, row.category, row.change.after) for row in gate]
        for name, gate in summary.gate.items()
    }
    rows = [
        [name, *(_weakest([row[1:] for row in own if row[0] == attack]) for attack in attacks)]
        for name, own in found.items()
    ]
    note = (
        f"At {summary.main}: the category with the fewest {summary.judge.good} answers, and their"
        f" share. It was picked after a look, which makes it look worse. {interval_note(summary)}"
    )
    return Table(["method", *(attack or "plain prompts" for attack in attacks)], rows, note)


def seeds_table(summary: Summary) -> Table:
    """Table of the main model of every training seed, plain and with TSDI."""
    rows = [
        [
            str(row.seed),
            *(
                f"{value:.3f}"
                for pair in zip(
                    *(a.titled().values() for a in (row.plain, row.debiased)), strict=True
                )
                for value in pair
            ),
        ]
        for row in summary.seeds
    ]
    titles = [measure_title(summary, key) for key in summary.seeds[0].plain.titled()]
    header = ["seed", *(f"{title}, {arm}" for title in titles for arm in ("plain", "TSDI"))]
    return Table(header, rows, f"At {summary.main}, strength 1: shares of test answers.")


def types_table(summary: Summary) -> Table:
    """Table of TSDI's compliance with harmless prompts and its change, by their type."""
    first = next(iter(summary.types.values()))
    rows = [
        [
            kind,
            interval_text(before.before),
            *(
                text
                for name in summary.types
                for text in (
                    interval_text(summary.types[name][kind].after),
                    change_text(summary.types[name][kind].change),
                )
            ),
        ]
        for kind, before in first.items()
    ]
    names = (title for name in summary.types for title in (name, f"{name}, change"))
    note = f"At {summary.main}. {interval_note(summary)}"
    return Table(["prompts", "plain", *names], rows, note)


def harm_table(summary: Summary) -> Table:
    """Table of every rule's compliance with harmful prompts, by attack."""
    attacks = list(summary.harm["plain"])
    unsafe = ", or unsafe answers where the judge saw that" if summary.judge.sees_safety else ""
    rows = [
        [name, *(interval_text(own[one]) if one in own else "-" for one in attacks)]
        for name, own in summary.harm.items()
    ]
    note = (
        f"At {summary.main}{unsafe}. Hybrids and broken answers count neither here nor as"
        f" {summary.judge.good}. {interval_note(summary)}"
    )
    return Table(["method", *(attack or "plain prompts" for attack in attacks)], rows, note)


def _weakest(shares: Sequence[tuple[str, Estimate]]) -> str:
    """The weakest category with its share, "O3 Adult Content 0.525 [0.300, 0.750]"; or "-"."""
    known = [(name, one) for name, one in shares if name != ALL and one.value is not None]
    if not known:
        return "-"
    name, share = min(known, key=lambda one: float(one[1].value or 0.0))
    return f"{category_title(name)} {interval_text(share)}"


def _lost(gate: Sequence[GateRow], attack: str) -> str:
    """Categories that lost safety under an attack, such as "repeat: all, O3"; "" if none did."""
    under = [row for row in gate if row.attack == attack]
    lost = [row.category or UNNAMED for row in under if row.lost]
    where = "every category" if len(lost) == len(under) else ", ".join(lost)
    return f"{attack or 'plain prompts'}: {where}" if lost else ""


def ablation_table(summary: Summary, ablation: Ablation) -> Table:
    """Table of a rule's measures, one row for each value of a parameter."""
    rows = [
        [str(row.value), *(interval_text(one.value) for one in row.measures.titled().values())]
        for row in ablation.values
    ]
    titles = (measure_title(summary, key) for key in ablation.values[0].measures.titled())
    note = f"At the main grid point. {interval_note(summary)}"
    return Table([ablation.parameter, *titles], rows, note)


def biases_table(summary: Summary) -> Table:
    """Table of the shift of refusing less complying openers, by grid point."""
    cells: dict[str, list[tuple[float, float]]] = {}
    for one in summary.biases:
        lift = [a - b for a, b in zip(one.refusing, one.complying, strict=True)]
        cells.setdefault(one.model.split("/")[1], []).append((lift[0], _later(lift)))
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


def _later(values: Sequence[float]) -> float:
    later = values[1:] or values
    return sum(later) / len(later)


def to_csv(table: Table) -> bytes:
    """A table as CSV bytes, safe from spreadsheet formulas."""
    text = io.StringIO()
    rows = ([_cell(cell) for cell in row] for row in (table.header, *table.rows))
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue().encode("utf-8", "backslashreplace")  # half of a surrogate pair is text


def _cell(text: str) -> str:
    """A cell's text, quoted where a spreadsheet would run it as a formula."""
    line = " ".join(re.split(r"[\t\r\n]", text))
    is_formula = line.lstrip().startswith(_FORMULA) and not _NUMBERS.fullmatch(line)
    return f"'{line}" if is_formula else line
