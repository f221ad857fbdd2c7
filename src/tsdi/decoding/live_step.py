"""The response position in engines that tell a processor nothing but the tokens so far."""


class LiveStep:
    """The response position in an engine that shows a processor all tokens so far, at every step.

    Such engines call once for each token, in order; a call that does not go on where the last one
    ended is another prompt, whose end is where it begins.
    """

    def __init__(self) -> None:
        self._seen = -1
        self._prompt = 0

    def at(self, length: int) -> int:
        """The position that is predicted next.

        Args:
            length: Tokens of prompt and response so far.
        """
        if length != self._seen + 1:
            self._prompt = length
        self._seen = length
        return length - self._prompt
