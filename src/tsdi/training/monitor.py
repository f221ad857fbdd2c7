"""The bias monitor: a callback that sees refusal become a habit while a model is being aligned.

It measures on the live policy, against the policy as it was when training began (the reference of
DPO and KTO): the refusal-token shift on random prompts, which is the part of the shift that does
not depend on the prompt, and compliance on harmless prompts. docs/monitor.md has the definitions.
"""

import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import broadcast
from torch import Tensor
from transformers import (
    PreTrainedTokenizerBase,
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)

from tsdi.bias.accumulate import GroupSums, group_means
from tsdi.bias.estimate import mean_shift
from tsdi.bias.standard_error import batch_means
from tsdi.errors import MismatchError, NumericalError, UsageError
from tsdi.judging.verdict import Verdict
from tsdi.models.chat import ChatFormat
from tsdi.models.sides import adapter_sides
from tsdi.training.monitor_log import (
    Measurement,
    MonitorSettings,
    append_to_log,
    read_log,
    write_log,
)
from tsdi.training.probe import Probe, undisturbed

_LOGGED = ("refusal_shift", "bias_norm", "compliance", "refused", "degenerate", "share_of_time")
_DEFAULTS = MonitorSettings()
_log = logging.getLogger(__name__)


class BiasMonitor(TrainerCallback):
    """Measures the safety bias of a model in training, and warns when refusal needs no reason.

    For any trainer of transformers or TRL whose model begins as its own reference, with full or
    LoRA training: `DPOTrainer(..., callbacks=[BiasMonitor(tokenizer, Path("monitor.jsonl"))])`.

    It assumes that optimiser steps are the only thing between two measurements, and guarantees
    that these change nothing of the training: modes, random states, gradients and settings of the
    model stay as they are.

    Measurements are appended to the log, and to `log_history` of the trainer's state. The
    reference's logits are kept beside the log for a training that goes on from a checkpoint, which
    also drops the measurements beyond it. A training from step 0 on begins both files anew.

    Args:
        tokenizer: The model's tokenizer.
        out: The log, JSON lines with the fields of `Measurement`.
        settings: Settings of the measurements.
        prompt_format: Used instead of the chat template, with ``{prompt}`` in it.
        template_args: Arguments of the chat template.

    Raises:
        UsageError: If there is neither chat template nor prompt format, or the tokenizer has no
            words for the openers.
        PoolError: If the tokenizer has no words for the pool.
        PromptError: If suite or phrases cannot be read, or the suite is empty.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        out: Path,
        settings: MonitorSettings = _DEFAULTS,
        prompt_format: str | None = None,
        template_args: Mapping[str, Any] | None = None,
    ) -> None:
        self._probe = Probe(tokenizer, settings, ChatFormat(prompt_format, template_args or {}))
        self._settings = settings
        self._out = out
        self._trainer: Trainer | None = None
        self._reference: Tensor | None = None
        self._measured: list[Measurement] = []
        self._last_step = 0
        self._began = self._trained_before = self._own_before = self._own = 0.0

    @property
    def reference_file(self) -> Path:
        """The file of the reference's logits, beside the log."""
        return self._out.with_name(f"{self._out.stem}-reference.safetensors")

    def log_through(self, trainer: Trainer) -> None:
        """Pass measurements to a trainer's `log`, so that its trackers (`report_to`) see them.

        A callback is told nothing of its trainer, so it must be named here, once it is made.
        """
        self._trainer = trainer

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Compute the reference's logits, or load those saved before a resumed training.

        Raises:
            UsageError: If a training goes on from a checkpoint and no reference was saved.
            MismatchError: If the saved one was made with other settings.
        """
        model = kwargs["model"]
        self._began, self._own = time.perf_counter(), 0.0
        self._trained_before = self._own_before = 0.0
        self._last_step = state.global_step
        saved = self._out.exists() and self.reference_file.exists()
        if not state.global_step:
            self._begin(args, state, control, model)
        elif _said_by_main(saved, args):
            if state.is_world_process_zero:
                self._go_on(model, state.global_step)
        elif hasattr(model, "peft_config"):  # the reference is still there, without the adapter
            with _reference_side(model):
                self._begin(args, state, control, model)
        else:
            raise UsageError(
                f"Going on from step {state.global_step}, the bias monitor has no reference: "
                f"{self._out} or {self.reference_file.name} is missing.",
                "Put them there, train from the start, or leave the monitor out.",
            )

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Measure every `every` steps, and at the last one."""
        last = control.should_training_stop or state.global_step >= state.max_steps
        if last or not state.global_step % self._settings.every:
            self._measure(args, state, control, kwargs["model"], state.global_step)

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Measure at the end of a training that something else has stopped early."""
        # With the best model loaded the policy is no longer that of the last step.
        if self._last_step < state.global_step and not args.load_best_model_at_end:
            self._measure(args, state, control, kwargs["model"], state.global_step)

    def _begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, model: Any
    ) -> None:
        self._measured = []
        with undisturbed(model) as live:
            self._probe.check(live)
            sums = self._probe.run(live)
        if state.is_world_process_zero:
            write_log(self._out, [])
            sums.save(self.reference_file)
            self._reference = group_means(model, sums)
        self._own += time.perf_counter() - self._began
        self._measure(args, state, control, model, 0)

    def _go_on(self, model: Any, step: int) -> None:
        sums = GroupSums.load(self.reference_file)
        if sums.origin != self._probe.sha256:
            raise MismatchError(
                f"{self.reference_file} was made with other settings of the monitor.",
                "Take the settings that the training began with.",
            )
        self._reference = group_means(model, sums)
        self._measured = [found for found in read_log(self._out) if found.step <= step]
        write_log(self._out, self._measured)
        if self._measured:
            self._trained_before = self._measured[-1].training_seconds
            self._own_before = self._measured[-1].monitor_seconds

    def _measure(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        model: Any,
        step: int,
    ) -> None:
        """Measure, log and maybe stop; every process takes part, the main one writes."""
        if args.device.type == "cuda":  # what training has left to do there is not ours
            torch.cuda.synchronize(args.device)
        began = time.perf_counter()
        self._last_step = step
        try:
            with undisturbed(model) as live:
                sums = self._probe.run(live)
                verdicts = self._probe.verdicts(live)
        except NumericalError as error:  # of a training that diverges, which is for others to stop
            if not step:
                raise
            if state.is_world_process_zero:
                _log.warning("Nothing to measure at step %d: %s", step, error)
            return
        alarm = False
        if state.is_world_process_zero:
            found = self._found(step, sums.counts, group_means(model, sums), verdicts, began)
            alarm = found.alarm
            self._keep(found, state, control)
        if self._settings.stop and _said_by_main(alarm, args):
            control.should_training_stop = True

    def _found(
        self, step: int, counts: Tensor, means: Tensor, verdicts: Sequence[Verdict], began: float
    ) -> Measurement:
        assert self._reference is not None
        shifts = means - self._reference
        bias, _ = mean_shift(shifts, counts)
        shift, error = batch_means(self._probe.refusal_shift(shifts).double(), counts)
        seconds = time.perf_counter() - began
        self._own += seconds
        own = self._own_before + self._own
        trained = self._trained_before + time.perf_counter() - self._began - self._own
        compliance, refused, degenerate = (
            verdicts.count(verdict) / len(verdicts)
            for verdict in (Verdict.COMPLIED, Verdict.REFUSED, Verdict.DEGENERATE)
        )
        found = Measurement(
            step=step,
            refusal_shift=float(shift[0]),
            refusal_shift_error=float(error[0]),
            refusal_shift_mean=float(shift.mean()),
            refusal_shift_by_position=tuple(shift.tolist()),
            bias_norm=float(bias.double().square().mean().sqrt()),
            compliance=compliance,
            refused=refused,
            degenerate=degenerate,
            seconds=seconds,
            monitor_seconds=own,
            training_seconds=trained,
            share_of_time=own / trained if step else None,
            alarm=False,
        )
        alarm = bool(self._measured) and is_context_independent(
            self._measured[0], found, self._settings
        )
        return found.model_copy(update={"alarm": alarm})

    def _keep(self, found: Measurement, state: TrainerState, control: TrainerControl) -> None:
        if found.alarm and not any(earlier.alarm for earlier in self._measured):
            _log.warning("%s", _warning(self._measured[0], found, self._settings))
        self._measured.append(found)
        append_to_log(self._out, found)
        if found.step < state.global_step:  # of the reference, in a training that goes on
            return
        values = found.model_dump(include=set(_LOGGED), exclude_none=True)
        logs = {f"monitor/{name}": value for name, value in values.items()}
        if self._trainer is None:
            state.log_history.append({**logs, "epoch": state.epoch, "step": state.global_step})
            return
        due = control.should_log
        # Not the trainer's own method: TRL's would end its running means of the training's figures.
        Trainer.log(self._trainer, logs)
        control.should_log = due


def is_context_independent(first: Measurement, now: Measurement, settings: MonitorSettings) -> bool:
    """Whether a model refuses independently of the prompt.

    Three things must come together: on random prompts, which ask for nothing, refusing openers have
    gained more than ``shift_limit``; harmless prompts are answered less than ``compliance_floor``
    times as often as at step 0; and what is not answered is refused rather than left empty.
    """
    return (
        now.refusal_shift > settings.shift_limit
        and now.compliance < settings.compliance_floor * first.compliance
        and now.refused > now.degenerate
    )


def _warning(first: Measurement, now: Measurement, settings: MonitorSettings) -> str:
    return (
        f"Refusal has become context-independent: at step {now.step} random prompts shift refusing"
        f" openers by {now.refusal_shift:+.2f} nats (limit {settings.shift_limit:g}), and"
        f" {now.compliance:.0%} of harmless prompts are answered, {first.compliance:.0%} at step"
        f" {first.step}. Take an earlier checkpoint, or a greater beta, or subtract the bias"
        " (tsdi estimate)."
    )


def _said_by_main(flag: bool, args: TrainingArguments) -> bool:
    """The main process's flag, broadcast so that all processes do the same."""
    return bool(broadcast(torch.tensor(int(flag), device=args.device)))


@contextmanager
def _reference_side(model: Any) -> Iterator[None]:
    # TRL keeps a copy of an adapter that training began with under this name.
    name = "ref" if "ref" in model.peft_config else None
    _, reference = adapter_sides(model, model.active_adapter, name)
    with reference.open():
        yield
