"""Training of a recipe's stages in order, resumable after a kill."""

import math
import shutil
import time
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

from transformers import PreTrainedModel, PreTrainedTokenizerBase, TrainerCallback, set_seed

from tsdi.errors import FormatError, UsageError
from tsdi.files import read_object, working_in, working_on, write_json
from tsdi.models.fingerprint import fingerprint
from tsdi.runs.stage import StageProgress
from tsdi.training.merge import merge
from tsdi.training.monitor import BiasMonitor
from tsdi.training.processes import one_job_at_a_time, processes
from tsdi.training.progress import ShowProgress
from tsdi.training.recipe import Merge, Preference, Recipe, Sft, run_names
from tsdi.training.rows import Items, check_room
from tsdi.training.run_folder import (
    Settings,
    check_installed,
    log_file,
    monitor_log,
    note_rows,
    open_folder,
)
from tsdi.training.samples import own_samples
from tsdi.training.sources import Data
from tsdi.training.start import save_new, starting_tokenizer
from tsdi.training.trainers import Run, build_trainer, check_settings, last_checkpoint, load_whole


def train_recipe(
    recipe: Recipe, settings: Settings, resume: bool = False, progress: StageProgress | None = None
) -> list[Path]:
    """Train every model of a recipe that is not there yet.

    Started by `accelerate launch`, every process calls it, and one of them writes. Without `resume`
    the folder has to be new or empty.

    Returns:
        The folders of the models that it was asked for, in the recipe's order.

    Raises:
        UsageError: If a package is missing, or a setting cannot be.
        RunExistsError: If the folder holds another run, or one that is not to be gone on with; or
            if another process works there.
        PromptError: If data cannot be used.
        ModelError: If the first model cannot.
        NumericalError: If a training diverges.
    """
    check_installed()
    stages = _asked(recipe, settings.only)
    data = Data(recipe, settings.data, settings.smoke)
    _check(recipe, stages, settings, data)
    # Jobs may share a folder, one stage or beta each. One process of a job writes, and holds locks.
    with working_in(settings.out) if processes().is_main_process else nullcontext():
        open_folder(recipe, settings, resume, data)
    made = []
    for name in stages:
        stage = recipe.stages[name]
        if isinstance(stage, Merge):
            made += _merge(stage, name, settings.out)
            continue
        for run in _runs(recipe, name, settings):
            if settings.only in ("", name, run.name):
                made += list(run.keep.values())
                _train_once(recipe, run, settings, data, progress)
    return made


def _check(recipe: Recipe, stages: Sequence[str], settings: Settings, data: Data) -> None:
    """Check settings and data before anything is written or trained."""
    data.hashes()  # every file is there
    if recipe.model.load is not None:
        _check_room(recipe, stages, data, starting_tokenizer(recipe, recipe.model.load))
    for name in stages:
        stage = recipe.stages[name]
        if not isinstance(stage, Merge):
            for run in _runs(recipe, name, settings):
                check_settings(run)
            data.rows(stage)
    data.held_out()


def _check_room(
    recipe: Recipe, stages: Sequence[str], data: Data, tokenizer: PreTrainedTokenizerBase
) -> None:
    """Check that every stage has rows that leave room for a part of their answers."""
    for name in stages:
        stage = recipe.stages[name]
        if not isinstance(stage, Merge):
            check_room(name, stage.max_length, data.rows(stage), tokenizer)


def _asked(recipe: Recipe, only: str) -> list[str]:
    if not only:
        return list(recipe.stages)
    runs = {
        run: name
        for name, stage in recipe.stages.items()
        for run in (name, *run_names(name, stage))
    }
    if only not in runs:
        raise UsageError(f"The recipe has no stage {only!r}.", f"It has {', '.join(runs)}.")
    return [runs[only]]


def _runs(recipe: Recipe, name: str, settings: Settings) -> list[Run]:
    out, work = settings.out, settings.out / ".work"
    stage = recipe.stages[name]
    assert not isinstance(stage, Merge)
    start = str(out / (stage.start or "start"))
    if stage.start is None and recipe.model.load is not None:
        start = recipe.model.load
    if isinstance(stage, Sft):
        kept: list[tuple[str, float | None, dict[int, str]]] = [(name, None, stage.kept(name))]
    else:
        kept = [(stage.run(name, beta), beta, stage.kept(name, beta)) for beta in stage.beta]
    return [
        Run(
            name=run,
            stage=stage,
            beta=beta,
            start=start,
            dtype=recipe.model.dtype,
            keep={step: out / model for step, model in models.items()},
            work=work / run.replace("/", "-"),
            reference=work / f"{name}-reference",
            seed=settings.seed,
        )
        for run, beta, models in kept
    ]


def _train_once(
    recipe: Recipe, run: Run, settings: Settings, data: Data, progress: StageProgress | None
) -> None:
    """Train one run, unless it is finished; other jobs wait for it."""
    log = log_file(settings.out, run.name)
    with working_on(settings.out / log.stem) if processes().is_main_process else nullcontext():
        processes().wait_for_everyone()
        if log.exists():
            _check_kept(run, log)
        else:
            _train(recipe, run, settings, data, progress)


def _check_kept(run: Run, log: Path) -> None:
    """Refuse models of a finished run that are not what it kept."""
    kept = read_object(log, f"Delete it to train {run.name} again.").get("models", {})
    for folder in run.keep.values():
        if kept and fingerprint(str(folder)) != kept.get(folder.name):
            raise FormatError(
                f"{folder} is not the model that {run.name} kept: it is damaged, changed or gone.",
                f"Restore it, or delete {log} to train it again.",
            )


def _check_there(run: Run) -> None:
    """Refuse to end a run whose models of before a kill are gone."""
    gone = [str(folder) for folder in run.keep.values() if not folder.exists()]
    if gone:
        raise FormatError(f"{gone[0]} was kept, and is gone.", "Train anew, in another folder.")


def _train(
    recipe: Recipe, run: Run, settings: Settings, data: Data, progress: StageProgress | None
) -> None:
    """Train one run, from its last checkpoint if there is one, and write its log."""
    started = time.monotonic()
    set_seed(run.seed)
    model, tokenizer = _start(recipe, run, settings, data)
    items = _items(run, settings.out, data, model, tokenizer, progress)
    callbacks = _callbacks(run, settings, tokenizer, progress)
    trainer = build_trainer(run, model, tokenizer, items, callbacks)
    note_rows(settings.out, run, trainer.fit)
    for callback in callbacks:
        if isinstance(callback, BiasMonitor):
            callback.log_through(trainer)  # to the user's tracker
    for folder in run.keep.values():
        folder.parent.mkdir(parents=True, exist_ok=True)
    result = trainer.train(resume_from_checkpoint=last_checkpoint(run.work))
    trainer.accelerator.wait_for_everyone()
    _check_there(run)
    if processes().is_main_process:
        log = log_file(settings.out, run.name)
        log.parent.mkdir(exist_ok=True)
        record = {
            "run": run.name,
            "beta": run.beta,
            **trainer.fit.record(),
            "parameters": model.num_parameters(),
            "steps": trainer.state.global_step,
            "seconds": round(time.monotonic() - started, 1),
            "train_loss": _mean_loss(trainer.state.log_history),
            "train_steps_per_second": result.metrics["train_steps_per_second"],
            "models": {folder.name: fingerprint(str(folder)) for folder in run.keep.values()},
            "history": _history(trainer.state.log_history),
        }
        write_json(log, record)
        shutil.rmtree(run.work, ignore_errors=True)
        for callback in callbacks:
            if isinstance(callback, BiasMonitor):  # only a resumed run needs it
                callback.reference_file.unlink(missing_ok=True)
    trainer.accelerator.wait_for_everyone()


def _history(logged: Sequence[dict[str, float]]) -> list[dict[str, float]]:
    """The trainer's log by step, without token counts and values that are not finite.

    What is no finite number is left out, such as the gradient's norm where float16 skips a step.
    """
    steps = [entry for entry in logged if "train_loss" not in entry]
    return [
        {key: kept for key, kept in entry.items() if key != "num_tokens" and math.isfinite(kept)}
        for entry in steps
    ]


def _mean_loss(history: Sequence[dict[str, float]]) -> float:
    """The mean loss over all steps; each log entry is a mean since the one before."""
    total, last = 0.0, 0.0
    for entry in history:
        if "loss" in entry:
            total += entry["loss"] * (entry["step"] - last)
            last = entry["step"]
    return total / last


def _callbacks(
    run: Run, settings: Settings, tokenizer: PreTrainedTokenizerBase, progress: StageProgress | None
) -> list[TrainerCallback]:
    callbacks: list[TrainerCallback] = []
    if progress is not None and processes().is_main_process:
        callbacks.append(ShowProgress(run.name, progress))
    if isinstance(run.stage, Preference) and run.stage.monitor is not False:
        log = monitor_log(settings.out, run.name)
        monitor = run.stage.monitor
        paths = {
            key: settings.data / path
            for key, path in (("suite", monitor.suite), ("phrases", monitor.phrases))
            if path is not None
        }
        callbacks.append(BiasMonitor(tokenizer, log, monitor.model_copy(update=paths)))
    return callbacks


def _start(
    recipe: Recipe, run: Run, settings: Settings, data: Data
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """The model that a run starts from, and the tokenizer with its chat template."""
    new = run.stage.start is None and recipe.model.new is not None
    if new:
        with one_job_at_a_time(Path(run.start)):
            if not Path(run.start).exists() and processes().is_main_process:
                save_new(recipe, settings.seed, data, Path(run.start))
    processes().wait_for_everyone()
    if new:  # the others were checked before
        stages = _asked(recipe, settings.only)
        _check_room(recipe, stages, data, starting_tokenizer(recipe, run.start))
    if run.stage.start is not None and not Path(run.start).exists():
        raise UsageError(f"{run.start} is not there yet.", "Run the stage that makes it first.")
    return load_whole(run.start, run.dtype), starting_tokenizer(recipe, run.start)


def _items(
    run: Run,
    out: Path,
    data: Data,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    progress: StageProgress | None,
) -> Items:
    """The examples, pairs or ratings of a run, with the model's own samples where asked."""
    stage = run.stage
    if isinstance(stage, Sft) or stage.samples is None:
        return data.rows(stage)
    file = out / "data" / f"{run.name.partition('/')[0]}.pairs.jsonl"  # for all betas
    examples = data.examples(stage.data, None)
    return own_samples(examples, stage.samples, run.seed, model, tokenizer, file, progress)


def _merge(stage: Merge, name: str, out: Path) -> list[Path]:
    folders = [out / merged for merged in stage.names(name)]
    for weight, folder in zip(stage.weights, folders, strict=True):
        if not folder.exists() and processes().is_main_process:
            folder.parent.mkdir(parents=True, exist_ok=True)
            merge([(out / stage.start, weight), (out / stage.other, 1 - weight)], folder)
    processes().wait_for_everyone()
    return folders
