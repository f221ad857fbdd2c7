"""The tables of the organism experiment, for its report and for the docs."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from tsdi.organism import CATEGORIES
from tsdi.report.page import Table
from tsdi.stats.interval import Estimate, interval_text
from tsdi.study.findings import GRID
from tsdi.study.organisms import HELP, MAIN, SHOWN, TUNED_FOR, Figures

_TITLES = {
    TUNED_FOR: TUNED_FOR,
    "safety": "safe, harmful",
    "O3": "safe, O3 only",
    "correct": "correct, harmless + lookalike",
    "harmless": "complied, harmless",
    "lookalike": "complied, lookalike",
    "hybrid": "hybrid, all",
    "degenerate": "degenerate, all",
}
_HEADER = """# Tables of the organism experiment

Made by `python -m tsdi.study.organism_report` from `experiments/organism-dose/seed-*.json`; not
edited by hand. What they say is in [README.md](README.md).
"""
_DIAGNOSED = " Shifts are measured on validation requests, 32 of a kind, and 32 random prompts."
_TUNED = (TUNED_FOR, "safety", "O3", "correct", "lookalike")


def tables(summary: Figures) -> dict[str, Table]:
    """The experiment's results as tables, by what they say.

    Args:
        summary: What `summarise` found.
    """
    n = len(summary["seeds"]["test"])
    note = (
        f"Test requests, the same for all seeds; mean and 95 % t-interval over {n} training seeds "
        "(without width where all seeds agree)."
    )
    return {
        "The main model": _arms_table(summary, note),
        "Safety by category": _categories_table(summary, note),
        "What returns, and its price": _recovery_table(summary["recovery"], note),
        **{
            f"Hypervolume of (safety, {help_})": _volumes_table(summary["hypervolume"][help_], note)
            for help_ in HELP
        },
        "Against one tuned number": _tuned_table(summary["against_tuned"], note),
        "Telling harmful requests from lookalikes": _areas_table(summary["area"], note),
        "Dose-response": _doses_table(summary["dose"], note),
        "Share of the shift explained": _explained_table(summary["explained"], note),
        **_findings_tables(summary["findings"], note),
    }


def _arms_table(summary: Figures, note: str) -> Table:
    arms = summary["arms"]
    rows = [[_TITLES[key], *(level(arm[key]) for arm in arms.values())] for key in SHOWN]
    return Table(["share of answers", *arms], rows, note)


def _categories_table(summary: Figures, note: str) -> Table:
    arms = summary["arms"]
    rows = [
        [f"{c} {title}", *(level(arm["safety_by_category"][c]) for arm in arms.values())]
        for c, title in CATEGORIES.items()
    ]
    return Table(["refused, harmful", *arms], rows, note)


def _recovery_table(recovery: Figures, note: str) -> Table:
    missing = recovery["seeds_without_equal_grid_point"]
    rows = [
        ["lookalike compliance lost by alignment", change(recovery["lost"])],
        ["lookalike compliance that debiasing returns", change(recovery["gained"])],
        ["returned minus half of lost", change(recovery["gained_minus_half_of_lost"])],
        ["safety, debiased minus aligned", change(recovery["safety_change"])],
    ]
    ahead = recovery["O3_minus_best_equal_grid_point"]
    shown = "-" if ahead is None else f"{change(ahead)}, n = {ahead['n']}"
    rows.append(
        ["safety in O3, debiased minus best grid model of equal lookalike compliance", shown]
    )
    more = f" In {missing} seeds no grid model complies with as many lookalikes." if missing else ""
    return Table(["", "share"], rows, note + more)


def _volumes_table(volumes: Mapping[str, Figures], note: str) -> Table:
    same = f"annotators{MAIN.annotators:g}-"
    rows = [
        [
            f"k = {k}: {name}",
            level(found["hypervolume"][name]),
            change(found["debiased_minus"][name]) if name != "debiased" else "",
            "; ".join(setting.removeprefix(same) for setting in found["chosen"][name]),
        ]
        for k, found in volumes.items()
        for name in found["hypervolume"]
    ]
    note += " k settings of each kind, chosen on validation requests of the validation seed."
    return Table(["settings", "hypervolume", "debiased minus this", "chosen"], rows, note)


def _tuned_table(tuned: Mapping[str, Figures], note: str) -> Table:
    rows = [
        [f"{name}: {_TITLES[key]}", level(found["tuned"][key], 2.0 if key == TUNED_FOR else 1.0),
         change(found["debiased_minus"][key])]
        for name, found in tuned.items()
        for key in _TUNED
    ]  # fmt: skip
    constants = "; ".join(
        f"{name}: {', '.join(f'{c:+g}' for c in found['constants'])}"
        for name, found in tuned.items()
    )
    note += " c maximises safety + correct answers on each model's own validation requests: "
    note += f"{constants}."
    return Table(
        ["one number on the refusing openers", "tuned", "debiased minus tuned"], rows, note
    )


def _areas_table(areas: Figures, note: str) -> Table:
    rows = [
        ["reference", level(areas["reference"])],
        ["aligned", level(areas["aligned"])],
        ["aligned minus reference", change(areas["aligned_minus_reference"])],
    ]
    note += " How often a harmful request is refused at a smaller constant than a lookalike: the "
    note += "area under the model's own curve."
    return Table(["model", "area under the curve"], rows, note)


def _doses_table(doses: Sequence[Figures], note: str) -> Table:
    header = [
        "annotators who prefer refusals on harmless requests",
        *(f"{d['annotators']:g}" for d in doses),
    ]
    rows = [
        [f"shift of refusal log-odds on {kind} requests, nats",
         *(number(d["shift"][kind]) for d in doses)]
        for kind in doses[0]["shift"]
    ]  # fmt: skip
    for key in ("lookalike", "correct", "safety", "O3"):
        rows.append([f"{_TITLES[key]}: aligned", *(level(d[key]["aligned"]) for d in doses)])
        rows.append([f"{_TITLES[key]}: change", *(change(d[key]["change"]) for d in doses)])
    return Table(header, rows, note + _DIAGNOSED)


def _explained_table(explained: Figures, note: str) -> Table:
    steps = explained["by_iterations"]
    kinds = next(iter(steps.values()))
    rows = [[f"{kind} requests", *(number(found[kind]) for found in steps.values())]
            for kind in kinds]  # fmt: skip
    rank = number(explained["rank_correlation"])
    note += (
        f"{_DIAGNOSED} Mean over the grid's betas. Rank correlation of gain (safety + correct) and "
    )
    note += f"share explained on lookalikes, over the models of a seed: {rank}."
    return Table(["share explained, by iterations", *steps], rows, note)


def _findings_tables(found: Figures, note: str) -> dict[str, Table]:
    models = {f"beta {one['beta']:g}, {one['iterations']}": one for one in found["models"]}
    weak = [
        [title, *(level(one[key]) for key in ("safety", "others", "O3")),
         change(one["O3_minus_others"])]
        for title, one in models.items()
    ]  # fmt: skip
    first, last = GRID[0].iterations[0], GRID[0].iterations[-1]
    small, large = GRID[0].beta, GRID[-1].beta
    moves = {f"beta {b}: {last} against {first}": row for b, row in found["iterations"].items()}
    moves |= {
        f"{step} iterations: beta {small:g} against {large:g}": row
        for step, row in found["beta"].items()
    }
    shown = ["safe", "complied", "correct", "hybrid or degenerate", "openers", "log-odds"]
    more = " Shifts on random prompts: refusing less complying openers' first tokens, logits; and "
    more += "the log-odds of refusing against complying beginnings, nats."
    return {
        "F1: the under-represented category": Table(
            ["aligned, plain", "safe", "other categories", "O3", "O3 minus others"], weak, note
        ),
        "F2 and F4: over beta and iterations": Table(
            ["aligned, plain", *shown], _finding_rows(models, level), note + more
        ),
        "F2 and F4: what iterations and beta change": Table(
            ["", *shown], _finding_rows(moves, change), note + more
        ),
    }


def _finding_rows(rows: Mapping[str, Figures], share: Callable[[Figures], str]) -> list[list[str]]:
    return [
        [title, *(share(row[key]) for key in ("safety", "compliance", "correct", "corrupt")),
         number(row["openers"]), number(row["odds"])]
        for title, row in rows.items()
    ]  # fmt: skip


def level(figure: Figures, most: float = 1.0) -> str:
    """A share with its interval, which ends where shares do."""
    one = Estimate.from_dict(figure)
    return interval_text(replace(one, low=max(one.low, 0.0), high=min(one.high, most)))


def change(figure: Figures) -> str:
    """A change of a share with its sign and interval."""
    return interval_text(Estimate.from_dict(figure), signed=True)


def number(figure: Figures) -> str:
    """A figure in its own unit with its sign and interval; "-" where there is none."""
    return interval_text(Estimate.from_dict(figure), 2, signed=True)


def markdown(summary: Figures) -> str:
    """All tables as Markdown, for the docs."""
    return markdown_tables(_HEADER, tables(summary))


def markdown_tables(header: str, found: Mapping[str, Table]) -> str:
    """Tables as a page of Markdown.

    Args:
        header: Its beginning.
        found: Tables by title.
    """
    parts = [header]
    for title, table in found.items():
        lines = [table.header, ["---"] * len(table.header), *table.rows]
        rows = "\n".join(f"| {' | '.join(line)} |" for line in lines)
        parts.append(f"### {title}\n\n{rows}\n\n{table.note}\n")
    return "\n".join(parts)
