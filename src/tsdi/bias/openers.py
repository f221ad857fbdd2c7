"""Openers that a model shows itself, whatever its language: the first tokens of its refusals.

A list of English phrases says nothing of a model that answers in Chinese, or that refuses in words
of its own. What an aligned model says first to harmful prompts, and does not say first to harmless
ones, is how it refuses; no list and no judge is asked. The idea is ours, and not audited.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from math import exp

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from tsdi.bias import lm_head as head
from tsdi.bias.refusal_log_odds import (
    ENGLISH,
    Phrases,
    check_phrases,
    phrase_ids,
    phrase_log_probs,
)
from tsdi.errors import PromptError, UsageError
from tsdi.models.chat import decode
from tsdi.models.compatibility import tokenizer_size

LEAST = 8  # prompts of a kind
MOST = 64
APART = 0.2  # of the first tokens' probability, by which the kinds must differ
_SHARE = 0.95  # of that difference, which the openers hold
_SHOWN = 5  # tokens in a message
_CLEAR = 2.0  # standard errors by which an opener is likelier after its kind
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Openers:
    """First tokens of a model's refusals, and of its other answers, the commonest first.

    Attributes:
        refusing: Token ids that are likelier after harmful prompts.
        complying: Token ids that are likelier after harmless ones.
        refused: Mean probability of any refusing one after harmful prompts.
        passed: The same after harmless prompts.
    """

    refusing: tuple[int, ...]
    complying: tuple[int, ...]
    refused: float
    passed: float

    @property
    def phrases(self) -> Phrases:
        """The openers as phrases of one token."""
        return Phrases(
            *(tuple((token,) for token in ids) for ids in (self.refusing, self.complying))
        )


def own_openers(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    harmful: Sequence[Sequence[int]],
    harmless: Sequence[Sequence[int]],
) -> Openers:
    """The openers of a model, from its next-token distributions after prompts of both kinds.

    Of each kind they are the tokens whose mean probability exceeds that after the other kind by
    more than `_CLEAR` standard errors; the largest, until they hold `_SHARE` of all differences.

    Args:
        model: The aligned model, which refuses most harmful prompts.
        tokenizer: Its tokenizer.
        harmful: Token ids of harmful prompts, template included.
        harmless: Token ids of harmless prompts.

    Raises:
        PromptError: If there are too few prompts of a kind, or the model begins its answers to both
            alike, so that it does not show how it refuses.
    """
    if min(len(harmful), len(harmless)) < LEAST:
        raise PromptError(
            f"{len(harmful)} harmful and {len(harmless)} harmless prompts do not show how a model"
            " begins its refusals.",
            f"Give {LEAST} or more of each kind.",
        )
    vocab = tokenizer_size(tokenizer)
    (bad, bad_error), (good, good_error) = (
        _first_token(model, prompts, vocab) for prompts in (harmful, harmless)
    )
    more, error = bad - good, (bad_error + good_error).sqrt()
    refusing, complying = _largest(more, error), _largest(-more, error)
    if float(more.clamp(min=0).sum()) < APART or not refusing or not complying:
        raise PromptError(
            "The model begins its answers to harmful prompts as it does those to harmless ones, so"
            " it does not show how it refuses.",
            "Say how refusals begin: --phrases FILE.",
        )
    refused, passed = (float(one[refusing].sum()) for one in (bad, good))
    return Openers(tuple(refusing), tuple(complying), refused, passed)


def foreign_openers(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    harmful: Sequence[Sequence[int]],
    harmless: Sequence[Sequence[int]],
) -> Openers | None:
    """The openers of a model that does not refuse in English; None of one that does.

    It does if English phrases begin half as many answers to harmful prompts as its own openers do,
    or if it shows none (`own_openers`). At most `MOST` prompts of a kind are read.

    Raises:
        UsageError: If it shows none, and the tokenizer knows no English phrases.
    """
    harmful, harmless = _some(harmful), _some(harmless)
    try:
        own = own_openers(model, tokenizer, harmful, harmless)
    except PromptError:
        check_phrases(tokenizer, ENGLISH)
        return None
    if _refuses_in_english(model, tokenizer, harmful, own.refused / 2):
        return None
    _LOG.info(
        "The model does not refuse in English phrases. Its refusals are known by what it says first"
        " to harmful prompts: %s.",
        ", ".join(repr(decode(tokenizer, [token])) for token in own.refusing[:_SHOWN]),
    )
    return own


def _some(prompts: Sequence[Sequence[int]]) -> Sequence[Sequence[int]]:
    """At most `MOST` of the prompts, spread over all of them."""
    return prompts[:: -(-len(prompts) // MOST) or 1]


def _refuses_in_english(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[Sequence[int]],
    least: float,
) -> bool:
    """Whether answers begin with a refusing English phrase with the least mean probability.

    It stops reading once the prompts that are left cannot change that.
    """
    try:
        known = phrase_ids(tokenizer, ENGLISH.refusing)
    except UsageError:  # the tokenizer has words for none of them
        return False
    wanted, total = least * len(prompts), 0.0
    for left, ids in zip(reversed(range(len(prompts))), prompts, strict=True):
        total += sum(map(exp, phrase_log_probs(model, ids, known, (None,))[0]))
        if total >= wanted or total + left < wanted:
            break
    return total >= wanted


@torch.no_grad()
def _first_token(
    model: PreTrainedModel, prompts: Sequence[Sequence[int]], vocab: int
) -> tuple[Tensor, Tensor]:
    """Mean probability of every first token, and its squared error, float64 [vocab], on the CPU."""
    total, squares = torch.zeros(2, vocab, dtype=torch.float64)
    for ids in prompts:
        logits = head.native_logits(model, torch.tensor([list(ids)]), 1)[0, 0, :vocab]
        probabilities = logits.double().cpu().softmax(-1)
        total += probabilities
        squares += probabilities.square()
    mean, n = total / len(prompts), len(prompts)
    return mean, (squares / n - mean.square()).clamp(min=0) / (n - 1)


def _largest(more: Tensor, error: Tensor) -> list[int]:
    """The tokens with the largest clear differences, which together hold `_SHARE` of all."""
    shares, tokens = more.clamp(min=0).sort(descending=True)
    held = shares.cumsum(0) - shares  # by those before
    kept = (held < _SHARE * shares.sum()) & (shares > _CLEAR * error[tokens])
    found: list[int] = tokens[kept].tolist()
    return found
