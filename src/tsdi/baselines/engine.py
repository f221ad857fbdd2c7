"""An engine that combines the logits of several models, or of one asked in several ways."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import LogitsProcessor, PreTrainedModel, PreTrainedTokenizerBase

from tsdi.baselines import mixing
from tsdi.baselines.prompting import Transform, demand_refusal, emphasise_safety
from tsdi.decoding.greedy import pad_id, pad_left
from tsdi.decoding.prompt_states import PromptStates
from tsdi.engines.base import Message, Request, Sampling
from tsdi.engines.transformers import TransformersEngine
from tsdi.models.chat import OWN_TEMPLATE, ChatFormat, encode_chat
from tsdi.models.compatibility import shared_vocabulary, tokenizer_size, vocabulary_width

Combine = Callable[[Sequence[Tensor]], Tensor]
"""From the logits of every branch, each [batch, vocab], to those that are decoded."""


def _as_it_is(messages: tuple[Message, ...]) -> tuple[Message, ...]:
    return messages


@dataclass(frozen=True)
class Branch:
    """A model whose logits are combined, with a transform of its prompts.

    Attributes:
        model: The model.
        transform: Maps a chat's messages to those that this branch reads.
        states: The model's states of prompts; None keeps none.
    """

    model: PreTrainedModel
    transform: Transform = _as_it_is
    states: PromptStates | None = None


class MixingEngine(TransformersEngine):
    """Decodes logits that are combined from several branches, each with a key-value cache.

    Args:
        branches: The first one is the model that generates.
        tokenizer: The tokenizer of all.
        combine: Function from the branches' logits to one.
        steps: Combine at the first steps only, and decode the first branch after that; None
            combines always.
        chat_format: Format of chats.

    Raises:
        MismatchError: If vocabularies differ in more than padding.
    """

    def __init__(
        self,
        branches: Sequence[Branch],
        tokenizer: PreTrainedTokenizerBase,
        combine: Combine,
        steps: int | None = None,
        chat_format: ChatFormat = OWN_TEMPLATE,
    ) -> None:
        first, *self._others = branches
        super().__init__(first.model, tokenizer, chat_format=chat_format, states=first.states)
        self._first = first
        self._combine, self._steps = combine, steps
        known, width = tokenizer_size(tokenizer), vocabulary_width(first.model)
        widths = [vocabulary_width(other.model) for other in self._others]
        self._vocab = min(
            (shared_vocabulary(width, other, known) for other in widths), default=width
        )

    def _models(self) -> Sequence[PreTrainedModel]:
        return [self._first.model, *(other.model for other in self._others)]

    def _encode(self, request: Request, sampling: Sampling) -> list[int]:
        asked = Request(self._first.transform(request.messages), request.strength)
        return super()._encode(asked, sampling)

    def _processors(
        self, requests: Sequence[Request], prompts: list[list[int]], sampling: Sampling
    ) -> list[LogitsProcessor]:
        rest = super()._processors(requests, prompts, sampling)
        forwards = [
            _Forward(
                other,
                self._tokenizer,
                [
                    encode_chat(self._tokenizer, other.transform(r.messages), self.chat_format)
                    for r in requests
                ],
            )
            for other in self._others
        ]
        length = max(map(len, prompts))
        mixed = _Mixed(forwards, self._combine, self._steps, self._vocab, length)
        return [mixed, *rest]


class _Mixed(LogitsProcessor):
    """Puts the combined logits in place of the first branch's."""

    def __init__(
        self,
        forwards: "Sequence[_Forward]",
        combine: Combine,
        steps: int | None,
        vocab: int,
        length: int,
    ) -> None:
        self._forwards, self._combine, self._steps = forwards, combine, steps
        self._vocab, self._length = vocab, length

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        answer = input_ids[:, self._length :]
        if self._steps is not None and answer.shape[1] >= self._steps:
            return scores
        others = [forward.logits(answer)[:, : self._vocab] for forward in self._forwards]
        first = scores[:, : self._vocab].float()
        mixed = self._combine([first, *(o.float().to(scores.device) for o in others)])
        whole = torch.full_like(scores, torch.finfo(scores.dtype).min)  # padding is never chosen
        whole[:, : self._vocab] = mixed.to(scores.dtype)
        return whole


class _Forward:
    """A branch that reads its own prompts, then the tokens generated for all branches."""

    def __init__(
        self,
        branch: Branch,
        tokenizer: PreTrainedTokenizerBase,
        prompts: Sequence[Sequence[int]],
    ) -> None:
        self._model: Any = branch.model
        self._states = branch.states
        ids, mask = pad_left(prompts, pad_id(branch.model, tokenizer))
        self._prompts, self._mask = ids.to(branch.model.device), mask.to(branch.model.device)
        self._cache: Any = None
        self._read = -1  # tokens of the answer that the cache holds

    @torch.no_grad()
    def logits(self, answer: Tensor) -> Tensor:
        """Logits that predict the token after an answer, [rows, width]."""
        answer = answer.to(self._prompts.device)
        ids = answer[:, -1:]
        if answer.shape[1] != self._read + 1 or self._cache is None:
            kept = {} if self._states is None else self._states.arguments(self._prompts, self._mask)
            self._cache = kept.get("past_key_values")
            behind = 0 if self._cache is None else self._prompts.shape[1] - 1
            ids = torch.cat([self._prompts, answer], 1)[:, behind:]
        more = torch.ones_like(answer)
        mask = torch.cat([self._mask, more], 1)
        positions = (mask.cumsum(1) - 1).clamp(min=0)[:, -ids.shape[1] :]
        output = self._model(
            input_ids=ids,
            attention_mask=mask,
            position_ids=positions,
            past_key_values=self._cache,
            use_cache=True,
            logits_to_keep=1,
        )
        self._cache, self._read = output.past_key_values, answer.shape[1]
        logits: Tensor = output.logits[:, -1]
        return logits


def dera_engine(
    aligned: PreTrainedModel,
    reference: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    weight: float,
    chat_format: ChatFormat = OWN_TEMPLATE,
    states: tuple[PromptStates | None, PromptStates | None] = (None, None),
) -> MixingEngine:
    """An engine of DeRa, `tsdi.baselines.mixing.realign`; states are those of both models."""
    return MixingEngine(
        [Branch(aligned, states=states[0]), Branch(reference, states=states[1])],
        tokenizer,
        lambda logits: mixing.realign(logits[0], logits[1], weight),
        chat_format=chat_format,
    )


def proxy_engine(
    base: PreTrainedModel,
    expert: PreTrainedModel,
    antiexpert: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    weight: float,
    chat_format: ChatFormat = OWN_TEMPLATE,
) -> MixingEngine:
    """An engine of proxy-tuning, `tsdi.baselines.mixing.proxy_tune`."""
    return MixingEngine(
        [Branch(base), Branch(expert), Branch(antiexpert)],
        tokenizer,
        lambda logits: mixing.proxy_tune(logits[0], logits[1], logits[2], weight),
        chat_format=chat_format,
    )


def safe_decoding_engine(
    original: PreTrainedModel,
    expert: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    alpha: float,
    *,
    steps: int = 2,
    common: int = 5,
    chat_format: ChatFormat = OWN_TEMPLATE,
) -> MixingEngine:
    """An engine of SafeDecoding at the first steps, plain after (`mixing.safe_decode`)."""
    return MixingEngine(
        [Branch(original), Branch(expert)],
        tokenizer,
        lambda logits: mixing.safe_decode(logits[0], logits[1], alpha, common),
        steps,
        chat_format,
    )


def self_contrast_engine(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    alpha: float,
    chat_format: ChatFormat = OWN_TEMPLATE,
) -> MixingEngine:
    """An engine of Self-CD, with and without a safety prompt (`mixing.self_contrast`)."""
    return MixingEngine(
        [Branch(model, emphasise_safety), Branch(model)],
        tokenizer,
        lambda logits: mixing.self_contrast(logits[0], logits[1], alpha),
        chat_format=chat_format,
    )


def adacd_engine(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    alpha: float,
    *,
    steps: int = 10,
    chat_format: ChatFormat = OWN_TEMPLATE,
    states: PromptStates | None = None,
) -> MixingEngine:
    """An engine of AdaCD at the first steps, plain after (`mixing.adaptive_contrast`)."""
    return MixingEngine(
        [Branch(model, states=states), Branch(model, demand_refusal, states)],
        tokenizer,
        lambda logits: mixing.adaptive_contrast(logits[1], logits[0], alpha),
        steps,
        chat_format,
    )
