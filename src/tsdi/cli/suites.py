"""``tsdi suites``: the public prompt sets that are known by name."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Annotated

import typer
from rich.table import Table

import tsdi.suites
from tsdi.categories import SALAD_TASKS
from tsdi.cli import console, options
from tsdi.suites.attacks import ATTACKS
from tsdi.suites.load import EVERYDAY
from tsdi.suites.suite import Suite

GOOD = {
    "harmless": "comply",
    "lookalike": "comply, although it sounds harmful",
    "harmful": "refuse",
}


def suites(
    name: Annotated[str | None, typer.Argument(help="One suite, with its categories.")] = None,
    json: options.Json = False,
) -> None:
    """List the public prompt sets that --prompts knows, or show one of them.

    Each is read from its origin at a pinned commit, or from a local file in its original format
    (SUITE:FILE). Categories are matched to the 16 tasks of SALAD-Bench where that is sound.

    Example: tsdi suites xstest
    """
    found = tsdi.suites.suites(name)
    if name is not None:
        if json:
            console.show_json(found[0].describe())
        else:
            _show(found[0])
    elif json:
        attacks = [{"name": a.name, "source": a.source} for a in ATTACKS.values()]
        console.show_json({"suites": [suite.describe() for suite in found], "attacks": attacks})
    else:
        console.out.print(suites_table(found))
        console.out.print(attacks_table())
        console.say(f"{EVERYDAY}, 220 prompts of our own, comes with tsdi and needs no network;")
        console.say(
            "organism:fit, organism:validation, organism:test: the model organisms' requests."
        )
        console.say("tsdi suites NAME shows one. Use it: tsdi evaluate MODEL --prompts NAME ...")


def suites_table(found: Sequence[Suite]) -> Table:
    """Table of the suites and their prompts; commits are in `tsdi suites NAME`."""
    table = Table(title="Suites", title_justify="left")
    table.add_column("suite", no_wrap=True)
    table.add_column("prompts", no_wrap=True)
    table.add_column("cat.", justify="right", no_wrap=True)
    table.add_column("licence")
    for suite in found:
        kinds, categories = ",\n".join(suite.kinds.values()), str(len(suite.categories) or "-")
        table.add_row(suite.name, kinds, categories, suite.licence)
    return table


def attacks_table() -> Table:
    """Table of the attacks that --attack knows."""
    table = Table(title="Attacks, for --attack", title_justify="left")
    table.add_column("attack", no_wrap=True)
    table.add_column("source")
    for attack in ATTACKS.values():
        table.add_row(attack.name, attack.source)
    return table


def _show(suite: Suite) -> None:
    facts = Table.grid(padding=(0, 2))
    facts.add_column(no_wrap=True)
    facts.add_column(overflow="fold")
    for title, text in _facts(suite).items():
        facts.add_row(title, text)
    console.out.print(f"{suite.title} ({suite.name})", style="bold")
    console.out.print(facts)
    if suite.categories:
        console.out.print(categories_table(suite))
    for example in (suite.name, f"{suite.name}:FILE"):
        console.say(f"tsdi evaluate MODEL --prompts {example} --out RUN")


def _facts(suite: Suite) -> dict[str, str]:
    origin, columns = suite.origin, asdict(suite.columns)
    said = {word: f" ({columns['kind']}: {word})" if word else "" for word in suite.kinds}
    facts = {
        "good answer": "; ".join(f"{GOOD[kind]}{said[word]}" for word, kind in suite.kinds.items()),
        "licence": suite.licence,
        "project": suite.project,
        "data": origin.url or ", ".join(filter(None, [origin.name, origin.config, origin.split])),
        "revision": origin.revision,
        "columns": ", ".join(f"{ours}={theirs}" for ours, theirs in columns.items() if theirs),
        "rows": " is ".join(suite.where) if suite.where else "",
        "note": suite.note,
    }
    return {title: text for title, text in facts.items() if text}


def categories_table(suite: Suite) -> Table:
    """Table of a suite's categories with their SALAD tasks, or why there is none."""
    table = Table(title="Categories", title_justify="left")
    table.add_column("category")
    table.add_column("SALAD task")
    for category, code in suite.tasks.items():
        table.add_row(category, f"{code} {SALAD_TASKS[code]}")
    for category, reason in suite.unmatched.items():
        table.add_row(category, f"no match: {reason}")
    return table
