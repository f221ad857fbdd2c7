"""The rule as a logits processor of llama-cpp-python."""

import numpy as np
import torch
from numpy.typing import NDArray


class LiveStep:
    """The position in an engine that shows a processor all tokens so far, at every step.

    Such engines call once for each token. A call whose tokens are those of the last one and one
    more goes on; any other is a new prompt, whose end is where the answer begins.
    """

    def __init__(self) -> None:
        self._seen: NDArray[np.int64] = np.empty(0, dtype=np.int64)
        self._prompt = 0

    def at(self, tokens: NDArray[np.integer]) -> int:
        """The position that is predicted next.

        Args:
            tokens: Ids of prompt and answer so far, [length].
        """
        goes_on = len(self._seen) and np.array_equal(tokens[:-1], self._seen)
        if not goes_on:
            self._prompt = len(tokens)
        self._seen = np.array(tokens, dtype=np.int64)
        return len(tokens) - self._prompt


class SafetyDebias:
    """A logits processor of llama-cpp-python: subtracts strength x bias[i] for response token i.

    It may be used for many answers, one after the other.

    Args:
        values: The bias, [steps, vocab].
        strength: How much of it.
    """

    def __init__(self, values: torch.Tensor, strength: float) -> None:
        self._values = np.asarray(values.numpy() * strength, dtype=np.float32)
        self._live = LiveStep()

    def __call__(
        self, input_ids: NDArray[np.intc], scores: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """Debiased scores [width] of the token after input_ids, which begin with the prompt."""
        step = self._live.at(input_ids)
        if step >= len(self._values):
            return scores
        debiased = scores.copy()
        debiased[: self._values.shape[1]] -= self._values[step]
        return debiased
