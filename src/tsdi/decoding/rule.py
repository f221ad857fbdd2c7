"""The decoding rule, defined here and nowhere else: subtract strength x bias from the first logits.

    p_debiased(. | x, y_<i) = softmax(f(x, y_<i) - strength x G_i) for i < steps

Source: TSDI, arXiv 2502.02153, where the strength is 1. It may also be s(x), read off the logits of
step 0 for each prompt x (`tsdi.decoding.condition`), and is then below 0 where the bias is added.

The processors of every runtime
(`tsdi.decoding.transformers`, `.llama_cpp`, `.mlx`, `tsdi.engines.vllm_plugin`) do this; what they
add is how they find the step i.
"""

import math
from numbers import Real

import torch
from torch import Tensor

from tsdi.errors import UsageError

LARGEST_STRENGTH = 100.0
"""What users may ask for; 1 is TSDI, and far more leaves nothing of the model."""


def check_strength(strength: object) -> float:
    """A strength as a number.

    Raises:
        UsageError: If it is none, or not in 0..`LARGEST_STRENGTH`.
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


def subtract_bias(
    logits: Tensor, step: Tensor | int, bias: Tensor, strength: Tensor | float = 1.0
) -> Tensor:
    """Debiased logits.

    Args:
        logits: [batch, width], width >= vocab; the columns beyond vocab are padding and stay.
        step: Response position that is predicted, one for all rows or int64 [batch]; rows below 0
            (not yet answering) and from ``len(bias)`` on stay as they are.
        bias: The safety bias, [steps, vocab].
        strength: One factor, or one per row [batch].

    Returns:
        [batch, width], a new tensor unless nothing is to be done.
    """
    if isinstance(step, int):
        if not 0 <= step < len(bias):
            return logits
        shift = bias[step]
    else:
        inside = (step >= 0) & (step < len(bias))
        shift = torch.where(inside[:, None], bias[step.clamp(0, len(bias) - 1)], 0.0)
    factor = strength[:, None] if isinstance(strength, Tensor) else strength
    debiased = logits.clone()
    debiased[:, : bias.shape[1]] -= factor * shift
    return debiased
