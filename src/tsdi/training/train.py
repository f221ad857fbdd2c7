"""``train``: every model of a recipe file."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tsdi.runs.command_line import command_line
from tsdi.runs.stage import StageProgress
from tsdi.training.recipe import Recipe, read_recipe
from tsdi.training.run import train_recipe
from tsdi.training.run_folder import Settings, read_logs
from tsdi.training.smoke import shrink


@dataclass(frozen=True)
class Trained:
    """The result of training a recipe: its models and the logs of its runs.

    Attributes:
        recipe: The recipe.
        settings: Folders, seed and what was run of it.
        models: The folders of the models, in the recipe's order.
        runs: The log of each finished run in the folder, without its history.
    """

    recipe: Recipe
    settings: Settings
    models: list[Path]
    runs: list[dict[str, Any]]

    def to_dict(self) -> dict[str, Any]:
        """Models and runs as JSON."""
        models = [str(folder.relative_to(self.settings.out)) for folder in self.models]
        return {"out": str(self.settings.out), "models": models, "runs": self.runs}


def train(
    recipe: str | Path,
    out: str | Path,
    data: str | Path | None = None,
    *,
    stage: str = "",
    seed: int | None = None,
    smoke: bool = False,
    resume: bool = False,
    progress: StageProgress | None = None,
) -> Trained:
    """Train the models of a recipe: SFT, DPO or KTO, weight merges.

    Started by `accelerate launch`, every process calls it, and one of them writes.

    Args:
        recipe: A recipe, a YAML file.
        out: Folder for the models.
        data: Base folder of the recipe's relative paths; None takes its own folder.
        stage: One stage, or one run of it, such as "safety/beta0.1"; "" trains all.
        seed: Seed in place of the recipe's.
        smoke: Train a tiny random model for a few steps, to try the recipe out.
        resume: Go on with a killed run.
        progress: Called with the run's name, its optimiser steps done, and all of them.

    Raises:
        TsdiError: If the recipe cannot be read, or the models cannot be trained.
    """
    recipe = Path(recipe)
    read = read_recipe(recipe)
    settings = Settings(
        out=Path(out),
        data=recipe.parent if data is None else Path(data),
        seed=read.seed if seed is None else seed,
        command=command_line(),
        smoke=smoke,
        only=stage,
    )
    asked = shrink(read) if smoke else read
    models = train_recipe(asked, settings, resume, progress)
    runs = [
        {key: value for key, value in log.items() if key != "history"}
        for log in read_logs(asked, settings.out)
    ]
    return Trained(asked, settings, models, runs)
