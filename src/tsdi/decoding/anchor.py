"""Detection of a marker's end, such as "</think>", in tokens that may split it in any way."""

from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from tsdi.errors import UsageError

LONGEST_ANCHOR = 100  # characters: the table of a marker grows with the square of its length
_BREAKS = 2  # tokens that a template may put between the marker and the answer
_BEFORE = ("", "a", "a ", "a.", "a\n", "a.\n\n", "a)")
_AFTER = ("", "a", " a", "\n", "\n\n", "\n\na", ".", "<a>")


class Anchor:
    r"""Finds the token with which the text of a row first contains a marker.

    Tokens are looked at by their texts: the marker may be one token or many, begin within a token
    (" </") or end within one (">\n\n"), as each tokenizer likes. It is searched as Knuth, Morris
    and Pratt (1977) do, a state being how many of its characters the text so far ends with.

    Args:
        marker: Text of the marker.
        texts: Text that each token adds, by id.
    """

    def __init__(self, marker: str, texts: Sequence[str]) -> None:
        size = len(marker)
        self._moves = torch.zeros(len(texts) + 1, size + 1, dtype=torch.long)  # last: unknown ids
        inner = {marker[i:j] for i in range(size) for j in range(i + 1, size + 1)}
        ends = tuple(marker[i:] for i in range(size))
        for token, text in enumerate(texts):
            if marker[0] in text or text in inner or text.startswith(ends):
                moves = [_state(marker, marker[:state] + text) for state in range(size)]
                self._moves[token, :size] = torch.tensor(moves)
        self._may_end = (self._moves == size).any(1)

    def steps(self, input_ids: Tensor, prompt_length: int) -> Tensor:
        """The response position that is predicted next, int64 [rows]; -1 before the marker.

        Step 0 is the token after the one that the marker ends in. The end of the prompt counts too:
        a template may close the thinking itself, and write a line break or two behind it, which are
        no part of the answer.

        Args:
            input_ids: Prompt and answer so far, [rows, length].
            prompt_length: Number of columns of the prompt.
        """
        size = self._moves.shape[1] - 1
        begin = max(0, prompt_length - size - _BREAKS)
        found = self._ends(input_ids[:, begin:])[:, max(0, prompt_length - 1 - _BREAKS - begin) :]
        if not found.shape[1]:
            return torch.full((len(input_ids),), -1, device=input_ids.device)
        since_first = found.shape[1] - 1 - found.int().argmax(1)
        answered = input_ids.shape[1] - prompt_length
        return torch.where(found.any(1), since_first.clamp(max=answered), -1)

    def _ends(self, ids: Tensor) -> Tensor:
        """A mask of the tokens that end the marker, bool [rows, length]."""
        if self._moves.device != ids.device:
            self._moves, self._may_end = self._moves.to(ids.device), self._may_end.to(ids.device)
        unknown, size = len(self._moves) - 1, self._moves.shape[1] - 1
        known = torch.where(ids < unknown, ids, unknown)
        found = self._may_end[known]  # few tokens can
        places = found.any(0).nonzero()[:, 0]
        padded = torch.nn.functional.pad(known, (size - 1, 0), value=unknown)
        state = torch.zeros_like(known[:, places])
        for back in range(size):  # the windows of `size` tokens before these places
            state = self._moves[padded[:, places + back], state]
        found[:, places] = state == size
        return found


def _state(marker: str, text: str) -> int:
    if marker in text:
        return len(marker)
    ends = (k for k in range(len(marker) - 1, 0, -1) if text.endswith(marker[:k]))
    return next(ends, 0)


def anchor_ids(tokenizer: PreTrainedTokenizerBase, marker: str) -> list[int]:
    """Token ids of a marker after other text; none if there is no marker."""
    if not marker:
        return []
    before, both = (
        list(tokenizer(text, add_special_tokens=False)["input_ids"]) for text in ("a", "a" + marker)
    )
    if both[: len(before)] == before:  # without the blank that some put before a text
        return both[len(before) :]
    return list(tokenizer(marker, add_special_tokens=False)["input_ids"])


@lru_cache(maxsize=4)
def find_anchor(tokenizer: PreTrainedTokenizerBase, marker: str) -> Anchor:
    """The anchor for a tokenizer, checked on texts with the marker in them.

    Raises:
        UsageError: If its tokens do not say where the marker ends.
    """
    texts = _token_texts(tokenizer)
    for text in (before + marker + after for before in _BEFORE for after in _AFTER):
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        if marker not in "".join(texts[i] for i in ids):
            raise UsageError(
                f"The marker {marker!r} cannot be told from the tokens of {text!r}.",
                "Name one that the tokenizer keeps as it is written, in whole characters.",
            )
    return Anchor(marker, texts)


def _token_texts(tokenizer: PreTrainedTokenizerBase) -> list[str]:
    """The text that each token adds within a text, by id."""
    (first,) = tokenizer("a", add_special_tokens=False)["input_ids"][-1:] or [0]
    number = max(tokenizer.get_vocab().values()) + 1
    alone, *rest = tokenizer.batch_decode(
        [[first], *([first, token] for token in range(number))], clean_up_tokenization_spaces=False
    )
    return [text[len(alone) :] for text in rest]
