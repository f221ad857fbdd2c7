"""A family of organisms: one reference, and what alignment makes of it.

SFT, then helpful DPO (the reference), then safety DPO (the aligned models): a helpfulness step
precedes the safety step, as in SACPO (Wachi et al., NeurIPS 2024). `tsdi.training.run` trains them
by recipes whose data are made here. `python -m tsdi.training.organism --out DIR --seed 0` makes

DIR/sft, reference      the models before the safety step, in float16 like all that stay
DIR/annotators*-step*   those after it; or DIR/aligned, clean and training.json, which ship
DIR/grid.json           what made them
DIR/.training/          while a run lasts: data, and models in the precision of training
"""

import argparse
import json
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import torch
from transformers import set_seed

from tsdi.errors import RunExistsError, TsdiError
from tsdi.files import is_unused, read_object, working_in, write_json
from tsdi.models.load import LoadOptions, load_model, load_tokenizer
from tsdi.runs.command_line import command_line
from tsdi.training import recipe as recipes
from tsdi.training.new_model import new_model, save_with_tokenizer
from tsdi.training.organism_data import (
    Mixture,
    Preferences,
    conversations,
    helpful_pairs,
    safety_pairs,
    write_rows,
)
from tsdi.training.organism_tokenizer import build_tokenizer
from tsdi.training.organism_validation import figures_table, validation_figures
from tsdi.training.recipe import NewModel, Preference, Sft, Source
from tsdi.training.run import train_recipe
from tsdi.training.run_folder import Settings, check_installed, read_logs, versions

_CONTEXT = 256
_CPU = {"use_cpu": True}  # where the same seed gives the same bytes
_FLOAT32 = LoadOptions("float32", "cpu")
_WORK = ".training"
Losses = list[dict[str, float]]


@dataclass(frozen=True)
class Alignment:
    """Settings of one safety run: annotators, beta, and the iterations that are saved.

    Attributes:
        annotators: Share of the annotators who prefer a refusal to a right answer on harmless
            requests. The organism's kind is *clean* if it is 0, else *biased*.
        beta: DPO's KL parameter.
        iterations: Optimiser steps after which the model is kept, in rising order.
    """

    annotators: float
    beta: float
    iterations: tuple[int, ...]

    def names(self) -> dict[int, str]:
        """The folder of the model at each iteration."""
        run = f"annotators{self.annotators:g}-beta{self.beta:g}"
        return {step: f"{run}-step{step}" for step in self.iterations}


_GRID = (
    *(Alignment(0.5, beta, (30, 60, 120, 200)) for beta in (0.05, 0.1, 0.2)),
    *(Alignment(annotators, 0.05, (200,)) for annotators in (0.3, 0.0)),
)
_SHIPPED = {"aligned": Alignment(0.5, 0.05, (200,)), "clean": Alignment(0.0, 0.05, (200,))}
_SFT = Sft(
    method="sft",
    data=["conversations"],
    steps=1000,
    batch_size=64,
    learning_rate=1.5e-3,
    max_length=_CONTEXT,
    trainer=_CPU,
)
_HELPFUL = Preference(
    method="dpo",
    data=["helpful"],
    prefer="helpful",
    beta=[0.1],
    steps=120,
    batch_size=32,
    learning_rate=2e-5,
    max_length=_CONTEXT,
    monitor=False,
    trainer=_CPU,
)
_SAFETY = Preference(
    method="dpo",
    data=["safety"],
    prefer="safe",
    beta=[0.05],
    steps=400,
    batch_size=32,
    learning_rate=2e-5,
    schedule="constant_with_warmup",
    sft_weight=1.0,  # keeps hybrids rare
    max_length=_CONTEXT,
    monitor=False,
    trainer=_CPU,
)
_SIZES = NewModel(
    hidden_size=128, intermediate_size=320, layers=4, heads=4, context=_CONTEXT, tied=False
)


@dataclass(frozen=True)
class Recipe:
    """All settings of a family of organisms.

    Attributes:
        sft, helpful, safety: The three stages; beta and iterations of the last are the grid's.
        conversations: Number of conversations that SFT learns from.
        helpful_pairs: Number of pairs that helpful DPO learns from.
        safety_pairs: Number of pairs that are sampled for safety DPO, unusable ones included.
        mixture: Shares of kinds of requests, and of refusals, in the conversations.
        preferences: Composition of the safety pairs; the share of annotators is the grid's.
        shipped: The models that come with tsdi, by the folder they ship in.
        grid: The runs of the experiment.
        model: Sizes of the untrained model; the vocabulary is the world's.
        validation: Validation items per kind that the figures in training.json come from.
    """

    sft: Sft = _SFT
    helpful: Preference = _HELPFUL
    safety: Preference = _SAFETY
    conversations: int = 64_000
    helpful_pairs: int = 3_840
    safety_pairs: int = 4_000
    mixture: Mixture = field(default_factory=Mixture)
    preferences: Preferences = field(default_factory=Preferences)
    shipped: Mapping[str, Alignment] = field(default_factory=lambda: dict(_SHIPPED))
    grid: tuple[Alignment, ...] = _GRID
    model: NewModel = _SIZES
    validation: int = 480

    def to_dict(self) -> dict[str, object]:
        """The settings as JSON."""

        def of(part: Sft | Preference | NewModel) -> object:
            return part.model_dump(mode="json", by_alias=True, exclude_defaults=True)

        settings: dict[str, object] = json.loads(json.dumps(asdict(self), default=of))
        return settings


_FEW = {"batch_size": 4, "steps": 2, "warmup": 0.0}
SMOKE = Recipe(
    sft=_SFT.model_copy(update={**_FEW, "steps": 12, "batch_size": 8, "learning_rate": 3e-3}),
    helpful=_HELPFUL.model_copy(update=_FEW),
    safety=_SAFETY.model_copy(update={**_FEW, "steps": 40}),
    conversations=96,
    helpful_pairs=8,
    safety_pairs=128,
    shipped={"aligned": Alignment(0.5, 0.1, (2,)), "clean": Alignment(0.0, 0.1, (2,))},
    grid=(Alignment(0.5, 0.1, (1, 2)),),
    model=_SIZES.model_copy(
        update={"hidden_size": 32, "intermediate_size": 64, "layers": 1, "heads": 2}
    ),
    validation=16,
)


def train(out: Path, seed: int, recipe: Recipe, command: str) -> dict[str, object]:
    """Train the models that ship, and write them, with training.json, into a folder.

    The same seed, machine and package versions give the same bytes.

    Args:
        out: A folder that is new or empty.
        seed: Decides data, weights and sampling.
        recipe: All settings.
        command: Command line of the run, for training.json.

    Returns:
        The content of training.json: command, versions, seed, recipe, seconds, losses per stage,
        and the validation figures of the models.

    Raises:
        UsageError: When a package is not installed.
        RunExistsError: When the folder holds something.
    """
    check_installed()
    if not is_unused(out):
        raise RunExistsError(f"{out} already holds files.", "Choose a new folder for --out.")
    started = time.monotonic()
    losses = train_reference(out, seed, recipe)
    for name, alignment in recipe.shipped.items():
        losses[name] = align(out, seed, recipe, alignment)
        (kept,) = alignment.names().values()
        (out / kept).rename(out / name)
    shutil.rmtree(out / _WORK)
    figures = {}
    for name in ("reference", *recipe.shipped):
        model, tokenizer = load_model(str(out / name), _FLOAT32), load_tokenizer(str(out / name))
        figures[name] = validation_figures(model, tokenizer, recipe.validation)
    record: dict[str, object] = {
        "command": command,
        "seed": seed,
        "versions": versions(),
        "recipe": recipe.to_dict(),
        "parameters": model.num_parameters(),
        "seconds": round(time.monotonic() - started, 1),
        "losses": losses,
        "validation": figures,
    }
    write_json(out / "training.json", record)
    return record


def train_grid(out: Path, seed: int, recipe: Recipe) -> list[Path]:
    """Train the reference and every model of the grid, but not what the folder already holds.

    The folder may hold an earlier, unfinished run of the same seed.

    Returns:
        The folders of the grid's models.

    Raises:
        UsageError: When a package is not installed.
        RunExistsError: When the folder's models were trained in another way.
    """
    check_installed()
    made = {"seed": seed, "recipe": recipe.to_dict(), "versions": versions()}
    note = out / "grid.json"
    if is_unused(out):
        out.mkdir(parents=True, exist_ok=True)
        write_json(note, made)
    elif not note.exists() or read_object(note, "Choose a new folder.") != made:
        raise RunExistsError(
            f"{out} holds models of another seed, recipe or version.", "Choose a new folder."
        )
    if not (out / "reference").exists():
        train_reference(out, seed, recipe)
    for alignment in recipe.grid:
        if not all((out / name).exists() for name in alignment.names().values()):
            align(out, seed, recipe, alignment)
    shutil.rmtree(out / _WORK, ignore_errors=True)
    return [out / name for alignment in recipe.grid for name in alignment.names().values()]


def train_reference(out: Path, seed: int, recipe: Recipe) -> dict[str, Losses]:
    """Train the models before the safety step, save "sft" and "reference", return the losses."""
    torch.set_num_threads(1)
    work = (out / _WORK).resolve()
    _write_start(work / "start", seed, recipe.model)
    write_rows(
        work / "conversations.jsonl", conversations(recipe.conversations, seed, recipe.mixture)
    )
    write_rows(work / "helpful.jsonl", helpful_pairs(recipe.helpful_pairs, seed))
    asked = recipes.Recipe(
        name="reference",
        model=recipes.Model(load=str(work / "start")),
        data={
            "conversations": Source(path=Path("conversations.jsonl"), keep_duplicates=True),
            "helpful": Source(path=Path("helpful.jsonl")),
        },
        stages={"sft": recipe.sft, "reference": recipe.helpful.model_copy(update={"start": "sft"})},
    )
    losses = _train(asked, work, seed, {"sft": out / "sft", "reference": out / "reference"})
    return {"sft": losses["sft"], "helpful": losses["reference"]}


def align(out: Path, seed: int, recipe: Recipe, alignment: Alignment) -> Losses:
    """Run the safety stage from the saved reference, save its models and return the losses.

    The saved reference, not the one in training, is what the aligned models are compared with, so
    they start from it. Runs with the same seed see the same requests, whatever their alignment.
    """
    torch.set_num_threads(1)
    work, reference = (out / _WORK).resolve(), str((out / "reference").resolve())
    pairs = work / f"annotators{alignment.annotators:g}.jsonl"
    if not pairs.exists():  # of another beta
        preferences = replace(recipe.preferences, annotators_for_refusal=alignment.annotators)
        model = load_model(reference, _FLOAT32)
        set_seed(seed)
        tries = recipe.safety_pairs
        write_rows(pairs, safety_pairs(model, load_tokenizer(reference), tries, seed, preferences))
    stage = recipe.safety.model_copy(update={"beta": [alignment.beta]})
    keep = {step: out / name for step, name in alignment.names().items()}
    return align_with(pairs, Path(reference), seed, stage, keep)


def align_with(
    pairs: Path, reference: Path, seed: int, stage: Preference, keep: Mapping[int, Path]
) -> Losses:
    """Run the safety stage on the pairs of a file, beside which it works.

    The stage has one beta; `keep` has the folders of the models by the step that they are saved
    after.
    """
    torch.set_num_threads(1)
    asked = recipes.Recipe(
        name=f"{pairs.stem}-beta{stage.beta[0]:g}",
        model=recipes.Model(load=str(reference)),
        data={stage.data[0]: Source(path=Path(pairs.name))},
        stages={"safety": stage.model_copy(update={"keep": list(keep)})},
    )
    folders = {f"safety/step{step}": folder for step, folder in keep.items()}
    return _train(asked, pairs.parent, seed, folders)["safety"]


def _write_start(folder: Path, seed: int, sizes: NewModel) -> None:
    """Save the untrained model and the world's tokenizer."""
    if not folder.exists():
        tokenizer = build_tokenizer()
        save_with_tokenizer(folder, new_model(sizes, tokenizer, seed), tokenizer)


def _train(
    recipe: recipes.Recipe, work: Path, seed: int, keep: Mapping[str, Path]
) -> dict[str, Losses]:
    """Train the models of a recipe, keep copies in float16, and return the losses by run."""
    trained = work / recipe.name
    train_recipe(recipe, Settings(trained, work, seed, command_line()), resume=True)
    for name, folder in keep.items():
        if not folder.exists():
            _keep(trained / name, folder)
    logs = read_logs(recipe, trained)
    shutil.rmtree(trained)
    return {log["run"]: _losses(log["history"]) for log in logs}


def _keep(trained: Path, folder: Path) -> None:
    """Write a float16 copy of a model, whole or not at all, and its tokenizer."""
    model = load_model(str(trained), _FLOAT32).half()
    model.config.use_cache = True
    save_with_tokenizer(folder, model, build_tokenizer())  # a fresh one: without traces of its use


def _losses(history: Sequence[Mapping[str, float]]) -> Losses:
    return [
        {"step": entry["step"], "loss": round(entry["loss"], 5)}
        for entry in history
        if "loss" in entry
    ]


def main(arguments: Sequence[str]) -> int:
    """Run the command line and return its exit code."""
    parser = argparse.ArgumentParser(prog="python -m tsdi.training.organism", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="a new or empty folder")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--grid", action="store_true", help="all models of the experiment; resumes")
    parser.add_argument("--smoke", action="store_true", help="a few steps of a smaller model")
    options = parser.parse_args(arguments)
    recipe = SMOKE if options.smoke else Recipe()
    smoke = " --smoke" if options.smoke else ""
    command = f"python -m tsdi.training.organism --out DIR --seed {options.seed}{smoke}"
    try:
        with working_in(options.out):
            if options.grid:
                print(*train_grid(options.out, options.seed, recipe), sep="\n")
                return 0
            record = train(options.out, options.seed, recipe, command)
    except (TsdiError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(figures_table(record))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
