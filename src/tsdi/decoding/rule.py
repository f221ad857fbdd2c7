"""The decoding rule, defined once: subtract strength x bias from the first logits.

    p_debiased(. | x, y_<i) = softmax(f(x, y_<i) - strength x G_i) for i < steps

Source: TSDI, arXiv 2502.02153, where the strength is 1. It may also be s(x), read off the logits of
step 0 for each prompt x (`tsdi.decoding.condition`), and is then below 0 where the bias is added.
And G_i may be the first of two terms (`Slope`): what is subtracted then follows the logits.

The processors of every runtime
(`tsdi.decoding.transformers`, `.llama_cpp`, `.mlx`, `tsdi.engines.vllm_plugin`) do this; what they
add is how they find the step i.
"""

import math
from dataclasses import dataclass, field
from functools import cached_property
from numbers import Real
from typing import Any

import torch
from torch import Tensor

from tsdi.errors import UsageError

LARGEST_STRENGTH = 100.0
"""What users may ask for; 1 is TSDI, and far more leaves nothing of the model."""


def check_strength(strength: object) -> float:
    """A strength as a float, or UsageError if it is not valid.

    Raises:
        UsageError: If it is no number, or not in 0..`LARGEST_STRENGTH`.
    """
    if isinstance(strength, Tensor) and strength.dim() == 0:
        strength = strength.item()
    number = isinstance(strength, Real) and not isinstance(strength, bool)
    try:
        value = float(strength) if number else math.nan  # type: ignore[arg-type]
    except OverflowError:
        value = math.inf
    if not 0 <= value <= LARGEST_STRENGTH:
        raise UsageError(
            f"The strength is {strength!r}, no number from 0 (off) to {LARGEST_STRENGTH:g}.",
            "Write strength=1.0, which is TSDI.",
        )
    return value


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


def shift_at(logits: Tensor, step: Tensor | int, bias: Bias) -> Tensor:
    """The shift of a bias at a step, for these logits: [vocab] or [batch, vocab].

    Args:
        logits: Logits before the rule, [batch, width], width >= vocab.
        step: Response position, one for all rows or int64 [batch], inside the steps.
        bias: The safety bias.
    """
    if isinstance(bias, Tensor):
        return bias[step]
    return bias.values[step] + bias.slope.shift(logits, step)


def subtract_bias(
    logits: Tensor, step: Tensor | int, bias: Bias, strength: Tensor | float = 1.0
) -> Tensor:
    """Subtract strength x the bias at a step from logits.

    Args:
        logits: Logits before the rule, [batch, width], width >= vocab; the columns beyond vocab
            are padding and stay.
        step: Response position that is predicted, one for all rows or int64 [batch]; rows below 0
            (not yet answering) and from ``len(bias)`` on stay as they are.
        bias: The safety bias, [steps, vocab], of either order.
        strength: One factor, or one per row [batch].

    Returns:
        Debiased logits, [batch, width]; a new tensor unless nothing is to be done.
    """
    if isinstance(step, int):
        if not 0 <= step < len(bias):
            return logits
        shift = shift_at(logits, step, bias)
    else:
        inside = (step >= 0) & (step < len(bias))
        shift = shift_at(logits, step.clamp(0, len(bias) - 1), bias)
        shift = torch.where(inside[:, None], shift, 0.0)
    factor = strength[:, None] if isinstance(strength, Tensor) else strength
    debiased = logits.clone()
    debiased[:, : bias.shape[1]] -= factor * shift
    return debiased
