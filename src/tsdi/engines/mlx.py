"""The safety bias in MLX: a logits processor for mlx-lm.

``mlx_lm.generate(model, tokenizer, prompt, logits_processors=[SafetyDebias(bias.values)])``
"""

from typing import Any

import numpy as np
import torch

from tsdi.decoding.live_step import LiveStep


class SafetyDebias:
    """Subtracts strength x bias[i] from the logits of response token i.

    It may be used for many answers, one after the other; see `SafetyBias.check` for whether a bias
    belongs to a tokenizer.

    Args:
        values: The bias, [steps, vocab].
        strength: How much of it.
    """

    def __init__(self, values: torch.Tensor, strength: float = 1.0) -> None:
        import mlx.core as mx

        self._values = mx.array(np.asarray(values.numpy() * strength, dtype=np.float32))
        self._live = LiveStep()

    def __call__(self, tokens: Any, logits: Any) -> Any:
        """Debiased logits [1, width] of the token after ``tokens``, which begin with the prompt."""
        import mlx.core as mx

        step = self._live.at(len(tokens))
        if step >= self._values.shape[0]:
            return logits
        padding = mx.zeros((logits.shape[-1] - self._values.shape[1],))
        return logits - mx.concatenate([self._values[step], padding]).astype(logits.dtype)
