"""``tsdi sample-size``: the number of prompts that a question needs."""

from typing import Annotated

import typer

import tsdi
from tsdi.cli import console, options
from tsdi.stats.sample_size import ALPHA


def sample_size(
    points: Annotated[
        float, typer.Argument(help="The change that is to be seen, in percentage points.")
    ] = 5,
    share: Annotated[
        float, typer.Option(min=0, max=100, help="Of answers before it, in percent.")
    ] = 95,
    categories: Annotated[int, typer.Option(min=1, help="How many are tested together.")] = 16,
    json: options.Json = False,
) -> None:
    """How many prompts does it take to see a change of some points?

    The test is the exact McNemar test of two arms on the same prompts, as in tsdi compare; it
    matters how many answers turn the other way. In a category the level is that of Holm's
    adjustment at its worst, 0.05 / CATEGORIES. The change is found in 80 % of all cases.

    Example: tsdi sample-size 5 --categories 16
    """
    found = tsdi.sample_size(points / 100, share / 100, categories)
    if json:
        console.show_json(found.to_dict())
        return
    title = f"Prompts to see {points:g} points, p < {ALPHA:g}, {found.power:.0%} of the time"
    first = "answers that turn the other way"
    table = console.table(title, [first, "overall", "a category", f"all {categories}"])
    for row in found.needed:
        counts = [row.overall, row.category, categories * row.category]
        table.add_row(f"{100 * row.against:g} points", *map(str, counts))
    console.out.print(table)
    console.say(
        f"For a 95 % interval {2 * points:g} points wide around a share of {share:g} %: "
        f"{found.interval} prompts, {found.interval} in each category."
    )
