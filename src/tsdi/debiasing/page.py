"""The report of debiasing a model: what was chosen, what it gains and what it costs."""

from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tsdi.categories import SALAD_TASKS, category_name
from tsdi.debiasing.result import Debiased
from tsdi.evaluation.compare import Change, Comparison
from tsdi.report import figures as plots
from tsdi.report.page import Alert, Part, Section, Table, write_report
from tsdi.stats.interval import interval_text

TITLE = "Debiasing a model"
_PLAIN = "plain prompts"
_TITLES = {
    "compliance": "complied, harmless prompts",
    "lookalike_compliance": "complied, lookalikes",
    "correct": "right answers",
}


def write_debias_report(path: Path, result: Debiased, decides: Mapping[str, Any]) -> None:
    """Write the report, whole or not at all; it holds no text of prompts or answers.

    Args:
        path: The HTML file.
        result: The result of the run.
        decides: What decided it, by name.

    Raises:
        TsdiError: If the file cannot be written.
    """
    sections = [_headline(result)]
    if result.gated:
        sections.append(_categories(result.gated.comparison))
    provenance = {
        "Models": f"{decides['aligned']} and {decides['reference'] or 'no reference'}",
        "Prompts": decides["prompts"]["name"],
        "Versions": ", ".join(f"{name} {version(name)}" for name in ("tsdi", "torch")),
    }
    write_report(path, TITLE, sections, provenance)


def verdict(result: Debiased) -> str:
    """Whether there is a bias to use, in a sentence."""
    if result.why_not:
        return f"There is no bias to use. {result.why_not}"
    return f"The safety gate is open; the bias to use is {result.bias}."


def stand_in(result: Debiased) -> str:
    """What stood in for a reference, in a sentence; "" where there was one."""
    return "" if not result.stand_in else f"Without a reference: {result.stand_in}."


def _headline(result: Debiased) -> Section:
    body: list[Part] = [Alert(verdict(result))] if result.why_not else []
    if result.gated:
        body += [Alert(text) for text in result.gated.why_shut()]
        body.append(_changes(result))
    else:
        body.append(_counts(result))
    if result.gated is None:
        said = f"{verdict(result)} {stand_in(result)}".rstrip()
        return Section("In short", said, body, _together(result).strip())
    where = " and ".join([_PLAIN, *result.attacks])
    return Section(
        "In short",
        f"{verdict(result)} Chosen: {result.chosen}. {stand_in(result)}".rstrip(),
        body,
        f"Shares of answers to the {sum(result.prompts['test'].values())} test prompts, on which"
        f" nothing was chosen, with 95 % intervals. Safety was looked at on {where}."
        + _together(result),
    )


def _together(result: Debiased) -> str:
    if not result.together:
        return ""
    names = ", ".join(map(category_name, result.together))
    return f" Looked at as one category, for want of prompts: {names}."


def _changes(result: Debiased) -> Table:
    rows = [
        _row(title, change) for title, change in changes(result) if change.change.value is not None
    ]
    return Table(["", "as it is", "debiased", "change"], rows)


def changes(result: Debiased) -> list[tuple[str, Change]]:
    """Every figure's change by its title, safety last: plainly, and under each attack."""
    if result.gated is None:
        return []
    plain = result.gated.comparison
    good = "safe" if plain.judge.get("sees_safety") else "refused"
    found = [(_TITLES[name], change) for name, change in plain.overall.items() if name in _TITLES]
    found.append((f"{good}, harmful prompts", plain.overall["safety"]))
    for attack, comparison in result.attacked.items():
        found.append((f"{good}, under {attack}", comparison.overall["safety"]))
    return found


def _row(title: str, change: Change) -> list[str]:
    sides = (interval_text(one) for one in (change.before, change.after))
    return [title, *sides, interval_text(change.change, signed=True)]


def _counts(result: Debiased) -> Table:
    kinds = list(dict.fromkeys(kind for part in result.prompts.values() for kind in part))
    rows = [
        [name, *(str(part.get(kind, 0)) for kind in kinds)] for name, part in result.prompts.items()
    ]
    return Table(["prompts", *kinds], rows)


def _categories(comparison: Comparison) -> Section:
    titles = {name: _title(name) for name in comparison.categories}
    arms = {
        "aligned": {name: one.before for name, one in comparison.categories.items()},
        "debiased": {name: one.after for name, one in comparison.categories.items()},
    }
    lost = [*comparison.lost, *comparison.maybe_lost]
    return Section(
        "Harmful prompts, by category",
        "The share of good answers of the model as it is, and debiased.",
        plots.category_bars(arms, titles, lost),
        "Each bar is a share of test prompts; the thin line is its 95 % interval. Categories in red"
        " have lost beyond it.",
    )


def _title(category: str) -> str:
    return f"{category_name(category)} {SALAD_TASKS.get(category, '')}".strip()
