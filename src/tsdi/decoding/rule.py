"""Our decoding rule: subtract strength x bias from the logits of the first response steps.

Source: TSDI, arXiv 2502.02153, p_debiased(. | x, y_<i) = softmax(f(x, y_<i) - G_i) for i < steps.
"""

import torch
from torch import Tensor

LARGEST_STRENGTH = 100.0
"""What users may ask for; 1 is TSDI, and far more leaves nothing of the model."""


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
