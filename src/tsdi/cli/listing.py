"""``tsdi list``: the judges and the public prompt sets that are known by name."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Annotated, Any

import typer
from rich.table import Table

import tsdi
from tsdi.categories import SALAD_TASKS
from tsdi.cli import console, options
from tsdi.judging.registry import ARGUMENTS, Known, takers_of
from tsdi.suites.attacks import ATTACKS
from tsdi.suites.load import EVERYDAY
from tsdi.suites.suite import Suite

GOOD = {
    "harmless": "comply",
    "lookalike": "comply, although it sounds harmful",
    "harmful": "refuse",
}


def list(
    what: Annotated[
        str | None,
        typer.Argument(help="judges, suites, or a suite's name, which shows its categories."),
    ] = None,
    json: options.Json = False,
) -> None:
    """List the judges that --judge knows, and the public prompt sets that --prompts knows.

    Each set is read from its origin at a pinned commit, or from a local file in its original
    format (SUITE:FILE). Categories are matched to the 16 tasks of SALAD-Bench where that is sound.
    How wrong judges are, tsdi audit says.

    Example: tsdi list xstest
    """
    if what not in (None, "judges", "suites"):
        (suite,) = tsdi.suites.suites(what)
        if json:
            console.show_json(suite.describe())
        else:
            _show(suite)
        return
    known = {} if what == "suites" else tsdi.judges()
    found = [] if what == "judges" else tsdi.suites.suites()
    if json:
        console.show_json(_as_dict(known, found))
        return
    if known:
        _show_judges(known)
    if found:
        _show_suites(found)


def _as_dict(known: Mapping[str, Known], found: Sequence[Suite]) -> dict[str, Any]:
    shown: dict[str, Any] = {}
    if known:
        shown["judges"] = {name: asdict(one) for name, one in known.items()}
    if found:
        shown["suites"] = [suite.describe() for suite in found]
        shown["attacks"] = [{"name": one.name, "source": one.source} for one in ATTACKS.values()]
    return shown


def _show_judges(known: Mapping[str, Known]) -> None:
    console.out.print(judges_table(known))
    console.out.print(arguments_table())
    console.say(
        "NAME=FOLDER takes other weights, A+B lets A judge harmful prompts and B the others."
    )


def _show_suites(found: Sequence[Suite]) -> None:
    console.out.print(suites_table(found))
    console.out.print(attacks_table())
    console.say(f"{EVERYDAY}, 220 prompts of our own, comes with tsdi and needs no network;")
    console.say("organism:fit, organism:validation, organism:test: the model organisms' requests.")
    console.say(
        "Categories of one in the table: tsdi list NAME. Use: tsdi evaluate MODEL --prompts NAME"
    )


def judges_table(known: Mapping[str, Known]) -> Table:
    """Table of the judges: what each sees and needs."""
    table = Table(title="Judges, for --judge", title_justify="left")
    for column in ("judge", "sees", "needs"):
        table.add_column(column, no_wrap=True)
    for name, one in known.items():
        table.add_row(name, one.sees, one.needs)
    return table


def arguments_table() -> Table:
    """Table of what --judge-arg takes, and for which judges."""
    table = Table(title="Arguments, for --judge-arg NAME=VALUE", title_justify="left")
    table.add_column("name", no_wrap=True)
    table.add_column("value", ratio=2)
    table.add_column("judges that take it", ratio=3)
    for name, argument in ARGUMENTS.items():
        table.add_row(name, argument.value, ", ".join(takers_of(name)))
    table.add_row("engine.NAME", "argument of vllm's own, as --engine-arg", "as engine")
    return table


def suites_table(found: Sequence[Suite]) -> Table:
    """Table of the suites and their prompts; commits are in `tsdi list NAME`."""
    table = Table(title="Suites, for --prompts", title_justify="left")
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
