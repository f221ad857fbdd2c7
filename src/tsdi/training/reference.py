"""Log-probabilities of DPO's and KTO's reference: once for all betas, of the rows that count."""

from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from accelerate.data_loader import SeedableRandomSampler
from torch.utils.data import SequentialSampler
from transformers import TrainerCallback

from tsdi.errors import TsdiError
from tsdi.training.processes import one_job_at_a_time, processes
from tsdi.training.progress import ShowProgress
from tsdi.training.rows import save_whole

_COLUMNS = ("ref_chosen_logps", "ref_rejected_logps", "ref_logps", "ref_KL_logps")


def sharing(base: type[Any], folder: Path) -> type[Any]:
    """A trainer class that computes the reference's log-probabilities once for all betas.

    TRL computes them in this method, before training, when the model still is the reference. A run
    that goes on from a checkpoint finds them as they were. Rows that no step reaches have NaN, and
    a step that meets one ends the run. The log-probabilities are kept in the folder.
    """

    class Sharing(base):  # type: ignore[misc]
        _batches = _done = 0

        def _precompute_ref_logps(self, dataset: Any, name: str, batch_size: int) -> Any:
            from datasets import concatenate_datasets

            with one_job_at_a_time(folder):
                if not folder.exists():
                    self._compute(dataset, name, batch_size)
                processes().wait_for_everyone()
            return concatenate_datasets([dataset, _load(folder, len(dataset))], axis=1)

        def _compute(self, dataset: Any, name: str, batch_size: int) -> None:
            rows = visited_rows(self, dataset)
            self._batches = -(-len(rows) // (batch_size * self.accelerator.num_processes))
            part = dataset if len(rows) == len(dataset) else dataset.select(rows)
            done = super()._precompute_ref_logps(part, name, batch_size)
            if processes().is_main_process:
                save_whole(_spread(done, rows, len(dataset)), folder)

        def compute_ref_log_probs(self, model: Any, inputs: Any) -> Any:
            found = super().compute_ref_log_probs(model, inputs)
            self._done += 1
            _tell(self.callback_handler.callbacks, self._done, self._batches)
            return found

        def _prepare_inputs(self, inputs: Any) -> Any:
            _check_known(inputs)
            return super()._prepare_inputs(inputs)

    Sharing.__name__ = base.__name__
    return Sharing


def _load(folder: Path, rows: int) -> Any:
    from datasets import load_from_disk

    shared = load_from_disk(str(folder))
    if len(shared) != rows:
        raise TsdiError(
            f"{folder} has {len(shared)} rows, the data {rows}.",
            "Something else wrote there: choose a new folder.",
        )
    return shared


def _tell(callbacks: Sequence[TrainerCallback], done: int, batches: int) -> None:
    for callback in callbacks:
        if isinstance(callback, ShowProgress):
            callback.on_reference(done, batches)


def _check_known(inputs: Mapping[str, Any]) -> None:
    for name in _COLUMNS:
        if name in inputs and inputs[name].isnan().any():
            raise TsdiError(
                f"A step met a row without the reference's log-probability ({name}).",
                "The reference gives NaN, or the rows come in another order than was foreseen.",
            )


def visited_rows(trainer: Any, dataset: Any) -> list[int]:
    """Rows that a trainer's steps reach; all, if they make an epoch or the order is not known."""
    every = list(range(len(dataset)))
    if not every:
        return every
    loader = trainer.get_train_dataloader()
    whole = getattr(loader.batch_sampler, "batch_sampler", loader.batch_sampler)  # of all processes
    if not isinstance(whole.sampler, SeedableRandomSampler | SequentialSampler):
        return every
    accumulated = trainer.args.gradient_accumulation_steps * trainer.accelerator.num_processes
    batches = islice(whole, planned_steps(trainer) * accumulated)
    return sorted({row for batch in batches for row in batch})


def planned_steps(trainer: Any) -> int:
    """Optimiser steps that a trainer is going to take."""
    if trainer.args.max_steps > 0:
        return int(trainer.args.max_steps)
    batches = len(trainer.get_train_dataloader())
    per_epoch = max(1, -(-batches // trainer.args.gradient_accumulation_steps))
    return int(-(-per_epoch * trainer.args.num_train_epochs // 1))


def _spread(done: Any, rows: list[int], number: int) -> Any:
    """The reference's columns for all rows, with NaN where nothing was computed."""
    from datasets import Dataset

    columns = {}
    for name in _COLUMNS:
        if name in done.column_names:
            values = torch.full((number,), torch.nan)
            values[rows] = torch.tensor(done[name][:])
            columns[name] = values.numpy()
    return Dataset.from_dict(columns)
