"""The safety bias in MLX: a logits processor for mlx-lm.

``mlx_lm.generate(model, tokenizer, prompt, logits_processors=[SafetyDebias(bias)])``
"""

from typing import TYPE_CHECKING, Any

import numpy as np

from tsdi.errors import UsageError

if TYPE_CHECKING:
    from tsdi.bias import SafetyBias


class SafetyDebias:
    """Subtracts strength x bias[i] from the logits of response token i.

    One is for one answer. A second one is refused where it can be told: by its tokens at the steps
    that are debiased, by its length after them, where looking would make MLX wait. Whether a bias
    belongs to a tokenizer says `SafetyBias.check`.

    Args:
        bias: The safety bias.
        strength: How much of it; None takes what it recommends.

    Raises:
        UsageError: If the bias begins behind a marker, or no strength is named or recommended.
    """

    def __init__(self, bias: "SafetyBias", strength: float | None = None) -> None:
        import mlx.core as mx

        bias.check_no_anchor()
        values = bias.values.numpy() * bias.strength_or_recommended(strength)
        self._values = mx.array(np.asarray(values, dtype=np.float32))
        self._prompt = self._seen = 0
        self._last: Any = None

    def __call__(self, tokens: Any, logits: Any) -> Any:
        """Debiased logits [1, width] of the token after ``tokens``, which begin with the prompt.

        Raises:
            UsageError: If the tokens are of another answer.
        """
        import mlx.core as mx

        self._prompt = self._prompt or len(tokens)
        step = len(tokens) - self._prompt
        goes_on = not self._seen or len(tokens) == self._seen + 1
        if goes_on and self._seen and step <= self._values.shape[0]:
            goes_on = bool(mx.array_equal(tokens[:-1], self._last))
        if not goes_on:
            raise UsageError(
                "A SafetyDebias of MLX was used for a second answer.", "Make one for each answer."
            )
        self._seen, self._last = len(tokens), tokens
        if step >= self._values.shape[0]:
            return logits
        padding = mx.zeros((logits.shape[-1] - self._values.shape[1],))
        return logits - mx.concatenate([self._values[step], padding]).astype(logits.dtype)
