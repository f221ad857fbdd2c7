"""The rule (`tsdi.decoding.rule`) in MLX, on its own arrays: a logits processor of mlx-lm.

``mlx_lm.generate(model, tokenizer, prompt, logits_processors=[SafetyDebias(bias)])``
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from tsdi.decoding.condition import Condition, Strength
from tsdi.decoding.slope import Slope
from tsdi.errors import UsageError

if TYPE_CHECKING:
    from tsdi.bias import SafetyBias


class SafetyDebias:
    """Subtracts strength x bias[i] from the logits of response token i.

    One object is for one answer. A second one is refused where it can be told: by its tokens at the
    steps that are debiased, by its length after them, where looking would make MLX wait. Whether a
    bias belongs to a tokenizer says `SafetyBias.check`.

    Args:
        bias: The safety bias.
        strength: Factor of the bias: a number or a condition; None leaves it to the bias's
            condition, or takes the recommended one.

    Raises:
        UsageError: If the bias begins behind a marker, or no strength is named or recommended.
    """

    def __init__(self, bias: "SafetyBias", strength: Strength | None = None) -> None:
        bias.check_no_anchor()
        self._values = _array(bias.values)
        self._slope = None if bias.slope is None else _slope(bias.slope)
        used = bias.strength_or_condition(strength)
        self._condition = used if isinstance(used, Condition) else None
        self._strength: Any = None if isinstance(used, Condition) else used
        self._seen: Any = None  # ids of the call before
        self._prompt_length = 0

    def __call__(self, tokens: Any, logits: Any) -> Any:
        """Debiased logits [1, width] of the token after ``tokens``, which begin with the prompt.

        Raises:
            UsageError: If the tokens are of another answer.
        """
        import mlx.core as mx

        step = self._step(tokens)
        if step >= self._values.shape[0]:
            return logits
        if step == 0 and self._condition is not None:
            self._strength = _read(self._condition, logits)
        shift = self._values[step][None]
        if self._slope is not None:
            shift = shift + self._slope(logits, step)
        padding = mx.zeros((len(shift), logits.shape[-1] - self._values.shape[1]))
        shift = self._strength * mx.concatenate([shift, padding], axis=1)
        return logits - shift.astype(logits.dtype)

    def _step(self, tokens: Any) -> int:
        """The response position that is predicted next: MLX shows all tokens so far."""
        import mlx.core as mx

        self._prompt_length = self._prompt_length or len(tokens)
        step = len(tokens) - self._prompt_length
        goes_on = self._seen is None or len(tokens) == len(self._seen) + 1
        if goes_on and self._seen is not None and step <= self._values.shape[0]:
            goes_on = bool(mx.array_equal(tokens[:-1], self._seen))
        if not goes_on:
            raise UsageError(
                "A SafetyDebias of MLX was used for a second answer.", "Make one for each answer."
            )
        self._seen = tokens
        return step


def _array(values: Tensor) -> Any:
    import mlx.core as mx

    return mx.array(np.asarray(values.numpy(), dtype=np.float32))


def _slope(slope: Slope) -> Callable[[Any, int], Any]:
    """A function that computes `Slope.shift` of logits [1, width] in MLX."""
    import mlx.core as mx

    read, write, centre = map(_array, (slope.read, slope.write, slope.centre))
    unread = mx.all(read == 0, axis=0)

    def shift(logits: Any, step: int) -> Any:
        shown = logits[:, : read.shape[1]].astype(mx.float32)
        known = mx.all(mx.isfinite(shown) | unread, axis=-1, keepdims=True)
        readings = mx.where(mx.isfinite(shown), shown, 0.0) @ read.T - centre[step]
        return mx.where(known, readings, 0.0) @ write

    return shift


def _read(condition: Condition, logits: Any) -> Any:
    """`Condition.strength` of logits [1, width], evaluated lazily by MLX: [1, 1]."""
    import mlx.core as mx

    tokens, weights = (mx.array(one.numpy()) for one in (condition.tokens, condition.weights))
    score = logits[:, tokens].astype(mx.float32) @ weights[:, None] + condition.intercept
    harmful = mx.sigmoid(score / condition.width)
    strength = condition.high + (condition.low - condition.high) * harmful
    return mx.where(mx.isfinite(score), strength, condition.low)
