"""``tsdi train``: every model of a recipe."""

import logging
import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

import tsdi
from tsdi.cli import console, frame, options
from tsdi.errors import TsdiError
from tsdi.training.recipe import read_recipe

if TYPE_CHECKING:  # keeps torch out of the help
    from tsdi.training.train import Trained


def train(
    recipe: Annotated[Path, typer.Argument(help="A recipe, a YAML file.")],
    out: Annotated[Path, typer.Option(help="Folder for the models.")],
    data: Annotated[
        Path | None,
        typer.Option(help="Where the recipe's relative paths start; default: its own folder."),
    ] = None,
    stage: Annotated[
        str, typer.Option(help="One stage, or one run of it: safety, safety/beta0.1.")
    ] = "",
    seed: Annotated[
        int | None, typer.Option(min=0, max=2**32 - 1, help="Instead of the recipe's seed.")
    ] = None,
    smoke: Annotated[
        bool, typer.Option("--smoke", help="Try it out: a tiny random model, a few steps.")
    ] = False,
    resume: options.Resume = False,
    json: options.Json = False,
) -> None:
    """Train the models of a recipe: SFT, DPO or KTO, weight merges.

    Example: tsdi train mine.yaml --out models

    \b
    mine.yaml:
      name: mine
      model: {load: organism/reference}
      data: {mine: {path: mine.jsonl}}
      stages:
        sft: {method: sft, data: [mine], steps: 9, batch_size: 1,
              learning_rate: 1.0e-4}
    mine.jsonl:
      {"prompt": "which kit?", "response": "sure, use the white kit."}

    Several devices: accelerate launch -m tsdi train mine.yaml --out models
    """  # noqa: D301 - the character that keeps a paragraph's lines
    _check(recipe)
    # They load torch.
    from tsdi.report.monitor import write_monitor_reports
    from tsdi.training.processes import processes

    console.quiet_libraries()
    _quiet_trainers()
    try:
        with console.bar("training", shown=processes().is_main_process) as progress:
            trained = tsdi.train(
                recipe,
                out,
                data,
                stage=stage,
                seed=seed,
                smoke=smoke,
                resume=resume,
                progress=progress,
            )
    except TsdiError:
        if processes().is_main_process:
            raise
        raise typer.Exit(frame.BAD_USAGE) from None  # the main process says why
    if processes().is_main_process:
        write_monitor_reports(trained)
        _show(trained, json)


def _check(recipe: Path) -> None:
    """Say what is wrong in a recipe before torch is loaded, which takes long."""
    try:
        read_recipe(recipe)
    except TsdiError:
        if os.environ.get("RANK", "0") == "0":
            raise
        raise typer.Exit(frame.BAD_USAGE) from None  # the main process says why


def _quiet_trainers() -> None:
    os.environ.setdefault("TQDM_DISABLE", "1")
    # It recommends weights that a recipe cannot set.
    logging.getLogger("trl.trainer.kto_trainer").setLevel(logging.ERROR)
    with suppress(ImportError):  # the run says what is not installed
        from datasets import disable_progress_bars

        disable_progress_bars()


def _show(trained: "Trained", json: bool) -> None:
    found = trained.to_dict()
    if json:
        console.show_json(found)
        return
    columns = ["run", "rows", "cut", "left out", "steps", "loss", "s"]  # 80 characters
    table = console.table("Training runs", columns)
    for run in trained.runs:
        loss, seconds = f"{run['train_loss']:.4f}", f"{run['seconds']:.0f}"
        rows = (str(run["examples"]), str(run["cut"]["rows"]), str(run["dropped"]["rows"]))
        table.add_row(run["run"], *rows, str(run["steps"]), loss, seconds)
    console.out.print(table)
    models = found["models"]
    shown = ", ".join(models) if len(models) <= 4 else f"{len(models)} models"
    console.say(f"In {trained.settings.out}: {shown}.")
