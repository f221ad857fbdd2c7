"""The first-order term of a bias (`tsdi.bias.first_order`), as the rule takes it."""

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Slope:
    """The first-order term of a bias, a low-rank linear map of logits z: (read z - centre_i) write.

    Each reading adds up to 0 over the tokens, so that log-probabilities can be read as well.

    Attributes:
        read: Weights of the logits in each reading, float32 [rank, vocab].
        write: Shift that a unit of each reading adds, float32 [rank, vocab].
        centre: The mean readings at every step, which add nothing, float32 [steps, rank].
        evidence: Cross-validation of its fit (`tsdi.bias.first_order`), as plain objects.
    """

    read: Tensor = field(repr=False)
    write: Tensor = field(repr=False)
    centre: Tensor = field(repr=False)
    evidence: dict[str, Any] = field(default_factory=dict, repr=False)

    def to(self, device: torch.device | str) -> "Slope":
        """The slope on another device."""
        read, write, centre = (one.to(device) for one in (self.read, self.write, self.centre))
        return Slope(read, write, centre, self.evidence)

    def shift(self, logits: Tensor, step: Tensor | int) -> Tensor:
        """The first-order shift for these logits, float32 [batch, vocab].

        It is 0 where a logit that is read is not finite, since a grammar or another processor has
        ruled the token out.

        Args:
            logits: The model's own logits, [batch, width], width >= vocab.
            step: Response position, one for all rows or int64 [batch], inside the steps.
        """
        shown = logits[:, : self.read.shape[1]].float()
        ruled_out = ~shown.isfinite()
        known = ~(ruled_out & self._reads).any(-1, keepdim=True)
        readings = shown.masked_fill(ruled_out, 0.0) @ self.read.T - self.centre[step]
        return torch.where(known, readings, 0.0) @ self.write

    @cached_property
    def _reads(self) -> Tensor:
        """A mask of the tokens whose logits are read, bool [vocab]."""
        return self.read.ne(0).any(0)


@dataclass(frozen=True, eq=False)
class Sloped:
    """A bias with a first-order term, with the interface of a tensor [steps, vocab].

    Attributes:
        values: G, float32 [steps, vocab].
        slope: The first-order term.
    """

    values: Tensor = field(repr=False)
    slope: Slope

    def __len__(self) -> int:
        """The number of steps."""
        return len(self.values)

    @property
    def shape(self) -> torch.Size:
        """Steps and vocabulary size."""
        return self.values.shape

    @property
    def device(self) -> torch.device:
        """The device of the values."""
        return self.values.device

    @property
    def dtype(self) -> torch.dtype:
        """The data type of the values."""
        return self.values.dtype

    def to(self, device: torch.device | str) -> "Sloped":
        """The bias on another device."""
        return Sloped(self.values.to(device), self.slope.to(device))


Bias = Tensor | Sloped
"""What is subtracted at strength 1: G [steps, vocab], or that and how it follows the logits."""
