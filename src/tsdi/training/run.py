"""Runs of recipes: stage after stage into a folder, each model once, and on from where it stopped.

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
import shutil
import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase, TrainerCallback, set_seed

from tsdi.errors import FormatError, MismatchError, ModelError, RunExistsError, UsageError
from tsdi.files import (
    is_unused,
    read_object,
    working_in,
    working_on,
    write_bytes,
    write_folder,
    write_json,
)
from tsdi.models.chat import fix_arguments
from tsdi.models.fingerprint import fingerprint
from tsdi.models.load import load_tokenizer
from tsdi.training import sources
from tsdi.training.data import Example, Pair, Rating
from tsdi.training.merge import merge
from tsdi.training.model import new_model, new_tokenizer
from tsdi.training.monitor import BiasMonitor
from tsdi.training.processes import one_job_at_a_time, processes
from tsdi.training.progress import Progress, ShowProgress
from tsdi.training.recipe import Merge, Preference, Recipe, Sft
from tsdi.training.rows import Fit, check_room
from tsdi.training.run_log import read_run_log
from tsdi.training.samples import own_samples
from tsdi.training.trainers import (
    Run,
    build_trainer,
    check_settings,
    last_checkpoint,
    load_whole,
)

_PACKAGES = ("torch", "transformers", "tokenizers", "trl", "datasets", "accelerate", "peft")
_say = logging.getLogger(__name__)


@dataclass(frozen=True)
class Settings:
    """What a run has beside its recipe.

    Attributes:
        out: The folder.
        data: Folder that the recipe's relative paths start from.
        seed: Decides weights, order of the data and samples.
        command: What the user typed.
        smoke: Whether this only tries the recipe out.
        only: Stage (or run of one beta, such as "safety/beta0.1") to run; "" runs all.
    """

    out: Path
    data: Path
    seed: int
    command: str
    smoke: bool = False
    only: str = ""


def train_recipe(
    recipe: Recipe, settings: Settings, resume: bool = False, progress: Progress | None = None
) -> list[Path]:
    """Train every model of a recipe that is not there yet.

    Started by `accelerate launch`, every process calls it, and one of them writes.

    Args:
        recipe: What to train.
        settings: Where, and how.
        resume: Go on with what the folder holds; else it has to be new or empty.
        progress: Called with the run's name, its optimiser steps done, and all of them.

    Returns:
        The folders of the models that it was asked for, in the recipe's order.

    Raises:
        UsageError: If a package is missing, or a setting cannot be.
        RunExistsError: If the folder holds another run, or one that is not to be gone on with; or
            if another process works there.
        PromptError: If data cannot be used.
        ModelError: If the first model cannot.
    """
    _check_installed()
    stages = _asked(recipe, settings.only)
    data = sources.Data(recipe, settings.data, settings.smoke)
    _check(recipe, stages, settings, data)
    # Jobs may share a folder, one stage or beta each. One process of a job writes, and holds locks.
    with working_in(settings.out) if processes().is_main_process else nullcontext():
        _open_folder(recipe, settings, resume, data)
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


def _check_kept(run: Run, log: Path) -> None:
    """Refuse models of a finished run that are not what it kept."""
    kept = read_object(log, f"Delete it to train {run.name} again.").get("models", {})
    for folder in run.keep.values():
        if kept and fingerprint(str(folder)) != kept.get(folder.name):
            raise FormatError(
                f"{folder} is not the model that {run.name} kept: it is damaged, changed or gone.",
                f"Restore it, or delete {log} to train it again.",
            )


def _check(recipe: Recipe, stages: Sequence[str], settings: Settings, data: sources.Data) -> None:
    """Find what is wrong with settings and data now, not after hours, and before writing."""
    data.hashes()  # every file is there
    if recipe.model.load is not None:
        _check_room(recipe, stages, data, _tokenizer(recipe, recipe.model.load))
    for name in stages:
        stage = recipe.stages[name]
        if not isinstance(stage, Merge):
            for run in _runs(recipe, name, settings):
                check_settings(run)
            _rows(stage, data)
    data.held_out()


def _check_room(
    recipe: Recipe, stages: Sequence[str], data: sources.Data, tokenizer: PreTrainedTokenizerBase
) -> None:
    """Check that every stage has rows that leave room for a part of their answers."""
    for name in stages:
        stage = recipe.stages[name]
        if not isinstance(stage, Merge):
            check_room(name, stage.max_length, _rows(stage, data), tokenizer)


def monitor_log(out: Path, name: str) -> Path:
    """Where the bias monitor of a run writes."""
    return _log(out, name).with_suffix(".monitor.jsonl")


def read_logs(recipe: Recipe, out: Path) -> list[dict[str, Any]]:
    """What the finished runs of a recipe left in its folder, in the recipe's order."""
    names = [run for name, stage in recipe.stages.items() for run in run_names(name, stage)]
    logs = [_log(out, name) for name in names]
    return [read_run_log(log) for log in logs if log.exists()]


def versions() -> dict[str, str]:
    """The versions that decide whether a run can be repeated."""
    return {"python": platform.python_version()} | {
        name: importlib.metadata.version(name) for name in ("tsdi", *_PACKAGES)
    }


def _check_installed() -> None:
    for name in _PACKAGES:
        try:
            importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            raise UsageError(
                f"Training needs {name}, which is not installed.", "Run: pip install 'tsdi[train]'."
            ) from None


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


def run_names(name: str, stage: Sft | Preference | Merge) -> list[str]:
    """The runs of a stage: one for each beta."""
    if isinstance(stage, Preference):
        return [stage.run(name, beta) for beta in stage.beta]
    return [name]


def _runs(recipe: Recipe, name: str, settings: Settings) -> list[Run]:
    out, work = settings.out, settings.out / ".work"
    stage = recipe.stages[name]
    assert not isinstance(stage, Merge)
    start = str(out / (stage.start or "start"))
    if stage.start is None and recipe.model.load is not None:
        start = recipe.model.load
    if isinstance(stage, Sft):
        kept: list[tuple[str, float | None, dict[int, str]]] = [(name, None, {0: name})]
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


def _open_folder(recipe: Recipe, settings: Settings, resume: bool, data: sources.Data) -> None:
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


def _log(out: Path, name: str) -> Path:
    return out / "logs" / f"{name.replace('/', '-')}.json"


def _train_once(
    recipe: Recipe, run: Run, settings: Settings, data: sources.Data, progress: Progress | None
) -> None:
    """A training run that no other job is at, unless it is finished."""
    log = _log(settings.out, run.name)
    with working_on(settings.out / log.stem) if processes().is_main_process else nullcontext():
        processes().wait_for_everyone()
        if log.exists():
            _check_kept(run, log)
        else:
            _train(recipe, run, settings, data, progress)


def _train(
    recipe: Recipe, run: Run, settings: Settings, data: sources.Data, progress: Progress | None
) -> None:
    """One training run, from its last checkpoint if there is one; the log is written last."""
    started = time.monotonic()
    set_seed(run.seed)
    model, tokenizer = _start(recipe, run, settings, data)
    items = _items(run, settings.out, data, model, tokenizer)
    callbacks = _callbacks(run, settings, tokenizer, progress)
    trainer = build_trainer(run, model, tokenizer, items, callbacks)
    _note_rows(settings.out, run, trainer.fit)
    for callback in callbacks:
        if isinstance(callback, BiasMonitor):
            callback.log_through(trainer)  # to the user's tracker
    for folder in run.keep.values():
        folder.parent.mkdir(parents=True, exist_ok=True)
    result = trainer.train(resume_from_checkpoint=last_checkpoint(run.work))
    trainer.accelerator.wait_for_everyone()
    if processes().is_main_process:
        log = _log(settings.out, run.name)
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
    """What the trainer logged step by step, but for what counts from the start of a process."""
    steps = [entry for entry in logged if "train_loss" not in entry]
    return [{key: entry[key] for key in entry if key != "num_tokens"} for entry in steps]


def _mean_loss(history: Sequence[dict[str, float]]) -> float:
    """The mean over all steps; each entry has that of the steps since the one before."""
    total, last = 0.0, 0.0
    for entry in history:
        if "loss" in entry:
            total += entry["loss"] * (entry["step"] - last)
            last = entry["step"]
    return total / last


def _note_rows(out: Path, run: Run, fit: Fit) -> None:
    """Say which rows are too long now, and in the folder's record."""
    if processes().is_main_process:
        note = out / "run.json"
        with working_in(out, wait=True):
            record = read_object(note, "Choose a new folder.")
            write_json(note, record | {"rows": record.get("rows", {}) | {run.name: fit.record()}})
        if words := fit.words(run.name, run.stage.max_length):
            _say.warning("%s", words)


def _callbacks(
    run: Run, settings: Settings, tokenizer: PreTrainedTokenizerBase, progress: Progress | None
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
    recipe: Recipe, run: Run, settings: Settings, data: sources.Data
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """The model that a run starts from, and the tokenizer with its chat template."""
    new = run.stage.start is None and recipe.model.new is not None
    if new:
        with one_job_at_a_time(Path(run.start)):
            if not Path(run.start).exists() and processes().is_main_process:
                _save_new(recipe, settings, data, Path(run.start))
    processes().wait_for_everyone()
    if new:  # the others were checked before
        stages = _asked(recipe, settings.only)
        _check_room(recipe, stages, data, _tokenizer(recipe, run.start))
    if run.stage.start is not None and not Path(run.start).exists():
        raise UsageError(f"{run.start} is not there yet.", "Run the stage that makes it first.")
    return load_whole(run.start, run.dtype), _tokenizer(recipe, run.start)


def _tokenizer(recipe: Recipe, start: str) -> PreTrainedTokenizerBase:
    tokenizer = load_tokenizer(start)
    _set_template(recipe, tokenizer)
    if start == recipe.model.load:  # later stages find them in the template
        fix_arguments(tokenizer, recipe.model.template_args)
    return tokenizer


def _set_template(recipe: Recipe, tokenizer: PreTrainedTokenizerBase) -> None:
    if recipe.model.prompt_format is not None:
        tokenizer.chat_template = _template(recipe.model.prompt_format, tokenizer)
    if tokenizer.chat_template is None:
        raise ModelError(
            f"The model {recipe.model.load!r} has no chat template.",
            'Say how it is asked: `prompt_format: "USER: {prompt} ASSISTANT:"` under `model`.',
        )
    if tokenizer.eos_token is None:
        raise MismatchError(f"The tokenizer of {recipe.model.load!r} has no end-of-text token.")
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token


def _template(prompt_format: str, tokenizer: PreTrainedTokenizerBase) -> str:
    """The chat template that asks as `tsdi.models.chat.encode_chat` does with a prompt format."""
    before, after = prompt_format.split("{prompt}")
    bos = tokenizer.bos_token
    adds_bos = bool(bos) and tokenizer("a")["input_ids"][:1] == [tokenizer.bos_token_id]
    begin = "{{ bos_token }}" if adds_bos and not before.startswith(str(bos)) else ""
    return (
        f"{begin}{{% for message in messages %}}"
        "{% if message['role'] == 'assistant' %}{{ message['content'] }}{{ eos_token }}"
        f"{{% else %}}{{{{ {before!r} + message['content'] + {after!r} }}}}{{% endif %}}"
        "{% endfor %}"
    )


def _save_new(recipe: Recipe, settings: Settings, data: sources.Data, folder: Path) -> None:
    assert recipe.model.new is not None
    first = next(stage for stage in recipe.stages.values() if not isinstance(stage, Merge))
    examples = data.examples(first.data, getattr(first, "prefer", None))
    texts = (f"{example.prompt}\n{example.answer}" for example in examples)
    tokenizer = new_tokenizer(texts, recipe.model.new.vocabulary)
    model = new_model(recipe.model.new, tokenizer, settings.seed)
    with write_folder(folder) as unfinished:
        model.save_pretrained(unfinished)
        tokenizer.save_pretrained(unfinished)


def _items(
    run: Run,
    out: Path,
    data: sources.Data,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
) -> Sequence[Example] | Sequence[Pair] | Sequence[Rating]:
    """What a run trains on; one that prefers the data's answers samples the others first."""
    stage = run.stage
    if isinstance(stage, Sft) or stage.samples is None:
        return _rows(stage, data)
    file = out / "data" / f"{run.name.partition('/')[0]}.pairs.jsonl"  # for all betas
    examples = data.examples(stage.data, None)
    return own_samples(examples, stage.samples, run.seed, model, tokenizer, file)


def _rows(
    stage: Sft | Preference, data: sources.Data
) -> Sequence[Example] | Sequence[Pair] | Sequence[Rating]:
    """What the data of a stage say."""
    if isinstance(stage, Sft):
        return data.examples(stage.data, stage.prefer)
    if stage.prefer == "data":
        return data.examples(stage.data, None)
    if stage.method == "kto":
        return data.ratings(stage.data, stage.prefer)
    return data.pairs(stage.data, stage.prefer, stage.cleanse)


def _merge(stage: Merge, name: str, out: Path) -> list[Path]:
    folders = [out / merged for merged in stage.names(name)]
    for weight, folder in zip(stage.weights, folders, strict=True):
        if not folder.exists() and processes().is_main_process:
            folder.parent.mkdir(parents=True, exist_ok=True)
            merge([(out / stage.start, weight), (out / stage.other, 1 - weight)], folder)
    processes().wait_for_everyone()
    return folders
