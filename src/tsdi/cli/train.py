"""``tsdi train``: every model of a recipe."""

import os
import shlex
import sys
import warnings
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from tsdi.cli import console, frame
from tsdi.cli.options import JsonOption, ResumeOption
from tsdi.errors import TsdiError

if TYPE_CHECKING:
    from tsdi.training.recipe import Recipe
    from tsdi.training.run import Settings


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
        int | None,
        typer.Option(min=0, max=2**32 - 1, help="Instead of the recipe's seed."),
    ] = None,
    smoke: Annotated[
        bool, typer.Option("--smoke", help="Try it out: a tiny random model, a few steps.")
    ] = False,
    resume: ResumeOption = False,
    json: JsonOption = False,
) -> None:
    """Train the models of a recipe: SFT, DPO or KTO, weight merges.

    Example: tsdi train recipes/sacpo-7b/dpo.yaml --smoke --out try

    Several devices: accelerate launch --config_file recipes/fsdp.yaml -m tsdi train ...
    """
    from tsdi.training.processes import processes
    from tsdi.training.recipe_file import read_recipe
    from tsdi.training.run import Settings, train_recipe
    from tsdi.training.smoke import shrink

    console.quiet_libraries()
    _quiet_trainers()
    read = read_recipe(recipe)
    settings = Settings(
        out=out,
        data=data or recipe.parent,
        seed=read.seed if seed is None else seed,
        command=shlex.join(["tsdi", *sys.argv[1:]]),
        smoke=smoke,
        only=stage,
    )
    asked = shrink(read) if smoke else read
    try:
        with console.bar("training", shown=processes().is_main_process) as progress:
            made = train_recipe(asked, settings, resume, progress)
    except TsdiError:
        if processes().is_main_process:
            raise
        raise typer.Exit(frame.BAD_USAGE) from None  # the main process says why
    if processes().is_main_process:
        _draw_monitors(asked, settings)
        _show(asked, settings, made, json)


def _quiet_trainers() -> None:
    os.environ.setdefault("TQDM_DISABLE", "1")
    warnings.filterwarnings("ignore", category=FutureWarning, module="transformers")
    with suppress(ImportError):  # the run says what is not installed
        from datasets import disable_progress_bars

        disable_progress_bars()


def _draw_monitors(recipe: "Recipe", settings: "Settings") -> None:
    """A page for every stage that was watched."""
    from tsdi.report.monitor import write_monitor_report
    from tsdi.training.monitor_log import read_log
    from tsdi.training.recipe import Preference
    from tsdi.training.run import monitor_log, run_names

    for name, stage in recipe.stages.items():
        if isinstance(stage, Preference) and stage.monitor is not False:
            logs = {run: monitor_log(settings.out, run) for run in run_names(name, stage)}
            runs = {run: read_log(log) for run, log in logs.items() if log.exists()}
            if runs:
                page = settings.out / "logs" / f"{name}.monitor.html"
                made = {"command": settings.command, "seed": str(settings.seed)}
                write_monitor_report(page, runs, stage.monitor, made)


def _show(recipe: "Recipe", settings: "Settings", made: list[Path], json: bool) -> None:
    from tsdi.training.run import read_logs

    models = [str(folder.relative_to(settings.out)) for folder in made]
    runs = [
        {key: value for key, value in log.items() if key != "history"}
        for log in read_logs(recipe, settings.out)
    ]
    if json:
        console.show_json({"out": str(settings.out), "models": models, "runs": runs})
        return
    table = Table(title="Training runs", title_justify="left")
    for column in ("run", "beta", "rows", "cut", "left out", "steps", "loss", "seconds"):
        table.add_column(column, justify="left" if column == "run" else "right", no_wrap=True)
    for run in runs:
        beta = "-" if run["beta"] is None else f"{run['beta']:g}"
        loss, seconds = f"{run['train_loss']:.4f}", f"{run['seconds']:.0f}"
        rows = (str(run["examples"]), str(run["cut"]["rows"]), str(run["dropped"]["rows"]))
        table.add_row(run["run"], beta, *rows, str(run["steps"]), loss, seconds)
    console.out.print(table)
    shown = ", ".join(models) if len(models) <= 4 else f"{len(models)} models"
    console.say(f"In {settings.out}: {shown}.")
