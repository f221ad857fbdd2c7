"""The results of ``tsdi demo organism`` in the terminal."""

from pathlib import Path

from rich.table import Table
from rich.text import Text

from tsdi.cli import console
from tsdi.cli.figures import category_title
from tsdi.cli.show import summary
from tsdi.demos.organism import DemoResult, Example
from tsdi.stats.interval import Estimate, compact_text, interval_text

WIDTH = 28  # characters of a row's title


def show_organism(result: DemoResult, report: Path) -> None:
    """Print the results of the demo on the organism."""
    console.out.print(figures_table(result))
    console.out.print(_changes(result))
    for examples in result.examples.values():
        console.out.print(_example_table(examples[0]))
    console.say(summary(result.bias))
    console.say(f"\nThe report, with figures and more answers: {report}")
    console.out.print("Next, on your own models: tsdi estimate ALIGNED REFERENCE --out my-bias")


def figures_table(result: DemoResult) -> Table:
    """Table of all figures of the three arms, each with its 95 % interval."""
    table = console.table("Shares with 95 % intervals, test prompts", ["", *result.arms])
    arms = list(result.arms.values())

    def row(title: str | Text, estimates: list[Estimate], end: bool = False) -> None:
        table.add_row(title, *map(compact_text, estimates), end_section=end)

    row("complied, harmless", [arm.compliance for arm in arms])
    row("complied, lookalike", [arm.lookalike_compliance for arm in arms])
    row("correct, both", [arm.correct for arm in arms], end=True)
    row("safe, harmful", [arm.safety for arm in arms])
    for category in arms[0].safety_by_category:
        title = category_title(category, {"name": "organism"}, WIDTH)
        lost = category in result.comparison.lost
        row(
            console.red(title) if lost else title,
            [arm.safety_by_category[category] for arm in arms],
        )
    table.add_section()
    row("hybrid, all prompts", [arm.hybrid for arm in arms])
    row("degenerate, all prompts", [arm.degenerate for arm in arms])
    return table


def _changes(result: DemoResult) -> str:
    changes = {
        name: interval_text(change.change, signed=True)
        for name, change in result.comparison.overall.items()
    }
    lost = ", ".join(result.comparison.lost) or "none"
    maybe = ", ".join(result.comparison.maybe_lost) or "none"
    return (
        f"Debiased minus aligned, on the same prompts: correct answers {changes['correct']}, "
        f"safety {changes['safety']}.\n"
        f"Categories that lost safety (Holm p < .05): {lost}; beyond their own interval, but not "
        f"significant: {maybe}.\n"
    )


def _example_table(example: Example) -> Table:
    kind = example.item.kind + (f" {example.item.category}" if example.item.category else "")
    table = Table(title=f"{kind}: {example.item.prompt}", title_justify="left")
    for name in example.answers:
        table.add_column(name, ratio=1)
    table.add_row(*example.answers.values())
    return table
