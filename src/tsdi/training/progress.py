"""How far a training run is."""

from collections.abc import Callable
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

Progress = Callable[[str, int, int], None]
"""Called with what is being done, how much of it is done, and how much there is."""


class ShowProgress(TrainerCallback):
    """Tells how far a run is."""

    def __init__(self, name: str, progress: Progress) -> None:
        self._name = name
        self._progress = progress

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Tell the step."""
        self._progress(self._name, state.global_step, state.max_steps)

    def on_reference(self, done: int, batches: int) -> None:
        """Tell how much of the reference's log-probabilities there is, before the first step."""
        self._progress(f"{self._name}, reference", done, batches)
