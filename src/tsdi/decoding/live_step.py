"""The response position in engines that tell a processor nothing but the tokens so far."""

import numpy as np
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
