"""Layout and record of the folder of a recipe's run.

OUT/run.json            recipe, seed, versions, data and how it was started
OUT/start/              the new model and its tokenizer, where the recipe makes one
OUT/data/               prompts that were held out; pairs with the model's own samples
OUT/STAGE[/BETA-STEP]/  the models
OUT/logs/               what the trainer logged, one file a run; what the monitor saw
OUT/.work/              checkpoints and reference log-probabilities
"""

import importlib.metadata
import logging
import platform
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from tsdi.errors import FormatError, RunExistsError, UsageError
from tsdi.files import is_unused, read_object, working_in, write_bytes, write_json
from tsdi.models.fingerprint import fingerprint
from tsdi.training.processes import processes
from tsdi.training.recipe import Recipe, run_names
from tsdi.training.rows import Fit
from tsdi.training.sources import Data
from tsdi.training.trainers import Run

_PACKAGES = ("torch", "transformers", "tokenizers", "trl", "datasets", "accelerate", "peft")
_say = logging.getLogger(__name__)


@dataclass(frozen=True)
class Settings:
    """Settings of a run of a recipe: folders, seed, and what is run of it.

    Attributes:
        out: The folder.
        data: Folder that the recipe's relative paths start from.
        seed: Decides weights, order of the data and samples.
        command: Command line of the run.
        smoke: Whether this only tries the recipe out.
        only: Stage (or run of one beta, such as "safety/beta0.1") to run; "" runs all.
    """

    out: Path
    data: Path
    seed: int
    command: str
    smoke: bool = False
    only: str = ""


def check_installed() -> None:
    """Raise a UsageError with the install line when a package is not installed."""
    for name in _PACKAGES:
        try:
            importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            raise UsageError(
                f"Training needs {name}, which is not installed.", "Run: pip install 'tsdi[train]'."
            ) from None


def versions() -> dict[str, str]:
    """The versions that decide whether a run can be repeated."""
    return {"python": platform.python_version()} | {
        name: importlib.metadata.version(name) for name in ("tsdi", *_PACKAGES)
    }


def log_file(out: Path, name: str) -> Path:
    """The path of a finished run's log, OUT/logs/RUN.json."""
    return out / "logs" / f"{name.replace('/', '-')}.json"


def monitor_log(out: Path, name: str) -> Path:
    """The path of a run's bias monitor log, OUT/logs/RUN.monitor.jsonl."""
    return log_file(out, name).with_suffix(".monitor.jsonl")


def read_logs(recipe: Recipe, out: Path) -> list[dict[str, Any]]:
    """The logs of a recipe's finished runs without their histories, in the recipe's order."""
    names = [run for name, stage in recipe.stages.items() for run in run_names(name, stage)]
    logs = [log_file(out, name) for name in names]
    return [read_run_log(log) for log in logs if log.exists()]


class _Rows(BaseModel):
    rows: int


class _Log(BaseModel):
    run: str
    beta: float | None
    examples: int
    cut: _Rows
    dropped: _Rows
    steps: int
    seconds: float
    train_loss: float


def read_run_log(path: Path) -> dict[str, Any]:
    """Read and check the log of a finished run.

    Raises:
        FormatError: If it cannot be read, or lacks what the table of runs shows.
    """
    remedy = f"Restore it, or delete it and train {path.stem} again."
    found = read_object(path, remedy)
    try:
        _Log.model_validate(found)
    except ValidationError as error:
        key = ".".join(map(str, error.errors()[0]["loc"]))
        raise FormatError(f"{path} is damaged: `{key}` is not what it should be.", remedy) from None
    return found


def open_folder(recipe: Recipe, settings: Settings, resume: bool, data: Data) -> None:
    """Write run.json in a new folder, or check that a used one holds this run.

    Raises:
        RunExistsError: If it holds another run, or one that is not to be gone on with.
        FormatError: If what it holds is damaged.
    """
    out, note = settings.out, settings.out / "run.json"
    made = {
        "recipe": recipe.model_dump(mode="json", by_alias=True),
        "seed": settings.seed,
        "smoke": settings.smoke,
        "versions": versions(),
        "data": data.hashes(),
        **({} if recipe.model.load is None else {"fingerprint": fingerprint(recipe.model.load)}),
    }
    new = is_unused(out)
    processes().wait_for_everyone()  # all have looked before one writes
    if not new:
        if not resume:
            raise RunExistsError(
                f"{out} already holds files.", "Choose a new folder, or go on in it with --resume."
            )
        _check_same(note, made)
        read_logs(recipe, out)  # a damaged one is told before the work
    elif processes().is_main_process:
        write_json(note, {"command": settings.command} | made)  # first: it says whose the folder is
    if processes().is_main_process:
        (out / "data").mkdir(exist_ok=True)
        for name, lines in data.held_out().items():
            if not (out / "data" / name).exists():
                write_bytes(out / "data" / name, lines)
    processes().wait_for_everyone()


def _check_same(note: Path, made: dict[str, Any]) -> None:
    if not note.exists():
        raise RunExistsError(f"{note.parent} holds no training run.", "Choose a new folder.")
    before = read_object(note, "Restore it, or choose a new folder.")
    if "fingerprint" in made and "fingerprint" not in before:
        _say.warning("%s does not say which weights it began with.", note)
        before["fingerprint"] = made["fingerprint"]
    different = [key for key, value in made.items() if before.get(key) != value]
    if different == ["fingerprint"]:
        raise RunExistsError(
            f"{note.parent} holds a run that began with other weights: those of"
            f" {made['recipe']['model']['load']} have changed since.",
            "Choose a new folder.",
        )
    if different:
        raise RunExistsError(
            f"{note.parent} holds a run with another {' and '.join(different)}.",
            "Choose a new folder.",
        )


def note_rows(out: Path, run: Run, fit: Fit) -> None:
    """Log a warning on rows that are too long, and note their numbers in run.json."""
    if processes().is_main_process:
        note = out / "run.json"
        with working_in(out, wait=True):
            record = read_object(note, "Choose a new folder.")
            write_json(note, record | {"rows": record.get("rows", {}) | {run.name: fit.record()}})
        words = fit.words(run.name, run.stage.max_length)
        if words and not record.get("smoke"):  # which made the length so small
            _say.warning("%s", words)
