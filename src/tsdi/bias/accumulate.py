"""Sums over random prompts for one model, which workers merge and killed runs resume.

N workers: each calls ``accumulate`` on its own range, with the model's name as ``name``; the sums,
merged and saved as ``partial-aligned.safetensors`` and ``partial-reference.safetensors``, are the
``checkpoints`` from which ``estimate_bias`` makes the bias without running a prompt again.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import torch
from accelerate.utils.memory import clear_device_cache, should_reduce_batch_size
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor
from transformers import PreTrainedModel

from tsdi.bias import lm_head as head
from tsdi.bias.random_prompts import RandomPrompts
from tsdi.errors import FormatError, MismatchError, ModelError, NumericalError, UsageError
from tsdi.files import write_bytes

CHECK_ROWS = 2
BATCHES_PER_CHECKPOINT = 8
_RUN = {
    "head_inputs": head.head_inputs,
    "logits": head.logits,
    "native_logits": head.native_logits,
}
Progress = Callable[[int], None]
"""Called with the number of prompts that a model has just done."""


@dataclass(frozen=True)
class GroupSums:
    """A partial estimate for one model: sums over random prompts k in groups k mod G.

    Attributes:
        kind: "head_inputs" (width is the hidden size), "logits" or "native_logits" (width is the
            vocabulary), by the functions of `tsdi.bias.lm_head`; or "vllm_logits", as vLLM gives
            them.
        origin: The random prompts' hash, groups, and the model's name, dtype, commit and files;
            only equal origins can be merged.
        ranges: Prompt numbers that are in the sums, as disjoint (start, stop), ascending.
        counts: int64 [groups], prompts per group.
        sums: float64 [groups, steps, width].
    """

    kind: str
    origin: str
    ranges: tuple[tuple[int, int], ...]
    counts: Tensor
    sums: Tensor

    @property
    def prompts(self) -> int:
        """Number of prompts in the sums."""
        return sum(stop - start for start, stop in self.ranges)

    def merge(self, other: "GroupSums") -> "GroupSums":
        """The sums over both sets of prompts, equal to those of one run up to rounding.

        Raises:
            MismatchError: If the two are not parts of one estimate, or share prompts.
        """
        mine, theirs = ((x.kind, x.origin, x.sums.shape) for x in (self, other))
        if mine != theirs:
            raise MismatchError(
                "These partial results do not belong to one estimate.",
                "Model, pool, template, lengths, seed and groups must be the same.",
            )
        ranges = sorted(self.ranges + other.ranges)
        for (start, stop), (next_start, next_stop) in pairwise(ranges):
            if next_start < stop:
                raise MismatchError(
                    f"Partial results overlap: prompts {start}-{stop - 1} and "
                    f"{next_start}-{next_stop - 1}.",
                    "Give each worker its own range.",
                )
        return replace(
            self,
            ranges=_joined(ranges),
            counts=self.counts + other.counts,
            sums=self.sums + other.sums,
        )

    def save(self, path: Path) -> None:
        """Write the sums to a safetensors file, whole or not at all."""
        tensors = {"counts": self.counts, "sums": self.sums, "ranges": torch.tensor(self.ranges)}
        write_bytes(path, save(tensors, {"kind": self.kind, "origin": self.origin}))

    @classmethod
    def load(cls, path: Path) -> "GroupSums":
        """Read the sums that ``save`` wrote.

        Raises:
            FormatError: If the file is damaged or something else.
        """
        try:
            with safe_open(path, framework="pt") as file:
                meta = file.metadata() or {}
                counts, sums, ranges = map(file.get_tensor, ("counts", "sums", "ranges"))
                pairs = tuple((int(start), int(stop)) for start, stop in ranges)
                loaded = cls(meta["kind"], meta["origin"], pairs, counts, sums)
                loaded._check()
                return loaded
        except (OSError, SafetensorError, KeyError, ValueError, TypeError) as error:
            raise FormatError(
                f"{path} is no partial result of an estimate: {error}.", "Delete it."
            ) from error

    def _check(self) -> None:
        """Raise ValueError unless fields and shapes are consistent."""
        if self.kind not in (*_RUN, "vllm_logits"):
            raise ValueError(f"it knows no way of running called {self.kind!r}")
        if (self.counts.dtype, self.sums.dtype) != (torch.int64, torch.float64):
            raise ValueError("its tensors are of other types")
        if self.sums.dim() != 3 or self.counts.shape != self.sums.shape[:1]:
            raise ValueError("its tensors do not fit together")
        bounds = [bound for pair in self.ranges for bound in pair]
        if not bounds or bounds[0] < 0 or bounds != sorted(bounds):
            raise ValueError("its ranges of prompts are none")
        if int(self.counts.sum()) != self.prompts or bool((self.counts < 0).any()):
            raise ValueError("its counts are not those of its prompts")
        if not bool(torch.isfinite(self.sums).all()):
            raise ValueError("it has NaN or infinite numbers")


def _joined(ranges: list[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    joined: list[tuple[int, int]] = []
    for start, stop in ranges:
        if joined and joined[-1][1] == start:
            joined[-1] = (joined[-1][0], stop)
        else:
            joined.append((start, stop))
    return tuple(joined)


@dataclass(frozen=True)
class Summing:
    """Settings that all parts of one model's sums share.

    Attributes:
        groups: Number of groups G.
        name: The model's name, for the origin and for errors.
        files: Fingerprint of the files that it was loaded from (`tsdi.models.fingerprint`).
        kind: "head_inputs", "logits", "native_logits", or None to take the first if it is exact for
            this model, else the second.
    """

    groups: int = 16
    name: str = "model"
    files: str = ""
    kind: str | None = None

    def origin(self, model: PreTrainedModel, prompts: RandomPrompts) -> str:
        """The identity of prompts, groups and model; equal origins may be merged."""
        commit = getattr(model.config, "_commit_hash", None)
        made = f"{prompts.sha256} groups={self.groups} model={self.name} {model.dtype} {commit}"
        return f"{made} files={self.files}" if self.files else made


def accumulate(
    model: PreTrainedModel,
    prompts: RandomPrompts,
    start: int,
    stop: int,
    summing: Summing = Summing(),
    *,
    batch_size: int = 32,
    checkpoint: Callable[[GroupSums], None] | None = None,
    progress: Progress | None = None,
) -> GroupSums:
    """Run one model over random prompts start to stop - 1 and sum by group.

    Args:
        model: A causal language model.
        prompts: The random prompts.
        start: First prompt number.
        stop: One past the last prompt number.
        summing: Settings of the sums.
        batch_size: Rows in a forward pass; halved as long as memory runs out.
        checkpoint: Called with the sums so far, after every ``BATCHES_PER_CHECKPOINT`` batches and
            at the end.
        progress: Called after every batch.

    Raises:
        NumericalError: If the model gives NaN or infinite numbers.
        ModelError: If memory runs out even with a single row.
        UsageError: If the range is empty or negative.
    """
    if not 0 <= start < stop:
        raise UsageError(f"No prompts to run: range {start} to {stop}.")
    kind = summing.kind or _exact_kind(
        model, prompts.ids(start, min(stop, start + CHECK_ROWS)), prompts.steps
    )
    made_from = summing.origin(model, prompts)
    begin, batches = start, 0
    sums: Tensor | None = None
    while start < stop:
        end = min(stop, start + batch_size)
        try:
            rows = _RUN[kind](model, prompts.ids(start, end), prompts.steps)
            _check_finite(rows, summing.name, start)
            sums = _added(sums, rows, start, summing.groups)
        except RuntimeError as error:
            if not should_reduce_batch_size(error):
                raise
            batch_size = _halved(batch_size, prompts.length)
            clear_device_cache(garbage_collection=True)
            continue
        if progress is not None:
            progress(end - start)
        start, batches = end, batches + 1
        if checkpoint is not None and (batches % BATCHES_PER_CHECKPOINT == 0 or start == stop):
            checkpoint(_so_far(kind, made_from, begin, start, sums))
    assert sums is not None
    return _so_far(kind, made_from, begin, stop, sums)


def _exact_kind(model: PreTrainedModel, few: Tensor, steps: int) -> str:
    return "head_inputs" if head.is_linear(model, few, steps) else "logits"


def _added(sums: Tensor | None, rows: Tensor, start: int, groups: int) -> Tensor:
    """Add rows [batch, steps, width] of prompts from ``start`` on to the sums of their groups."""
    if rows.device.type == "mps":  # which has no float64
        rows = rows.cpu()
    if sums is None:
        sums = rows.new_zeros(groups, *rows.shape[1:], dtype=torch.float64)
    group = torch.arange(start, start + len(rows), device=rows.device) % groups
    return sums.index_add_(0, group, rows.double())


def _so_far(kind: str, made_from: str, start: int, stop: int, sums: Tensor) -> GroupSums:
    counts = torch.bincount(torch.arange(start, stop) % len(sums), minlength=len(sums))
    return GroupSums(kind, made_from, ((start, stop),), counts, sums.to("cpu", copy=True))


def _halved(batch_size: int, length: int) -> int:
    if batch_size == 1:
        raise ModelError(
            f"Memory runs out with a single row of {length} tokens.",
            "Take --dtype bfloat16 or --device-map auto.",
        )
    return batch_size // 2


def _check_finite(rows: Tensor, name: str, start: int) -> None:
    finite = torch.isfinite(rows).flatten(1).all(1)
    if not finite.all():
        ruled_out = rows.isneginf().flatten(0, 1).all(0).nonzero().flatten().tolist()
        if ruled_out:  # as in a head that is padded so
            raise NumericalError(
                f"{name} rules out {len(ruled_out)} tokens, such as {ruled_out[0]}, by logits of"
                " -inf: they have no shift.",
                "If they are padding, cut it off: model.resize_token_embeddings(len(tokenizer)).",
            )
        row = int((~finite).nonzero()[0])
        raise NumericalError(
            f"{name} gives NaN or infinite numbers on random prompt {start + row}.",
            "Check its weights, or load it in float32 or bfloat16.",
        )


def group_means(model: PreTrainedModel, sums: GroupSums) -> Tensor:
    """Mean logits of every group: float32 [groups, steps, vocab], on the CPU.

    Raises:
        UsageError: If a group has no prompts.
    """
    means = mean_rows(sums)
    if sums.kind != "head_inputs":
        return means
    return head.logits_from(model, means).cpu()


def mean_rows(sums: GroupSums) -> Tensor:
    """Means of what was summed by group, which are logits for all kinds but "head_inputs".

    Raises:
        UsageError: If a group has no prompts.
    """
    if not bool((sums.counts > 0).all()):
        raise UsageError(
            f"{sums.prompts} random prompts do not fill {len(sums.counts)} groups.",
            "Take more prompts or fewer groups.",
        )
    return (sums.sums / sums.counts[:, None, None]).float()
