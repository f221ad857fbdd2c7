"""Random prompts inside the model's chat template, each followed by a random response."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from tsdi.arguments import check_counts, check_whole
from tsdi.bias.pool import TokenPool
from tsdi.decoding.anchor import anchor_ids, find_anchor
from tsdi.errors import MismatchError, UsageError
from tsdi.files import json_sha256
from tsdi.models.chat import (
    OWN_TEMPLATE,
    ChatFormat,
    check_format,
    decode,
    encode_chat,
)
from tsdi.models.compatibility import context_length, embedding_rows
from tsdi.models.template import check_shows_once

_FILLERS = 8


@dataclass(frozen=True)
class Frame:
    """The token ids around a prompt.

    Attributes:
        prefix: Ids before the prompt.
        suffix: Ids between the prompt and the response.
    """

    prefix: tuple[int, ...]
    suffix: tuple[int, ...]


def chat_frame(
    tokenizer: PreTrainedTokenizerBase,
    pool: TokenPool,
    chat_format: ChatFormat = OWN_TEMPLATE,
    anchor: str = "",
) -> Frame:
    """Find the ids that stand around every prompt.

    Several one-token prompts are put through the template; what their ids have in common at both
    ends is the frame. So the ids are those of real use, wherever text and template merge.

    Args:
        tokenizer: The model's tokenizer.
        pool: Gives the one-token prompts.
        chat_format: Format of chats.
        anchor: End-of-thinking marker after which step 0 is, such as "</think>".
    """
    check_format(tokenizer, chat_format)
    if chat_format.prompt_format is None:
        check_shows_once(tokenizer)
    if anchor:
        find_anchor(tokenizer, anchor)  # raises an error where answers cannot show the marker
    ids = np.unique(pool.ids)
    spread = ids[:: max(1, len(ids) // (8 * _FILLERS))]  # decoding a whole vocabulary takes long
    fillers = [decode(tokenizer, [int(i)]) for i in spread]
    # White space may be trimmed, and parts of characters all become the same text.
    fillers = [text for text in fillers if text.strip() and "\N{REPLACEMENT CHARACTER}" not in text]
    chosen = fillers[:: max(1, len(fillers) // _FILLERS)] if len(fillers) > 1 else ["a", "1"]
    rows = [
        encode_chat(tokenizer, [{"role": "user", "content": text}], chat_format) for text in chosen
    ]
    before = _common_prefix(rows)
    after = _common_prefix([row[before:][::-1] for row in rows])
    suffix = rows[0][len(rows[0]) - after :] + anchor_ids(tokenizer, anchor)
    return Frame(tuple(rows[0][:before]), tuple(suffix))


def _common_prefix(rows: list[list[int]]) -> int:
    shortest = min(map(len, rows))
    same = (len({row[i] for row in rows}) == 1 for i in range(shortest))
    return next((i for i, is_same in enumerate(same) if not is_same), shortest)


@dataclass(frozen=True)
class RandomPrompts:
    """An endless numbered list of random prompts and responses; number k depends on (seed, k) only.

    Attributes:
        pool: Token ids to draw from.
        frame: The template's ids around the prompt.
        prompt_tokens: Random tokens in a prompt.
        steps: Response positions; a response has ``steps - 1`` tokens, as the last one is only
            predicted.
        seed: Decides every draw.
        ngram: Tokens that are drawn together, as they follow one another in the pool.
    """

    pool: TokenPool
    frame: Frame
    prompt_tokens: int
    steps: int
    seed: int
    ngram: int = 1

    def __post_init__(self) -> None:
        check_counts(self, "prompt_tokens", "steps", "ngram")
        check_whole("seed", self.seed, 0)
        if self.ngram > len(self.pool.ids):
            raise UsageError(f"The pool has {len(self.pool.ids)} tokens, no run of {self.ngram}.")

    @property
    def length(self) -> int:
        """Token ids in one row."""
        return len(self.frame.prefix) + self.prompt_tokens + len(self.frame.suffix) + self.steps - 1

    @property
    def sha256(self) -> str:
        """Hash of everything that decides the ids."""
        frame, lengths = self.frame, (self.prompt_tokens, self.steps)
        parts: list[object] = [self.pool.sha256, frame.prefix, frame.suffix, *lengths, self.seed]
        if self.ngram != 1:  # single tokens are described as they were before there were n-grams
            parts.append(self.ngram)
        return json_sha256(parts)

    def ids(self, start: int, stop: int) -> torch.Tensor:
        """Rows start to stop - 1: int64 [stop - start, length].

        The logit at position ``length - steps + i`` predicts response token i.
        """
        rows = np.empty((stop - start, self.length), dtype=np.int64)
        begin = len(self.frame.prefix)
        end = begin + self.prompt_tokens
        rows[:, :begin] = self.frame.prefix
        rows[:, end : end + len(self.frame.suffix)] = self.frame.suffix
        for row, k in zip(rows, range(start, stop), strict=True):
            drawn = self._draw(k)
            row[begin:end] = drawn[: self.prompt_tokens]
            row[end + len(self.frame.suffix) :] = drawn[self.prompt_tokens :]
        return torch.from_numpy(rows)

    def _draw(self, k: int) -> npt.NDArray[np.int64]:
        # Philox is counter-based and numpy keeps its raw stream for ever, unlike its integers().
        length, n = self.prompt_tokens + self.steps - 1, self.ngram
        raw = np.random.Philox(key=[self.seed, k]).random_raw(-(-length // n))
        starts = (raw % np.uint64(len(self.pool.ids) - n + 1)).astype(np.int64)
        drawn: npt.NDArray[np.int64] = self.pool.ids[(starts[:, None] + np.arange(n)).ravel()]
        return drawn[:length]


def random_prompts(
    tokenizer: PreTrainedTokenizerBase,
    pool: TokenPool,
    *,
    prompt_tokens: int,
    steps: int,
    seed: int,
    chat_format: ChatFormat = OWN_TEMPLATE,
    anchor: str = "",
    ngram: int = 1,
) -> RandomPrompts:
    """Random prompts for a tokenizer; see ``chat_frame`` and ``RandomPrompts``."""
    frame = chat_frame(tokenizer, pool, chat_format, anchor)
    return RandomPrompts(pool, frame, prompt_tokens, steps, seed, ngram)


def check_prompts(model: PreTrainedModel, prompts: RandomPrompts) -> None:
    """Check that a model can read random prompts.

    Raises:
        UsageError: If they are longer than its context.
        MismatchError: If it does not know their tokens.
    """
    limit = context_length(model)
    if limit is not None and prompts.length > limit:
        raise UsageError(
            f"Template, {prompts.prompt_tokens} prompt tokens and {prompts.steps} steps make "
            f"{prompts.length} tokens; the model's context is {limit}.",
            "Take fewer steps or prompt tokens.",
        )
    top = max(prompts.frame.prefix + prompts.frame.suffix + (int(prompts.pool.ids.max()),))
    if top >= (size := embedding_rows(model)):
        raise MismatchError(
            f"The tokenizer gives token {top}, the model knows {size} tokens.",
            "Give the model's own tokenizer.",
        )
