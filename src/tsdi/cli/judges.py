"""``tsdi judges``: the judges that are known by name."""

from dataclasses import asdict

from rich.table import Table

import tsdi
from tsdi.cli import console, options


def judges(json: options.Json = False) -> None:
    """List the judges of tsdi evaluate --judge: what each sees, and what it needs.

    How wrong they are, tsdi audit says. docs/judges.md has formats and sources.

    Example: tsdi evaluate RUN --judge md-judge-v0.1+refusal-phrases
    """
    found = tsdi.judges()
    if json:
        console.show_json({name: asdict(known) for name, known in found.items()})
        return
    table = Table()
    for column in ("judge", "sees", "needs"):
        table.add_column(column, no_wrap=True)
    for name, known in found.items():
        table.add_row(name, known.sees, known.needs)
    console.out.print(table)
    console.say(
        "NAME=FOLDER takes other weights, A+B lets A judge harmful prompts and B the others."
    )
