"""``tsdi winrate``: the win rate of a run over a base."""

from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

import tsdi
from tsdi.cli import console, options
from tsdi.cli.figures import show_bounds
from tsdi.engines.openai import ChatClient
from tsdi.errors import UsageError
from tsdi.evaluation.metrics import titles
from tsdi.evaluation.winrate import WinRate
from tsdi.judging.base import JudgeOptions
from tsdi.judging.pairwise import PairwiseJudge
from tsdi.stats.interval import Estimate, compact_text


def winrate(
    base: Annotated[Path, typer.Argument(help="A run, such as the aligned model's.")],
    run: Annotated[Path, typer.Argument(help="Another one, such as the debiased model's.")],
    judge: Annotated[
        str, typer.Option(metavar="MODEL", help="What the API calls the model that judges.")
    ],
    out: Annotated[Path, typer.Option(help="The folder of the comparison.")],
    judge_arg: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=VALUE",
            help="url=URL, the base URL of its OpenAI-compatible API; default: OPENAI_BASE_URL.",
        ),
    ] = None,
    end_of_thinking: options.EndOfThinking = "",
    resume: options.Resume = False,
    json: options.Json = False,
) -> None:
    """Compare two runs' answers by a model behind an API: how often does RUN help more than BASE?

    Each pair is asked in both orders; answers to harmful prompts are left out. Rates have 95 %
    intervals, clustered by prompt; the one at equal length is a regression as in AlpacaEval 2. The
    key is OPENAI_API_KEY; a server on this machine may need none.

    Example: tsdi winrate run-aligned run-debiased --judge MODEL --out win
    """
    opening = options.read_judge(judge_arg)
    if opening != JudgeOptions(url=opening.url):
        raise UsageError("The judge of a win rate takes the argument url alone.", "Leave out more.")
    with console.bar("compare") as update:
        found = tsdi.winrate(
            base,
            run,
            out,
            judge if opening.url is None else PairwiseJudge(ChatClient(judge, opening.url)),
            end_of_thinking=end_of_thinking,
            resume=resume,
            progress=partial(update, "compare"),
        )
    if json:
        console.show_json({"base": str(base), "run": str(run), **found.to_dict()})
        return
    console.out.print(rates_table(found))
    console.out.print(_counts(found))
    for text in found.notes:
        console.note(text)
    console.say(f"Saved in {out}.")


def rates_table(found: WinRate) -> Table:
    """Table of win rates with 95 % intervals, and safety before and after."""
    figures = found.figures
    title = f"RUN against BASE, judged by {found.judge['model']}"
    bounds = ["bounds"] if figures.unscored.value else []
    table = console.table(title, ["", "rate", "prompts", *bounds])

    def row(title: str, estimate: Estimate, ends: str = "", signed: bool = False) -> None:
        cells = [title, compact_text(estimate, signed), str(estimate.n), ends]
        table.add_row(*cells[: len(table.columns)])

    row("RUN wins", figures.win_rate, show_bounds(figures.bounds))
    row("RUN wins, at equal length", figures.length_controlled)
    row("the answer shown first wins", figures.first_position)
    row("unscored", figures.unscored)
    if found.safety is not None:
        table.add_section()
        title = titles(found.safety_judge)["safety"]
        row(f"{title}: BASE", found.safety.before)
        row(f"{title}: RUN", found.safety.after)
        row(f"{title}: change", found.safety.change, signed=True)
    return table


def _counts(found: WinRate) -> str:
    figures = found.figures
    same = f" ({figures.identical} word for word)" if figures.identical else ""
    counts = f"{figures.wins} prompts won, {figures.ties} tied{same}, {figures.losses} lost."
    if figures.longer is None:
        return counts
    return f"{counts} Mean length: {figures.longer:+.0f} characters."
