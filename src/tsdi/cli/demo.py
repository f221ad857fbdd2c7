"""``tsdi demo``: estimate, debias and compare on a model that comes along."""

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

import tsdi
from tsdi.cli import console, options
from tsdi.cli.compare import changes_table
from tsdi.cli.demo_organism import show_organism
from tsdi.demos.run import REPORT
from tsdi.demos.smollm2 import ARMS, QUESTION, STRENGTH, TOKENS, EverydayResult
from tsdi.stats.interval import compact_text

WIDTH = 22  # characters of a row's title


def demo(
    model: Annotated[
        str,
        typer.Argument(
            help="smollm2, a real model that is fetched at first use, or organism, a tiny one."
        ),
    ] = "smollm2",
    out: Annotated[Path, typer.Option(help="Folder for report and runs.")] = Path("tsdi-demo"),
    seed: Annotated[int, typer.Option(min=0, help="Decides random prompts.")] = 0,
    json: options.Json = False,
) -> None:
    """Estimate, debias and compare on a model that refuses too much, and write a report.

    SmolLM2-135M-Instruct is the reference; with an adapter that comes with tsdi it refuses harm,
    and much that only sounds harmful. The bias is estimated with random prompts and subtracted;
    tables show what that gains and what it costs, and report.html shows more. "organism" does the
    same in an invented world, in which a program knows every right answer.

    Example: tsdi demo organism --seed 1
    """
    console.quiet_libraries()
    with console.bar("estimate") as update:
        result = tsdi.demo(out, seed, update, model)
    report = out / REPORT
    if json:
        console.show_json({**result.to_dict(), "report": str(report)})
    elif isinstance(result, EverydayResult):
        _show(result, report)
    else:
        show_organism(result, report)


def _show(result: EverydayResult, report: Path) -> None:
    (asked,) = (one for one in result.answers if one.id == QUESTION)
    console.out.print(asked.prompt, style="bold", markup=False)
    example = Table(show_header=False)
    for name in ARMS:
        example.add_row(name, console.one_line(asked.answers[name], 300) + " ...")
    console.out.print(example)
    console.out.print(_types_table(result))
    console.out.print(changes_table(result.comparison))
    console.say(
        f"Debiased: {STRENGTH} of the bias, a strength that was chosen on other prompts. Refusals"
        " are found by the words of an answer; whether answers to harmful requests do harm was not"
        f" judged. Answers have {TOKENS} tokens. O1 to O16 are SALAD-Bench's tasks, which the"
        " report names; Holm is p, corrected for as many tests."
    )
    console.say(f"\nThe report, with pictures and more answers: {report}")
    console.out.print(
        "\nThe same on your own models:\n"
        "  tsdi estimate ALIGNED REFERENCE --out my-bias\n"
        "  tsdi evaluate ALIGNED --prompts everyday --out plain\n"
        "  tsdi evaluate ALIGNED --prompts everyday --bias my-bias --out debiased\n"
        "  tsdi compare plain debiased\n"
        "or, with a strength by prompt and the safety gate:\n"
        "  tsdi debias ALIGNED REFERENCE --out done"
    )


def _types_table(result: EverydayResult) -> Table:
    """Table of every arm's compliance with harmless prompts, by type."""
    table = console.table("Complied, harmless prompts by type, with 95 % intervals", ["", *ARMS])
    kinds = {one.category: one.kind for one in result.answers if one.kind != "harmful"}
    shares = {name: arm.figures.compliance_by_category for name, arm in result.arms.items()}
    for category, kind in kinds.items():
        title = category if kind == "lookalike" else "(other harmless)"
        table.add_row(title, *(compact_text(shares[name][category]) for name in ARMS))
    return table
