"""``tsdi debias``: from a model and labelled prompts to a bias that passed the safety gate."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

import tsdi
from tsdi.categories import category_name
from tsdi.cli import console, frame, options
from tsdi.cli.compare import changes_table
from tsdi.cli.menu import offer
from tsdi.evaluation.evaluate import Judging
from tsdi.evaluation.floors import FEWEST_PROMPTS
from tsdi.stats.interval import compact_text
from tsdi.suites.load import EVERYDAY

if TYPE_CHECKING:  # keeps torch out of the help
    from tsdi.debiasing.result import Debiased
    from tsdi.evaluation.gate import Gated


def debias(
    aligned: Annotated[str, typer.Argument(help="Model (or adapter) after the safety step.")],
    out: Annotated[Path, typer.Option(help="Folder for the bias, the runs and the report.")],
    reference: Annotated[
        str | None,
        typer.Argument(
            help="Model (or adapter) before the safety step; without, something stands in for it."
        ),
    ] = None,
    prompts: Annotated[
        str,
        typer.Option(metavar="WHAT", help="Prompts with kinds, as for tsdi evaluate."),
    ] = EVERYDAY,
    attack: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="Keep safety under this attack too; may be given again. Default: prefix-injection"
            " and role-play.",
            rich_help_panel=options.FLOORS,
        ),
    ] = None,
    fewest_prompts: options.FewestPrompts = FEWEST_PROMPTS,
    trials: Annotated[
        int,
        typer.Option(min=6, help="How many settings are tried.", rich_help_panel=options.SEARCH),
    ] = 12,
    max_new_tokens: options.MaxNewTokens = 32,
    batch_size: options.BatchSize = 16,
    pool: Annotated[
        str,
        typer.Option(
            help="Where random prompts are drawn from: neutral, tokenizer, mmlu, or a text file.",
            rich_help_panel=options.RANDOM,
        ),
    ] = "neutral",
    prompt_tokens: Annotated[
        int, typer.Option(min=1, help="Random tokens in a prompt.", rich_help_panel=options.RANDOM)
    ] = 48,
    judge: Annotated[
        str | None, typer.Option(metavar="NAME[=MODEL]", help="As for tsdi evaluate.")
    ] = None,
    judge_arg: options.JudgeArg = None,
    end_of_thinking: options.EndOfThinking = "",
    dtype: options.Dtype = "auto",
    device_map: options.DeviceMap = None,
    menu: Annotated[
        bool,
        typer.Option(help="Ask on a terminal what to do with the bias: chat, save, push, serve."),
    ] = True,
    json: options.Json = False,
    seed: Annotated[
        int,
        typer.Option(
            min=0, help="Decides what is drawn and tried.", rich_help_panel=options.SEARCH
        ),
    ] = 0,
) -> None:
    """Estimate, fit a condition, tune both under floors of safety, gate the result, and report.

    The prompts are divided in three, so that what chooses never reports. OUT/bias is written only
    if the safety gate opens and a gain is shown; else the exit code is 1. Called again, a killed
    run goes on.

    Example: tsdi debias acme/aligned acme/reference --prompts xstest --judge wildguard --out done
    """
    frame.find(aligned, reference, prompts=[prompts], judge=judge)
    console.quiet_libraries()
    loading = tsdi.LoadOptions(dtype, device_map)
    opening = options.read_judge(judge_arg, dtype, device_map)
    with console.bar("debias") as update:
        result = tsdi.debias(
            aligned,
            reference,
            out,
            prompts,
            settings=tsdi.Debiasing(
                pool=pool,
                prompt_tokens=prompt_tokens,
                attacks=attack or (),
                fewest_prompts=fewest_prompts,
                trials=trials,
                max_new_tokens=max_new_tokens,
                batch_size=batch_size,
                seed=seed,
                options=loading,
            ),
            judging=Judging(judge, opening, end_of_thinking=end_of_thinking),
            progress=update,
        )
    if json:
        console.show_json(result.to_dict())
    else:
        _show(result, aligned)
    if result.why_not:
        raise typer.Exit(1)
    if menu and result.bias and not json and _is_terminal():
        offer(aligned, result.bias, loading)


def _is_terminal() -> bool:
    return console.out.is_terminal and sys.stdin.isatty()


def _show(result: "Debiased", model: str) -> None:
    from tsdi.debiasing.page import stand_in, verdict
    from tsdi.debiasing.result import REPORT

    if said := stand_in(result):
        console.say(said)
    if result.gated:
        _show_figures(result, result.gated)
    if result.together:
        names = ", ".join(map(category_name, result.together))
        console.say(f"Looked at as one category, for want of prompts: {names}.")
    line = verdict(result)
    console.out.print(console.red(line) if result.why_not else line)
    console.say(f"The report: {result.out / REPORT}")
    if result.bias:
        console.out.print(
            f"\nNow:\n  tsdi generate {model} --bias {result.bias} --prompt TEXT\n"
            f"  tsdi serve {model} --bias {result.bias} --engine vllm",
            markup=False,
            soft_wrap=True,
        )


def _show_figures(result: "Debiased", gated: "Gated") -> None:
    """Both arms side by side, what was chosen, and how far the gate could look."""
    from tsdi.debiasing.page import changes
    from tsdi.stats.proportions import unseen_loss

    console.out.print(changes_table(gated.comparison))
    console.say(f"Chosen: {result.chosen}.")  # below, where a long table leaves it in sight
    for title, change in changes(result):
        if change.change.value is None:
            continue
        before, after = (compact_text(one) for one in (change.before, change.after))
        console.say(f"{title.capitalize()}: {before} before, {after} after.")
    for text in gated.why_shut():
        console.out.print(console.red(f"Safety gate: {text}"))
    where = " and ".join(["plain prompts", *result.attacks])
    fewest = min(gated.comparison.pairs.values(), default=0)
    console.say(
        f"Safety was looked at on {where}; figures are of prompts that chose nothing."
        f" A category rests on {fewest} harmful prompts or more: with none lost, up to"
        f" {unseen_loss(fewest):.0%} of what is safe or refused may be."
    )
    if result.condition:
        console.say(result.condition[-1])
