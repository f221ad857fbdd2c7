"""Train the organism: SFT, then helpful DPO (the reference), then safety DPO (the aligned model).

The recipe follows SACPO (Wachi et al., NeurIPS 2024), where a helpfulness step precedes the safety
step. Run it with `python -m tsdi.training.organism --out DIR --seed 0`.
"""

import argparse
import copy
import importlib.metadata
import json
import platform
import shutil
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import torch
from transformers import (
    BatchEncoding,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
    set_seed,
)

from tsdi.errors import RunExistsError, TsdiError, UsageError
from tsdi.files import is_unused, read_object, working_in, write_folder, write_json
from tsdi.models.load import LoadOptions, load_model
from tsdi.training.organism_data import (
    Mixture,
    Pair,
    Preferences,
    Turn,
    conversations,
    helpful_pairs,
    safety_pairs,
)
from tsdi.training.organism_sampling import validation_figures
from tsdi.training.organism_table import figures_table
from tsdi.training.organism_tokenizer import build_tokenizer

_PACKAGES = ("torch", "transformers", "tokenizers", "trl", "datasets", "accelerate")
_CONTEXT = 256
_MASKED = -100


@dataclass(frozen=True)
class Stage:
    """One round of training.

    Attributes:
        steps: Optimiser steps.
        batch: Conversations or pairs per step.
        examples: How many different ones are made (tried, for the safety pairs).
        learning_rate: Peak, reached after 3 % of the steps.
        schedule: How the learning rate goes on from there, in transformers' words.
        beta: DPO's KL parameter; unused in SFT, and in the safety stage a matter of the grid.
        sft_weight: Weight of the chosen answers' own likelihood beside DPO's loss (weight 1),
            which keeps hybrids rare; unused in SFT.
    """

    steps: int
    batch: int
    examples: int
    learning_rate: float
    schedule: str = "cosine"
    beta: float = 0.1
    sft_weight: float = 0.0


@dataclass(frozen=True)
class Alignment:
    """One run of the safety stage, which leaves a model at each of some iterations.

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


@dataclass(frozen=True)
class Recipe:
    """All settings of a family of models: one reference and what alignment makes of it.

    Attributes:
        sft, helpful, safety: The three stages; `steps` of the safety stage is where the learning
            rate's schedule ends.
        mixture: What the conversations of the first stage hold.
        preferences: Who prefers what in the safety stage; the share of annotators is the grid's.
        shipped: The models that come with tsdi, by the folder they ship in.
        grid: The runs of the experiment.
        hidden, layers, heads, mlp: Sizes of the Llama model.
        validation: Validation items per kind that the figures in training.json come from.
    """

    sft: Stage = Stage(1000, 64, 64_000, 1.5e-3)
    helpful: Stage = Stage(120, 32, 3_840, 2e-5, beta=0.1)
    safety: Stage = Stage(400, 32, 4_000, 2e-5, schedule="constant_with_warmup", sft_weight=1.0)
    mixture: Mixture = field(default_factory=Mixture)
    preferences: Preferences = field(default_factory=Preferences)
    shipped: Mapping[str, Alignment] = field(default_factory=lambda: dict(_SHIPPED))
    grid: tuple[Alignment, ...] = _GRID
    hidden: int = 128
    layers: int = 4
    heads: int = 4
    mlp: int = 320
    validation: int = 480


SMOKE = Recipe(
    sft=Stage(12, 8, 96, 3e-3),
    helpful=Stage(2, 4, 8, 2e-5),
    safety=Stage(2, 4, 128, 2e-5, schedule="constant_with_warmup", sft_weight=1.0),
    shipped={"aligned": Alignment(0.5, 0.1, (2,)), "clean": Alignment(0.0, 0.1, (2,))},
    grid=(Alignment(0.5, 0.1, (1, 2)),),
    hidden=32,
    layers=1,
    heads=2,
    mlp=64,
    validation=16,
)


def train(out: Path, seed: int, recipe: Recipe, command: str) -> dict[str, object]:
    """Train the models that ship, and write them, with training.json, into a folder.

    The same seed, machine and package versions give the same bytes.

    Args:
        out: A folder that is new or empty.
        seed: Decides data, weights and sampling.
        recipe: All settings.
        command: What the user typed, for training.json.

    Returns:
        The content of training.json: command, versions, seed, recipe, seconds, losses per stage,
        and the validation figures of the models.

    Raises:
        UsageError: When TRL is not installed.
        RunExistsError: When the folder holds something.
    """
    check_trl()
    if not is_unused(out):
        raise RunExistsError(f"{out} already holds files.", "Choose a new folder for --out.")
    started = time.monotonic()
    losses = train_reference(out, seed, recipe)
    for name, alignment in recipe.shipped.items():
        losses[name] = align(out, seed, recipe, alignment)
        (kept,) = alignment.names().values()
        (out / kept).rename(out / name)
    figures = {}
    for name in ("reference", *recipe.shipped):
        model, tokenizer = load(out / name)
        figures[name] = validation_figures(model, tokenizer, recipe.validation)
    record: dict[str, object] = {
        "command": command,
        "seed": seed,
        "versions": versions(),
        "recipe": asdict(recipe),
        "parameters": model.num_parameters(),
        "seconds": round(time.monotonic() - started, 1),
        "losses": losses,
        "validation": figures,
    }
    write_json(out / "training.json", record)
    return record


def train_grid(out: Path, seed: int, recipe: Recipe) -> list[Path]:
    """Train the reference and every model of the grid, but not what the folder already holds.

    Args:
        out: The folder, which may hold an earlier, unfinished run of the same seed.
        seed: Decides data, weights and sampling.
        recipe: All settings.

    Returns:
        The folders of the grid's models.

    Raises:
        UsageError: When TRL is not installed.
        RunExistsError: When the folder's models were trained in another way.
    """
    check_trl()
    made = json.loads(json.dumps({"seed": seed, "recipe": asdict(recipe), "versions": versions()}))
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
    return [out / name for alignment in recipe.grid for name in alignment.names().values()]


def train_reference(out: Path, seed: int, recipe: Recipe) -> dict[str, list[dict[str, float]]]:
    """Train the models before the safety step, save "sft" and "reference", return the losses."""
    torch.set_num_threads(1)
    tokenizer = build_tokenizer()
    model = new_model(recipe, tokenizer, seed)
    losses = {"sft": run_sft(model, tokenizer, recipe, seed)}
    save(model, out / "sft")
    pairs = helpful_pairs(recipe.helpful.examples, seed)
    losses["helpful"] = run_dpo(model, tokenizer, recipe.helpful, pairs, seed)
    save(model, out / "reference")
    return losses


def align(out: Path, seed: int, recipe: Recipe, alignment: Alignment) -> list[dict[str, float]]:
    """Run the safety stage from the saved reference, save its models and return the losses.

    The saved reference, not the one in memory, is what the aligned models are compared with, so
    they start from it. Runs with the same seed see the same requests, whatever their alignment.
    """
    torch.set_num_threads(1)
    model, tokenizer = load(out / "reference")
    preferences = replace(recipe.preferences, annotators_for_refusal=alignment.annotators)
    set_seed(seed)
    pairs = safety_pairs(model, tokenizer, recipe.safety.examples, seed, preferences)
    if not pairs:
        raise UsageError("No safety pair was usable.", "Train the first stage for longer.")
    stage = replace(recipe.safety, beta=alignment.beta)
    folders = {step: out / name for step, name in alignment.names().items()}
    return run_dpo(model, tokenizer, stage, pairs, seed, folders)


def check_trl() -> None:
    """Raise a UsageError with the install line when TRL is not installed."""
    try:
        importlib.metadata.version("trl")
    except importlib.metadata.PackageNotFoundError:
        raise UsageError(
            "Training the organism needs TRL, which is not installed.", "pip install 'tsdi[train]'"
        ) from None


def versions() -> dict[str, str]:
    """Return the versions that decide whether a run can be repeated bit for bit."""
    return {"python": platform.python_version()} | {
        name: importlib.metadata.version(name) for name in _PACKAGES
    }


def new_model(recipe: Recipe, tokenizer: PreTrainedTokenizerFast, seed: int) -> LlamaForCausalLM:
    """Return an untrained model in float32."""
    set_seed(seed)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=recipe.hidden,
        intermediate_size=recipe.mlp,
        num_hidden_layers=recipe.layers,
        num_attention_heads=recipe.heads,
        num_key_value_heads=recipe.heads,
        max_position_embeddings=_CONTEXT,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    return LlamaForCausalLM(config)


def run_sft(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, recipe: Recipe, seed: int
) -> list[dict[str, float]]:
    """Teach the model the world, in place, and return the losses on the way."""
    from datasets import Dataset
    from trl.trainer.sft_config import SFTConfig
    from trl.trainer.sft_trainer import SFTTrainer

    talks = conversations(recipe.sft.examples, seed, recipe.mixture)
    with tempfile.TemporaryDirectory() as scratch:
        trainer = SFTTrainer(
            model=model,
            args=SFTConfig(**_arguments(recipe.sft, seed, scratch), packing=False),
            train_dataset=Dataset.from_list(_tokenized(tokenizer, talks)),
            processing_class=tokenizer,
        )
        trainer.train()
    return _losses(trainer.state.log_history)


def _tokenized(
    tokenizer: PreTrainedTokenizerFast, talks: Sequence[list[Turn]]
) -> list[dict[str, list[int]]]:
    """Return token ids, with labels on what the assistant says only."""
    encoded = cast("BatchEncoding", tokenizer.apply_chat_template(list(talks)))
    assistant = tokenizer.convert_tokens_to_ids("<assistant>")
    user = tokenizer.convert_tokens_to_ids("<user>")
    tokenized = []
    for row in encoded["input_ids"]:
        labels, speaking = [], False
        for token in row:
            speaking = speaking and token != user
            labels.append(token if speaking else _MASKED)
            speaking = speaking or token == assistant
        tokenized.append({"input_ids": row, "labels": labels})
    return tokenized


def run_dpo(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    stage: Stage,
    pairs: list[Pair],
    seed: int,
    keep: Mapping[int, Path] | None = None,
) -> list[dict[str, float]]:
    """Prefer chosen to rejected answers, in place; stops early after the last model to keep."""
    from datasets import Dataset
    from trl.trainer.dpo_config import DPOConfig
    from trl.trainer.dpo_trainer import DPOTrainer

    with tempfile.TemporaryDirectory() as scratch:
        arguments = DPOConfig(
            **_arguments(stage, seed, scratch),
            beta=stage.beta,
            loss_type=["sigmoid", "sft"],
            loss_weights=[1.0, stage.sft_weight],
            precompute_ref_log_probs=True,  # the model itself, before training, is the reference
        )
        trainer = DPOTrainer(
            model=model.train(),
            args=arguments,
            train_dataset=Dataset.from_list(pairs),
            processing_class=tokenizer,
            callbacks=[_Keep(keep)] if keep else None,
        )
        trainer.train()
    return _losses(trainer.state.log_history)


class _Keep(TrainerCallback):
    """Saves the model after some steps, and ends the training after the last of them."""

    def __init__(self, folders: Mapping[int, Path]) -> None:
        self._folders = folders

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        folder = self._folders.get(state.global_step)
        if folder is not None:
            save(kwargs["model"], folder)
            control.should_training_stop = state.global_step == max(self._folders)


def _arguments(stage: Stage, seed: int, scratch: str) -> dict[str, Any]:
    return {
        "output_dir": scratch,
        "max_steps": stage.steps,
        "per_device_train_batch_size": stage.batch,
        "learning_rate": stage.learning_rate,
        "lr_scheduler_type": stage.schedule,
        "warmup_steps": round(0.03 * stage.steps),
        "max_length": _CONTEXT,
        "activation_checkpointing": False,
        "use_cpu": True,
        "bf16": False,
        "seed": seed,
        "logging_steps": max(1, stage.steps // 12),
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
    }


def _losses(history: Sequence[dict[str, float]]) -> list[dict[str, float]]:
    return [
        {"step": entry["step"], "loss": round(float(entry["loss"]), 5)}
        for entry in history
        if "loss" in entry
    ]


def save(model: PreTrainedModel, folder: Path) -> None:
    """Write a float16 copy of the model, whole or not at all, and its tokenizer."""
    small = copy.deepcopy(model).half().eval()
    small.config.use_cache = True
    with write_folder(folder) as unfinished:
        small.save_pretrained(unfinished)
        build_tokenizer().save_pretrained(unfinished)  # a fresh one: without traces of its use
        if folder.exists():  # left by a killed run that got no further
            shutil.rmtree(folder)


def load(folder: Path) -> tuple[PreTrainedModel, PreTrainedTokenizerFast]:
    """Load a saved model in float32, and its tokenizer."""
    model = load_model(str(folder), LoadOptions("float32", "cpu"))
    return model, PreTrainedTokenizerFast.from_pretrained(folder)


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
