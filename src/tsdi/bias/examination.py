"""The prompts of a diagnosis: random ones, and real ones of the user's."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from tsdi.bias.info import BiasInfo
from tsdi.bias.pool import TokenPool
from tsdi.bias.random_prompts import random_prompts
from tsdi.bias.refusal_log_odds import ENGLISH, Phrases
from tsdi.bias.safety_bias import SafetyBias
from tsdi.errors import PromptError, UsageError
from tsdi.models.chat import ChatFormat
from tsdi.models.compatibility import context_length

RANDOM = "random"
RANDOM_PROMPTS = 64
ANSWERS = 32


@dataclass(frozen=True)
class Examination:
    """Settings of a diagnosis: prompts, phrases and their numbers.

    Attributes:
        pool: Token pool that the bias was estimated with, or its name as in
            ``TokenPool.from_name``.
        prompts: Real prompts as token ids, template included, by kind ("harmless", "harmful/O3").
        random: Number of random prompts, others than those of the estimate.
        answers: Most prompts of a sort (random, harmless, harmful) on whose answers the share that
            is explained is found, spread over its categories; None takes all. The recommended
            strength does not depend on it.
        phrases: Beginnings of refusing and complying answers.
        reference_prompts: The same prompts as the reference reads them, where it has a format of
            its own; empty: as the aligned model does.
    """

    pool: TokenPool | str = "neutral"
    prompts: Mapping[str, Sequence[Sequence[int]]] = field(default_factory=dict)
    random: int = RANDOM_PROMPTS
    answers: int | None = ANSWERS
    phrases: Phrases = ENGLISH
    reference_prompts: Mapping[str, Sequence[Sequence[int]]] = field(default_factory=dict)


@dataclass(frozen=True)
class Row:
    """A prompt with its kind, as token ids of the reference and of the aligned model."""

    kind: str
    before: list[int]
    after: list[int]


def examined_rows(
    bias: SafetyBias, tokenizer: PreTrainedTokenizerBase, pool: TokenPool, settings: Examination
) -> list[Row]:
    """All prompts of a diagnosis: fresh random ones, then real ones."""
    info, chats = bias.info, (bias.info.reference_chat, bias.info.chat_format)
    fresh = [random_rows(info, tokenizer, pool, settings.random, chat) for chat in chats]
    rows = [Row(RANDOM, *both) for both in zip(*fresh, strict=True)]
    if info.reference_format is not None and settings.prompts and not settings.reference_prompts:
        raise UsageError(
            "The reference reads prompts in a format of its own, and these are in one only.",
            "Give them as the reference reads them, too.",
        )
    for kind, after in settings.prompts.items():
        before = settings.reference_prompts.get(kind, after)
        rows += [Row(kind, list(b), list(a)) for b, a in zip(before, after, strict=True)]
    return rows


def random_rows(
    info: BiasInfo,
    tokenizer: PreTrainedTokenizerBase,
    pool: TokenPool,
    number: int,
    chat: ChatFormat | None = None,
) -> list[list[int]]:
    """Random prompts that a bias was not estimated on, in its chat format or another."""
    drawn = random_prompts(
        tokenizer,
        pool,
        prompt_tokens=info.prompt_tokens,
        steps=1,
        seed=info.seed,
        chat_format=info.chat_format if chat is None else chat,
        anchor=info.anchor,
    )
    rows: list[list[int]] = drawn.ids(info.prompts, info.prompts + number).tolist()
    return rows


def check_lengths(
    model: PreTrainedModel, prompts: Sequence[tuple[str, Sequence[int]]], answer: int
) -> None:
    """Raise PromptError unless every (kind, prompt) leaves the context room for an answer."""
    limit = context_length(model)
    for kind, prompt in prompts:
        if limit is not None and len(prompt) + answer > limit:
            raise PromptError(
                f"A {kind} prompt has {len(prompt)} tokens; with an answer of "
                f"{answer} it does not fit the model's context of {limit}.",
                "Leave it out of the file.",
            )
