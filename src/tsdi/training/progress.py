"""A trainer callback that reports the steps of a run to a progress function."""

from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from tsdi.runs.stage import StageProgress


class ShowProgress(TrainerCallback):
    """Reports a run's name, steps done and steps in all to a progress function."""

    def __init__(self, name: str, progress: StageProgress) -> None:
        self._name = name
        self._progress = progress

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Report the optimiser steps done."""
        self._progress(self._name, state.global_step, state.max_steps)

    def on_reference(self, done: int, batches: int) -> None:
        """Report the batches done of the reference's log-probabilities, before step 1."""
        self._progress(f"{self._name}, reference", done, batches)
