"""The decoding rule: subtract strength x bias from the first logits of an answer.

    p_debiased(. | x, y_<i) = softmax(f(x, y_<i) - strength x G_i) for i < steps

Source: TSDI, arXiv 2502.02153, where the strength is 1. It may also be s(x), read off the logits of
step 0 for each prompt x (`tsdi.decoding.condition`), and is then below 0 where the bias is added.
And G_i may be the first of two terms (`tsdi.decoding.slope`): what is subtracted then follows the
logits.

Defined here, on torch's tensors; a runtime's processor adds how it finds the step i. Three cannot
call it and say it again. Tests hold each of them to this one:

    tsdi.engines.vllm_plugin      in place, rows at steps of their own    tests/engines/
    tsdi.decoding.mlx             on MLX's arrays; condition, slope too   tests/decoding/test_mlx.py
    tsdi.export.custom_generate   is copied to where there is no tsdi     tests/export/
"""

import math
from numbers import Real

import torch
from torch import Tensor

from tsdi.decoding.slope import Bias
from tsdi.errors import UsageError


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
            "Take 1, which is TSDI.",
        )
    return value
