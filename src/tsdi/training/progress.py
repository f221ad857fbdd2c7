"""How far a training run is."""

from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from tsdi.runs.stage import StageProgress


class ShowProgress(TrainerCallback):
    """Tells how far a run is."""

    def __init__(self, name: str, progress: StageProgress) -> None:
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
