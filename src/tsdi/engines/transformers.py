"""The transformers engine: ``generate`` with the rule as a logits processor."""

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from copy import copy
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from accelerate.utils.memory import clear_device_cache, should_reduce_batch_size
from torch import Tensor
from transformers import (
    LogitsProcessor,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    StoppingCriteria,
    TopPLogitsWarper,
)

from tsdi.bias import SafetyBias
from tsdi.bias.knobs import Knobs
from tsdi.decoding.anchor import find_anchor
from tsdi.decoding.condition import Strength
from tsdi.decoding.end_tokens import end_ids
from tsdi.decoding.greedy import generate_greedily, ignores_mask
from tsdi.decoding.prompt_states import PromptStates
from tsdi.decoding.sampling import gumbel_noise
from tsdi.decoding.transformers import SafetyDebias
from tsdi.engines.base import Completion, Engine, Request, Sampling
from tsdi.engines.encode import NOT_FINITE, decode_answer, encode_request, is_in_thought
from tsdi.errors import ModelError, NumericalError, PromptError
from tsdi.models.chat import OWN_TEMPLATE, ChatFormat, check_format
from tsdi.models.compatibility import context_length, embedding_rows
from tsdi.models.names import check_no_export

_log = logging.getLogger(__name__)


class TransformersEngine(Engine):
    """Answers with a transformers model, debiased if a bias is given.

    Args:
        model: A causal language model.
        tokenizer: Its tokenizer.
        bias: The safety bias to subtract.
        strength: Factor of the bias, unless a request has its own; None leaves it to its
            condition, or takes what the bias recommends.
        chat_format: Format of chats; a bias brings its own.
        states: The model's states of prompts, shared by engines that ask it the same prompts; None
            keeps none.

    Attributes:
        chat_format: The one that is used.

    Raises:
        MismatchError: If the bias is not for this model and tokenizer.
        UsageError: If no strength is named and the bias recommends none, or the model is an export
            with a bias of its own and none is given.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        bias: SafetyBias | None = None,
        strength: float | None = None,
        chat_format: ChatFormat = OWN_TEMPLATE,
        states: PromptStates | None = None,
    ) -> None:
        if bias is not None:
            bias.check(tokenizer, model)
            bias.logits_processor(0, 0.0, tokenizer)  # a marker that cannot be found is said now
        else:
            _check_plain(model)
        self._model = model
        self._tokenizer = tokenizer
        self._bias = bias
        self._states = states
        self._strength: Strength = 0.0 if bias is None else bias.strength_or_condition(strength)
        self.chat_format = bias.info.chat_format if bias is not None else chat_format
        check_format(tokenizer, self.chat_format)
        self._ends = end_ids(tokenizer, model.generation_config, model.config)

    def at(self, knobs: Knobs) -> Engine:
        """The engine with its bias at another setting, which shares what was read of prompts."""
        if self._bias is None:
            return super().at(knobs)
        if self._states is None:
            self._states = PromptStates(self._model)
        made = copy(self)
        made._bias = knobs.of(self._bias)
        made._strength = made._bias.strength_or_condition(knobs.strength)
        return made

    def check(self, request: Request, sampling: Sampling) -> None:
        """Raise PromptError if the request and its answer cannot fit the model's context."""
        self._encode(request, sampling)

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> list[Completion]:
        """Answer every request in one left-padded batch, in two if memory runs out.

        A model that ignores the mask of padding answers them one by one.
        """
        prompts = [self._encode(request, sampling) for request in requests]
        try:
            if len(requests) > 1 and self._one_by_one:
                return [self.generate([request], sampling)[0] for request in requests]
            return self._answer(requests, prompts, sampling)
        except RuntimeError as error:
            if not should_reduce_batch_size(error):
                raise
            if len(requests) == 1:
                raise _out_of_memory(prompts[0]) from error
        clear_device_cache(garbage_collection=True)
        half = len(requests) // 2
        return [
            *self.generate(requests[:half], sampling),
            *self.generate(requests[half:], sampling),
        ]

    @cached_property
    def _one_by_one(self) -> bool:
        found = [model for model in self._models() if ignores_mask(model)]
        for model in found:
            _log.warning(
                "%s takes padding for text: prompts are answered one by one.",
                getattr(model.config, "_name_or_path", "") or type(model).__name__,
            )
        return bool(found)

    def _models(self) -> Sequence[PreTrainedModel]:
        """The models that read every prompt: here the engine's one."""
        return [self._model]

    def _encode(self, request: Request, sampling: Sampling) -> list[int]:
        return self._known(
            encode_request(self._tokenizer, request, sampling, self.chat_format, self.context)
        )

    def _known(self, ids: list[int]) -> list[int]:
        if max(ids) >= (known := embedding_rows(self._model)):
            raise PromptError(
                f"The tokenizer gives token {max(ids)}, the model knows {known}.",
                "Give the model its own tokenizer.",
            )
        return ids

    @property
    def context(self) -> int | None:
        """Most tokens of prompt and answer; None if there is no such limit."""
        return context_length(self._model)

    def encode(self, prompt: Request | str) -> list[int]:
        """Token ids of a chat, or of a text that the model is to go on with.

        Raises:
            PromptError: If there are no tokens, or too many.
        """
        one = Sampling(max_new_tokens=1)
        if isinstance(prompt, Request):
            return self._encode(prompt, one)
        begin = self._tokenizer.bos_token or ""
        begin = begin if prompt.startswith(begin) else ""  # one beginning of text is enough
        request = Request.from_text(prompt.removeprefix(begin))
        plain = ChatFormat(begin + "{prompt}")
        return self._known(encode_request(self._tokenizer, request, one, plain, self.context))

    def stream(
        self,
        prompt: list[int],
        sampling: Sampling,
        seen: Callable[[Completion], bool],
        strength: float | None = None,
        top_p: float = 1.0,
    ) -> Completion:
        """Answer one prompt, and pass the growing answer to a function.

        `seen` is called after each token with the answer so far, and ends it by returning True;
        ``top_p`` draws from the likeliest tokens only, of this probability together.

        Raises:
            ModelError: If memory runs out.
            NumericalError: If the model gives NaN logits.
        """
        processors = self._processors([Request((), strength)], [prompt], sampling)
        if top_p < 1 and sampling.temperature > 0:
            processors.insert(-1, _Nucleus(top_p, sampling.temperature))
        growing = Growing(len(prompt), lambda rows: seen(self._completion(prompt, rows[0], None)))
        with memory_errors(prompt):
            answers, _ = generate_greedily(
                self._model,
                self._tokenizer,
                [prompt],
                sampling.longest,
                processors,
                stops=[growing],
            )
        return self._completion(prompt, answers[0], None, *_found(processors))

    def _answer(
        self, requests: Sequence[Request], prompts: list[list[int]], sampling: Sampling
    ) -> list[Completion]:
        processors = self._processors(requests, prompts, sampling)
        answers, logits = generate_greedily(
            self._model,
            self._tokenizer,
            prompts,
            sampling.longest,
            processors,
            keep_logits=sampling.keep_logits,
            states=self._states,
        )
        strengths = _found(processors) or [None] * len(prompts)
        return [
            self._completion(
                prompts[row], answer, None if logits is None else logits[row], strengths[row]
            )
            for row, answer in enumerate(answers)
        ]

    def _processors(
        self, requests: Sequence[Request], prompts: list[list[int]], sampling: Sampling
    ) -> list[LogitsProcessor]:
        length = max(map(len, prompts))
        processors: list[LogitsProcessor] = []
        strengths = [self._strength if r.strength is None else r.strength for r in requests]
        if self._bias is not None and any(strengths):
            same = len(set(strengths)) == 1  # the usual case, which needs no copy to the device
            strength = strengths[0] if same else strengths
            processors.append(self._bias.logits_processor(length, strength, self._tokenizer))
        processors.append(Finite())  # behind the rule, which may be what is broken
        if sampling.temperature > 0:
            processors.append(_Gumbel(prompts, length, sampling))
        return processors

    def _completion(
        self,
        prompt: list[int],
        ids: list[int],
        logits: Tensor | None,
        strength: float | None = None,
    ) -> Completion:
        end = next((i for i, token in enumerate(ids) if token in self._ends), None)
        kept = ids if end is None else ids[: end + 1]
        return Completion(
            text=decode_answer(self._tokenizer, kept),
            token_ids=tuple(kept),
            finish="length" if end is None else "stop",
            logits=None if logits is None else logits[: len(kept)],
            in_thought=is_in_thought(self._tokenizer, prompt),
            bias_began=self._began(prompt, kept),
            strength=strength,
        )

    def _began(self, prompt: list[int], answer: list[int]) -> bool:
        """Whether a token of an answer was predicted at or behind the bias's first step."""
        if self._bias is None or not self._bias.info.anchor or not self._strength:
            return True
        anchor = find_anchor(self._tokenizer, self._bias.info.anchor)
        return bool(anchor.steps(torch.tensor([prompt + answer[:-1]]), len(prompt)) >= 0)


def _found(processors: Sequence[LogitsProcessor]) -> list[float | None]:
    """The strengths that a condition has set, by row; empty where there is none."""
    rules = [one for one in processors if isinstance(one, SafetyDebias)]
    return rules[0].found if rules else []


def _check_plain(model: PreTrainedModel) -> None:
    """Raise UsageError for an export of tsdi, whose bias only its own code applies."""
    folder = getattr(model.config, "_name_or_path", "")
    if folder and Path(folder).is_dir():
        check_no_export(folder)


class Finite(LogitsProcessor):
    """Raises an error where logits are NaN or all infinite, as of a broken model or bias."""

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """The scores as they are."""
        if not bool(scores.amax(1).isfinite().all()):  # single tokens may be ruled out by -inf
            raise NumericalError(NOT_FINITE, "Check the model's weights, or load it in float32.")
        return scores


class _Gumbel(LogitsProcessor):
    """Samples by `gumbel_noise`, so that a resumed run repeats an unbroken one."""

    def __init__(self, prompts: list[list[int]], length: int, sampling: Sampling) -> None:
        self._prompts = prompts
        self._length = length
        self._sampling = sampling

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        step, width = input_ids.shape[1] - self._length, scores.shape[1]
        noise = [gumbel_noise(row, self._sampling.seed, step, width) for row in self._prompts]
        return scores / self._sampling.temperature + torch.stack(noise).to(scores.device)


class _Nucleus(LogitsProcessor):
    """Top-p sampling: excludes tokens beyond the likeliest of probability ``top_p``."""

    def __init__(self, top_p: float, temperature: float) -> None:
        self._warper = TopPLogitsWarper(top_p)
        self._temperature = temperature

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        left = self._warper(input_ids, scores / self._temperature)
        return scores.masked_fill(left == -torch.inf, -torch.inf)


class Growing(StoppingCriteria):
    """Passes the tokens of growing answers, of every row, to a function that may end them."""

    def __init__(self, prompt_length: int, seen: Callable[[list[list[int]]], bool]) -> None:
        self._prompt_length = prompt_length
        self._seen = seen

    def __call__(self, input_ids: Tensor, scores: Any, **_: Any) -> Tensor:
        """Whether each row is to end here, bool [rows]."""
        done = self._seen(input_ids[:, self._prompt_length :].tolist())
        return torch.full((len(input_ids),), done, dtype=torch.bool, device=input_ids.device)


@contextmanager
def memory_errors(prompt: list[int]) -> Iterator[None]:
    """Turn what torch raises where memory runs out into a ModelError."""
    try:
        yield
    except RuntimeError as error:
        if should_reduce_batch_size(error):
            raise _out_of_memory(prompt) from error
        raise


def _out_of_memory(prompt: list[int]) -> ModelError:
    return ModelError(
        f"Memory runs out with a single prompt of {len(prompt)} tokens.",
        "Take --dtype bfloat16, --device-map auto or a lower --max-new-tokens.",
    )
