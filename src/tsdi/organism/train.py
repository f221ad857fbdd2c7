"""Train the organism: SFT, then helpful DPO (the reference), then safety DPO (the aligned model).

The recipe follows SACPO (Wachi et al., NeurIPS 2024), where a helpfulness step precedes the safety
step. Run it with `python -m tsdi.organism.train --out DIR --seed 0`.
"""

import argparse
import copy
import importlib.metadata
import json
import platform
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, cast

import torch
from transformers import (
    BatchEncoding,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    set_seed,
)

from tsdi.errors import RunExistsError, TsdiError, UsageError
from tsdi.organism.data import (
    Mixture,
    Pair,
    Preferences,
    Turn,
    conversations,
    helpful_pairs,
    safety_pairs,
)
from tsdi.organism.sampling import validation_figures
from tsdi.organism.table import figures_table
from tsdi.organism.tokenizer import build_tokenizer

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
        learning_rate: Peak, reached after 3 % of the steps, then falling to 0 as a cosine.
        beta: DPO's KL parameter; unused in SFT.
        sft_weight: Weight of the chosen answers' own likelihood beside DPO's loss (weight 1),
            which keeps hybrids rare; unused in SFT.
    """

    steps: int
    batch: int
    examples: int
    learning_rate: float
    beta: float = 0.1
    sft_weight: float = 0.0


@dataclass(frozen=True)
class Recipe:
    """All settings of a pair of models.

    Attributes:
        sft, helpful, safety: The three stages.
        mixture: What the conversations of the first stage hold.
        preferences: Who prefers what in the safety stage.
        hidden, layers, heads, mlp: Sizes of the Llama model.
        validation: Validation items per kind that the figures in training.json come from.
    """

    sft: Stage = Stage(1800, 64, 57_600, 1.5e-3)
    helpful: Stage = Stage(120, 32, 3_840, 2e-5, beta=0.1)
    safety: Stage = Stage(300, 32, 4_000, 2e-5, beta=0.1, sft_weight=1.0)
    mixture: Mixture = field(default_factory=Mixture)
    preferences: Preferences = field(default_factory=Preferences)
    hidden: int = 128
    layers: int = 4
    heads: int = 4
    mlp: int = 320
    validation: int = 480


SMOKE = Recipe(
    sft=Stage(12, 8, 96, 3e-3),
    helpful=Stage(2, 4, 8, 2e-5),
    safety=Stage(2, 4, 128, 2e-5),
    hidden=32,
    layers=1,
    heads=2,
    mlp=64,
    validation=16,
)


def train(out: Path, seed: int, recipe: Recipe, command: str) -> dict[str, object]:
    """Train a reference and an aligned model and write both, with training.json, into a folder.

    The same seed, machine and package versions give the same bytes.

    Args:
        out: A folder that is new or empty.
        seed: Decides data, weights and sampling.
        recipe: All settings.
        command: What the user typed, for training.json.

    Returns:
        The content of training.json: command, versions, seed, recipe, seconds, losses per stage,
        and the validation figures of both models.

    Raises:
        UsageError: When TRL is not installed.
        RunExistsError: When the folder holds something.
    """
    check_trl()
    if out.exists() and any(out.iterdir()):
        raise RunExistsError(f"{out} already holds files.", "Choose a new folder for --out.")
    started = time.monotonic()
    torch.set_num_threads(1)
    tokenizer = build_tokenizer()
    model = new_model(recipe, tokenizer, seed)
    losses = {"sft": run_sft(model, tokenizer, recipe, seed)}
    losses["helpful"] = run_helpful(model, tokenizer, recipe, seed)
    figures = {"reference": validation_figures(model, tokenizer, recipe.validation)}
    save(model, out / "reference")
    losses["safety"] = run_safety(model, tokenizer, recipe, seed)
    figures["aligned"] = validation_figures(model, tokenizer, recipe.validation)
    save(model, out / "aligned")
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
    (out / "training.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    return record


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


def run_helpful(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, recipe: Recipe, seed: int
) -> list[dict[str, float]]:
    """Prefer right to wrong answers, in place: the model becomes the reference."""
    pairs = helpful_pairs(recipe.helpful.examples, seed)
    return _run_dpo(model, tokenizer, recipe.helpful, pairs, seed)


def run_safety(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, recipe: Recipe, seed: int
) -> list[dict[str, float]]:
    """Prefer refusals as the annotators do, in place: the model becomes the aligned one."""
    set_seed(seed)
    pairs = safety_pairs(model, tokenizer, recipe.safety.examples, seed, recipe.preferences)
    if not pairs:
        raise UsageError("No safety pair was usable.", "Train the first stage for longer.")
    return _run_dpo(model, tokenizer, recipe.safety, pairs, seed)


def _run_dpo(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    stage: Stage,
    pairs: list[Pair],
    seed: int,
) -> list[dict[str, float]]:
    from datasets import Dataset
    from trl.trainer.dpo_config import DPOConfig
    from trl.trainer.dpo_trainer import DPOTrainer

    with tempfile.TemporaryDirectory() as scratch:
        arguments = DPOConfig(
            **_arguments(stage, seed, scratch),
            beta=stage.beta,
            loss_type=["sigmoid", "sft"],
            loss_weights=[1.0, stage.sft_weight],
        )
        trainer = DPOTrainer(
            model=model,
            ref_model=copy.deepcopy(model),
            args=arguments,
            train_dataset=Dataset.from_list(pairs),
            processing_class=tokenizer,
        )
        trainer.train()
    return _losses(trainer.state.log_history)


def _arguments(stage: Stage, seed: int, scratch: str) -> dict[str, Any]:
    return {
        "output_dir": scratch,
        "max_steps": stage.steps,
        "per_device_train_batch_size": stage.batch,
        "learning_rate": stage.learning_rate,
        "lr_scheduler_type": "cosine",
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
    """Write a float16 copy of the model, and its tokenizer without traces of its use."""
    small = copy.deepcopy(model).half()
    small.config.use_cache = True
    small.save_pretrained(folder)
    build_tokenizer().save_pretrained(folder)


def main(arguments: Sequence[str]) -> int:
    """Run the command line and return its exit code."""
    parser = argparse.ArgumentParser(prog="python -m tsdi.organism.train", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="a new or empty folder")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--smoke", action="store_true", help="a few steps of a smaller model")
    options = parser.parse_args(arguments)
    recipe = SMOKE if options.smoke else Recipe()
    smoke = " --smoke" if options.smoke else ""
    command = f"python -m tsdi.organism.train --out DIR --seed {options.seed}{smoke}"
    try:
        record = train(options.out, options.seed, recipe, command)
    except TsdiError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(figures_table(record))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
