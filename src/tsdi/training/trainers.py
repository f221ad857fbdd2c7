"""TRL's trainers for one run: arguments, saved models, checkpoints, shared reference."""

import dataclasses
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import torch
from transformers import (
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PrinterCallback,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)

from tsdi.errors import NumericalError, UsageError
from tsdi.models.fit import check_finite
from tsdi.models.load import LoadOptions, attach_adapter, load_model
from tsdi.training.end_tokens import answers_end, name_ends
from tsdi.training.processes import accelerated, processes
from tsdi.training.recipe import Preference, Sft, Trained
from tsdi.training.reference import planned_steps, sharing
from tsdi.training.rows import Items, counting, save_whole, to_rows

_CHECKPOINTING = (  # its name in newer versions of transformers, and in older ones
    "activation_checkpointing"
    if hasattr(TrainingArguments, "activation_checkpointing")
    else "gradient_checkpointing"
)
_DEFAULTS = {
    _CHECKPOINTING: False,
    "disable_tqdm": True,
    "logging_first_step": True,
    "logging_steps": 10,
    "report_to": "none",
}
_DIVERGED = "Nothing of it is kept: take a smaller learning rate, or a longer warm-up."


@dataclass(frozen=True)
class Run:
    """The settings of one training run: a stage at one beta.

    Attributes:
        name: Such as "sft" or "safety/beta0.1".
        stage: Settings of the stage.
        beta: KL parameter; None in SFT.
        start: Folder or hub id of the model that it starts from.
        dtype: Data type in which that model is loaded.
        keep: Folders of the models by the optimiser step that they are saved after; 0 is the end.
        work: Folder for checkpoints.
        reference: Folder for the reference's log-probabilities, which all betas of a stage share.
        seed: Decides the order of the data.
    """

    name: str
    stage: Sft | Preference
    beta: float | None
    start: str
    dtype: str
    keep: Mapping[int, Path]
    work: Path
    reference: Path
    seed: int


def check_settings(run: Run) -> None:
    """Check a run's settings before anything is trained.

    Raises:
        UsageError: If the device lacks the precision, batches do not come out even, or a setting is
            unknown.
    """
    _arguments(run, _classes(run)[1])


def build_trainer(
    run: Run,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    items: Items,
    callbacks: Sequence[TrainerCallback],
) -> Any:
    """TRL's trainer for a run, with the model as it is as the reference of DPO and KTO.

    Its attribute `fit` says which rows are too long. Items are examples for SFT, pairs for DPO,
    ratings for KTO; callbacks come beside the one that keeps models.

    Raises:
        UsageError: If the device lacks the precision, a setting is unknown, or nothing fits into
            the length.
        MismatchError: If the chat template lets no end of an answer be learnt.
    """
    base, config_class = _classes(run)
    trainer_class = ending(counting(base, run.name, run.stage.max_length, items), run.name)
    name_ends(model, tokenizer)
    end = answers_end(tokenizer, run.name)
    try:
        trainer = trainer_class(
            model=model,
            args=config_class(**_arguments(run, config_class)),
            train_dataset=_dataset(run, to_rows(items, end)),
            processing_class=tokenizer,
            callbacks=list(callbacks),
            peft_config=_lora(run.stage),
        )
    except (ValueError, TypeError) as error:  # TRL's and transformers' own checks of settings
        reason = " ".join(str(error).split())[:300]
        raise UsageError(f"Stage {run.name!r} cannot be trained: {reason}") from error
    last = max(run.keep)
    steps = planned_steps(trainer)
    if last > steps:
        raise UsageError(
            f"Stage {run.name!r} keeps a model of step {last}, but ends after {steps} steps.",
            "Keep earlier ones, or train for longer.",
        )
    trainer.remove_callback(PrinterCallback)  # the log goes into a file
    trainer.add_callback(_Keep(trainer, run))
    return trainer


def _dataset(run: Run, rows: Sequence[dict[str, Any]]) -> Any:
    """The rows as a data set on disk, where all processes share TRL's preprocessing."""
    from datasets import Dataset, load_from_disk

    folder = run.work / "rows"
    if processes().is_main_process and not folder.exists():
        found = Dataset.from_list(list(rows))
        if isinstance(run.stage, Preference) and run.stage.method == "kto":
            found = found.shuffle(seed=run.seed)  # TRL takes them in order, the other methods' not
        save_whole(found, folder)
    processes().wait_for_everyone()
    return load_from_disk(str(folder))


def last_checkpoint(folder: Path) -> str | None:
    """The newest whole checkpoint; one that a kill cut short lacks the file that is last."""
    whole = [
        checkpoint
        for checkpoint in folder.glob("checkpoint-*")
        if (checkpoint / "trainer_state.json").exists()
    ]
    if not whole:
        return None
    return str(max(whole, key=lambda checkpoint: int(checkpoint.name.rpartition("-")[2])))


def _classes(run: Run) -> tuple[type[Any], type[Any]]:
    if isinstance(run.stage, Sft):
        from trl.trainer.sft_config import SFTConfig
        from trl.trainer.sft_trainer import SFTTrainer

        return SFTTrainer, SFTConfig
    if run.stage.method == "dpo":
        from trl.trainer.dpo_config import DPOConfig
        from trl.trainer.dpo_trainer import DPOTrainer

        return sharing(DPOTrainer, run.reference), DPOConfig
    from trl.trainer.kto_config import KTOConfig
    from trl.trainer.kto_trainer import KTOTrainer

    return sharing(KTOTrainer, run.reference), KTOConfig


def _arguments(run: Run, config_class: type[Any]) -> dict[str, Any]:
    stage = run.stage
    ours: dict[str, Any] = {
        "output_dir": str(run.work),
        "num_train_epochs": stage.epochs or 1,
        "max_steps": stage.steps or -1,
        **_batches(run.name, stage),
        "learning_rate": stage.learning_rate,
        "lr_scheduler_type": stage.schedule,
        "warmup_steps": stage.warmup,
        "max_length": stage.max_length,
        **_precision(run.name, stage),
        "seed": run.seed,
        "save_strategy": "steps",
        "save_steps": stage.checkpoint_every,
        "save_total_limit": 2,
    }
    if isinstance(stage, Preference):
        ours |= {"beta": run.beta, "precompute_ref_log_probs": True}
        if stage.method == "dpo" and stage.sft_weight:
            ours |= {"loss_type": ["sigmoid", "sft"], "loss_weights": [1.0, stage.sft_weight]}
    _check_settings(run.name, stage.trainer, ours, config_class)
    return _DEFAULTS | {"use_cpu": not accelerated()} | stage.trainer | ours


def _check_settings(
    name: str, settings: Mapping[str, Any], ours: Mapping[str, Any], config_class: type[Any]
) -> None:
    known = [field.name for field in dataclasses.fields(config_class)]
    for key in settings:
        if key in ours:
            raise UsageError(
                f"Stage {name!r}: `trainer` sets {key!r}, which the recipe decides.",
                "Use the recipe's own key for it.",
            )
        if key not in known:
            close = get_close_matches(key, known, n=1)
            meant = f"Did you mean {close[0]!r}?" if close else ""
            raise UsageError(f"Stage {name!r}: TRL has no setting {key!r}.", meant)


def _batches(name: str, stage: Trained) -> dict[str, int]:
    """Batch size on a device, and how many batches make one optimiser step."""
    devices = processes().num_processes
    device_batch = stage.device_batch_size or max(1, stage.batch_size // devices)
    accumulated, rest = divmod(stage.batch_size, device_batch * devices)
    if rest or not accumulated:
        raise UsageError(
            f"Stage {name!r}: a batch of {stage.batch_size} cannot be made of {devices} device(s)"
            f" x {device_batch}.",
            "Change batch_size or device_batch_size.",
        )
    return {"per_device_train_batch_size": device_batch, "gradient_accumulation_steps": accumulated}


def _precision(name: str, stage: Trained) -> dict[str, bool]:
    cuda = torch.cuda.is_available()
    lacking = {
        "float16": not cuda,
        "bfloat16": cuda and not torch.cuda.is_bf16_supported(including_emulation=False),
        "float32": False,
    }
    if lacking[stage.precision]:
        device = torch.cuda.get_device_name() if cuda else "the CPU"
        raise UsageError(
            f"Stage {name!r} asks for {stage.precision}, in which {device} cannot train.",
            "Say `precision: float32`.",
        )
    return {"bf16": stage.precision == "bfloat16", "fp16": stage.precision == "float16"}


def _lora(stage: Trained) -> Any:
    if stage.lora is None:
        return None
    from peft import LoraConfig

    return LoraConfig(
        r=stage.lora.rank,
        lora_alpha=stage.lora.alpha,
        lora_dropout=stage.lora.dropout,
        target_modules=stage.lora.target_modules,
        task_type="CAUSAL_LM",
    )


class _Keep(TrainerCallback):
    """Saves the model after some steps, or at the end, each whole or not at all.

    Training ends with the last of those steps, and a killed one goes on from any before it. Losses
    are logged with every checkpoint and at the end, so that a run which goes on from one logs the
    same means as an unbroken one.
    """

    def __init__(self, trainer: Any, run: Run) -> None:
        self._trainer = trainer
        self._run = run
        self._folders = run.keep
        self._last = max(run.keep)

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        last = state.global_step in (self._last, state.max_steps)
        kept = state.global_step in self._folders
        if last or kept or state.global_step % int(args.save_steps) == 0:
            control.should_log = True
        control.should_save |= kept
        if last:
            control.should_training_stop = True
            control.should_save = False  # a run that went on from there would take one step more
        if kept:
            self._save(self._folders[state.global_step])

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if 0 in self._folders:
            self._save(self._folders[0])

    def _save(self, folder: Path) -> None:
        """Save the model into a folder; every process may hold a part of the weights."""
        check_kept(self._run.name, self._trainer.state.global_step, self._trainer.model)
        unfinished = folder.with_name(f"{folder.name}.unfinished")
        if processes().is_main_process:
            shutil.rmtree(unfinished, ignore_errors=True)
        processes().wait_for_everyone()
        self._trainer.save_model(str(unfinished))
        processes().wait_for_everyone()
        if processes().is_main_process:
            (unfinished / "training_args.bin").unlink(missing_ok=True)  # a pickle
            if self._run.stage.lora is not None:
                _add_merged(self._run, unfinished, self._trainer.processing_class)
            shutil.rmtree(folder, ignore_errors=True)  # of a killed run, beyond its checkpoint
            unfinished.rename(folder)
        processes().wait_for_everyone()


def ending(base: type[Any], name: str) -> type[Any]:
    """A trainer class that ends where its loss is no finite number.

    transformers itself would go on, and log the mean of the losses before.
    """

    class Ending(base):  # type: ignore[misc]
        def training_step(self, model: Any, inputs: Any, items: Any = None) -> torch.Tensor:
            loss: torch.Tensor = super().training_step(model, inputs, items)
            if not loss.isfinite():
                step = self.state.global_step + 1
                raise NumericalError(
                    f"{name} diverges: the loss became {float(loss)} in step {step}.", _DIVERGED
                )
            return loss

    Ending.__name__ = base.__name__
    return Ending


def check_kept(name: str, step: int, model: PreTrainedModel) -> None:
    """Raise NumericalError if a model that is to be kept has NaN or infinite weights."""
    try:
        check_finite(name, model.state_dict())
    except NumericalError as error:
        raise NumericalError(f"After step {step}: {error.problem}", _DIVERGED) from None


def _add_merged(run: Run, folder: Path, tokenizer: PreTrainedTokenizerBase) -> None:
    """Put an adapter into a folder of its own, and the whole model, which all tools take, here.

    The model in training is left alone: merging and unmerging would round its weights.
    """
    adapter = folder / "adapter"
    adapter.mkdir()
    for file in (*folder.glob("adapter_*"), *folder.glob("README.md")):
        file.rename(adapter / file.name)
    whole = load_whole(run.start, run.dtype)
    merged: Any = attach_adapter(whole, str(adapter), "default")
    merged = merged.merge_and_unload()
    name_ends(merged, tokenizer)
    merged.save_pretrained(folder)


def load_whole(name: str, dtype: str) -> PreTrainedModel:
    """Load a model; an adapter is merged into its base."""
    model = load_model(name, LoadOptions(dtype))
    merge = getattr(model, "merge_and_unload", None)
    return model if merge is None else merge()
