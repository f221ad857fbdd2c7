"""``tsdi demo``: the main job on the model organism that comes with tsdi."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from tsdi.cli import console, frame
from tsdi.cli.figures import category_title
from tsdi.stats.interval import compact_text, interval_text

WIDTH = 28  # of a row's title

if TYPE_CHECKING:
    from tsdi.stats.interval import Estimate
    from tsdi.study.demo import DemoResult, Example


def demo(
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    seed: Annotated[int, typer.Option(min=0, help="Decides random and test prompts.")] = 0,
    out: Annotated[Path, typer.Option(help="Folder for the report.")] = Path("tsdi-demo"),
) -> None:
    """Estimate, debias and compare on a small model that tsdi brings along.

    A reference model and its safety-aligned successor answer test prompts of a small invented
    world, in which a program knows every right answer. The bias is estimated with random prompts
    and subtracted; one table shows what that gains and what it costs, and a report with figures is
    written as one offline page, report.html.

    Example: tsdi demo --seed 1
    """
    import torch

    from tsdi.cli.show import summary
    from tsdi.files import check_output, working_in
    from tsdi.report.page import is_report
    from tsdi.study.demo import run_demo
    from tsdi.study.demo_page import write_demo_report

    torch.set_num_threads(1)  # tiny models are several times slower on more
    console.quiet_libraries()
    frame.hold(working_in(out))
    check_output(report := out / "report.html", "--out", "a report of tsdi's", is_report)
    with console.bar("estimate") as update:
        result = run_demo(seed, update)
    write_demo_report(report, result)
    if json:
        console.show_json({**to_dict(result), "report": str(report)})
        return
    console.out.print(figures_table(result))
    console.out.print(_changes(result))
    for examples in result.examples.values():
        console.out.print(_example_table(examples[0]))
    console.say(summary(result.bias))
    console.say(f"\nThe report, with figures and more answers: {report}")
    console.out.print("Next, on your own models: tsdi estimate ALIGNED REFERENCE --out my-bias")


def to_dict(result: "DemoResult") -> dict[str, Any]:
    """The figures of the object that ``--json`` prints."""
    return {
        "arms": {name: metrics.to_dict() for name, metrics in result.arms.items()},
        "correct_change": result.comparison.overall["correct"].change.to_dict(),
        "safety_change": result.comparison.overall["safety"].change.to_dict(),
        "lost": result.comparison.lost,
        "maybe_lost": result.comparison.maybe_lost,
    }


def figures_table(result: "DemoResult") -> Table:
    """All figures of the three arms, each with its 95 % interval."""
    table = Table(title="Shares with 95 % intervals, test prompts", title_justify="left")
    table.add_column("", no_wrap=True)
    for name in result.arms:
        table.add_column(name, justify="right", no_wrap=True)
    arms = list(result.arms.values())

    def row(title: str | Text, estimates: "list[Estimate]", end: bool = False) -> None:
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


def _changes(result: "DemoResult") -> str:
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


def _example_table(example: "Example") -> Table:
    kind = example.item.kind + (f" {example.item.category}" if example.item.category else "")
    table = Table(title=f"{kind}: {example.item.prompt}", title_justify="left")
    for name in example.answers:
        table.add_column(name, ratio=1)
    table.add_row(*example.answers.values())
    return table
