"""Mean logits of one model over groups of random prompts, E[f(x)] of the paper."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from torch import Tensor
from transformers import PreTrainedModel

from tsdi.bias.accumulate import GroupSums, Progress, Summing, accumulate, group_means
from tsdi.bias.random_prompts import RandomPrompts, check_prompts
from tsdi.errors import MismatchError, UsageError
from tsdi.models.compatibility import check_tied_adapter
from tsdi.models.fingerprint import fingerprint
from tsdi.models.sides import Side

ROLES = ("aligned", "reference")
_LOG = logging.getLogger(__name__)


@dataclass
class MeanLogits:
    """A resumable pass of one model over the random prompts.

    Attributes:
        role: "aligned" or "reference"; names the checkpoint.
        side: The model.
        prompts: The random prompts.
        groups: Number of groups; prompt k is in k mod groups.
        batch_size: Rows in a forward pass.
        checkpoints: Folder for partial results; None keeps none.
        progress: Called after every batch.
        sums: Sums over the prompts that are done.
        revision: The commit of a model from the hub, once it has been opened.
    """

    role: str
    side: Side
    prompts: RandomPrompts
    groups: int
    batch_size: int
    checkpoints: Path | None
    progress: Progress | None
    sums: GroupSums | None = None
    revision: str | None = None

    @property
    def kind(self) -> str:
        """What was summed (`tsdi.bias.accumulate.GroupSums`)."""
        assert self.sums is not None
        return self.sums.kind

    def resume(self, most: int) -> int:
        """Load the checkpoint, if there is one; returns the number of prompts in it.

        Raises:
            UsageError: If it holds more prompts than are asked for.
            FormatError: If it is damaged.
            MismatchError: If it lacks prompts between others.
        """
        if self.checkpoints is None or not self._file.exists():
            return 0
        self.sums = GroupSums.load(self._file)
        if self.sums.ranges != ((0, self.sums.prompts),):
            raise MismatchError(
                f"{self._file} is a part: it has prompts {_listed(self.sums.ranges)}.",
                "Join all parts by tsdi gather first; a part itself goes on with its --shard.",
            )
        if self.sums.prompts > most:
            raise UsageError(
                f"The checkpoints hold {self.sums.prompts} prompts already, more than {most}.",
                "Ask for at least as many, or take another folder.",
            )
        if self.progress is not None:
            self.progress(self.sums.prompts)
        return self.sums.prompts

    def after(self, stop: int) -> Tensor:
        """Mean logits over prompts 0 to stop - 1: float32 [groups, steps, vocab], on the CPU.

        Raises:
            MismatchError: If the checkpoint was made with other settings or weights.
        """
        with self.side.open() as model:
            self.revision = self.side.revision
            if self.revision is None and not hasattr(model, "peft_config"):
                self.revision = getattr(model.config, "_commit_hash", None)
            check_tied_adapter(model)
            check_prompts(model, self.prompts)
            self._check_checkpoint(model)
            done = self.sums.prompts if self.sums else 0
            if done < stop:
                self._go_on(model, done, stop)
            assert self.sums is not None
            return group_means(model, self.sums)

    def _go_on(self, model: PreTrainedModel, start: int, stop: int) -> None:
        before = self.sums

        def keep(more: GroupSums) -> None:
            self.sums = before.merge(more) if before else more
            if self.checkpoints is not None:
                self.sums.save(self._file)

        accumulate(
            model,
            self.prompts,
            start,
            stop,
            replace(self._summing, kind=before.kind if before else None),
            batch_size=self.batch_size,
            checkpoint=keep,
            progress=self.progress,
        )

    def _check_checkpoint(self, model: PreTrainedModel) -> None:
        if self.sums is None:
            return
        expected = self._summing.origin(model, self.prompts)
        unknown = replace(self._summing, files="").origin(model, self.prompts)
        if self.sums.origin.partition(" files=")[0] != unknown:
            raise MismatchError(
                f"{self._file} was made with other settings.", "Use the same, or another --out."
            )
        if self.sums.origin == unknown != expected:
            _LOG.warning("%s does not say which weights it was made with.", self._file)
        elif self.sums.origin != expected:
            raise MismatchError(
                f"{self._file} was made with other weights: {self.side.name} has changed since.",
                "Use another --out.",
            )
        self.sums = replace(self.sums, origin=expected)

    @property
    def _summing(self) -> Summing:
        name = " ".join(filter(None, (self.side.name, self.side.changed)))
        return Summing(self.groups, name, fingerprint(self.side.source))

    @property
    def _file(self) -> Path:
        assert self.checkpoints is not None
        return partial_file(self.checkpoints, self.role)


def partial_file(folder: Path, role: str) -> Path:
    """The file of one model's sums in the folder of an unfinished estimate."""
    return folder / f"partial-{role}.safetensors"


def partial_files(folder: Path) -> list[Path]:
    """The files of both models' sums."""
    return [partial_file(folder, role) for role in ROLES]


def _listed(ranges: Sequence[tuple[int, int]]) -> str:
    return ", ".join(f"{start} to {stop - 1}" for start, stop in ranges)
