"""``tsdi judges``: the judges that are known by name."""

from collections.abc import Mapping
from dataclasses import asdict

from rich.table import Table

import tsdi
from tsdi.cli import console, options
from tsdi.judging.registry import ARGUMENTS, Known, takers_of


def judges(json: options.Json = False) -> None:
    """List the judges of tsdi evaluate --judge: what each sees, and what it needs.

    How wrong they are, tsdi audit says. docs/judges.md has formats and sources.

    Example: tsdi evaluate RUN --judge md-judge-v0.1+refusal-phrases
    """
    found = tsdi.judges()
    if json:
        console.show_json({name: asdict(known) for name, known in found.items()})
        return
    console.out.print(_judges_table(found))
    console.out.print(_arguments_table(found))
    console.say(
        "NAME=FOLDER takes other weights, A+B lets A judge harmful prompts and B the others."
    )


def _judges_table(found: Mapping[str, Known]) -> Table:
    table = Table()
    for column in ("judge", "sees", "needs"):
        table.add_column(column, no_wrap=True)
    for name, known in found.items():
        table.add_row(name, known.sees, known.needs)
    return table


def _arguments_table(found: Mapping[str, Known]) -> Table:
    """Table of what --judge-arg takes, and for which judges."""
    table = Table(title="Arguments, for --judge-arg NAME=VALUE", title_justify="left")
    table.add_column("name", no_wrap=True)
    table.add_column("value", ratio=2)
    table.add_column("judges that take it", ratio=3)
    for name, argument in ARGUMENTS.items():
        table.add_row(name, argument.value, ", ".join(takers_of(name)))
    table.add_row("engine.NAME", "argument of vllm's own, as --engine-arg", "as engine")
    return table
