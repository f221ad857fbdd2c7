"""The rule (`tsdi.decoding.rule`) in llama.cpp: a logits processor of llama-cpp-python."""

from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from tsdi.decoding.condition import Condition, Strength
from tsdi.decoding.rule import subtract_bias

if TYPE_CHECKING:
    from tsdi.bias import SafetyBias


class SafetyDebias:
    """Subtracts strength x bias[i] from the logits of response token i.

    One object may be used for many answers, one after the other.

    Args:
        bias: The safety bias.
        strength: Factor of the bias: a number, or a condition, which sets it at the first call for
            each answer; None leaves it to the bias's condition, or takes the recommended one.

    Raises:
        UsageError: If the bias begins behind a marker, or no strength is named or recommended.
    """

    def __init__(self, bias: "SafetyBias", strength: Strength | None = None) -> None:
        bias.check_no_anchor()
        self._bias = bias.shift
        used = bias.strength_or_condition(strength)
        self._condition = used if isinstance(used, Condition) else None
        self._strength = 0.0 if isinstance(used, Condition) else used
        self._seen: NDArray[np.int64] = np.empty(0, dtype=np.int64)  # ids of the call before
        self._prompt_length = 0

    @property
    def found(self) -> float | None:
        """The strength that the condition has set for the last answer; None without one."""
        return None if self._condition is None else self._strength

    def __call__(
        self, input_ids: NDArray[np.intc], scores: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """Debiased scores [width] of the token after input_ids, which begin with the prompt."""
        step = self._step(input_ids)
        if step >= len(self._bias):
            return scores
        logits = torch.from_numpy(scores)[None]  # is only read
        if step == 0 and self._condition is not None:
            self._strength = float(self._condition.strength(logits))
        debiased: NDArray[np.float32] = subtract_bias(
            logits, step, self._bias, self._strength
        )[0].numpy()  # fmt: skip
        return debiased

    def _step(self, input_ids: NDArray[np.integer]) -> int:
        """The response position that is predicted next.

        llama.cpp calls once for each token and shows all tokens so far. A call whose tokens are
        those of the last one and one more goes on; any other is a new prompt, whose end is where
        the answer begins.
        """
        goes_on = len(self._seen) and np.array_equal(input_ids[:-1], self._seen)
        if not goes_on:
            self._prompt_length = len(input_ids)
        self._seen = np.array(input_ids, dtype=np.int64)
        return len(input_ids) - self._prompt_length
