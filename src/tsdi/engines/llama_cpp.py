"""The safety bias in llama.cpp, through llama-cpp-python: a logits processor, and an engine.

In own code: ``llama.create_chat_completion(messages, logits_processor=debias(bias, llama,
tokenizer))``; ``create_completion`` and ``generate`` take the processor, too.
"""

from collections.abc import Sequence
from copy import copy
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerBase

from tsdi.bias import SafetyBias
from tsdi.bias.knobs import Knobs
from tsdi.decoding.condition import Strength
from tsdi.decoding.end_tokens import end_ids
from tsdi.decoding.llama_cpp import SafetyDebias
from tsdi.decoding.sampling import gumbel_noise
from tsdi.engines.base import Completion, Engine, Request, Sampling
from tsdi.engines.choice import NO_LLAMA
from tsdi.engines.encode import NOT_FINITE, decode_answer, encode_request, is_in_thought
from tsdi.errors import MismatchError, ModelError, NumericalError, UsageError
from tsdi.models.chat import OWN_TEMPLATE, ChatFormat, check_format


def open_llama(path: str, **settings: Any) -> Any:
    """Load a GGUF file, with the context that it was trained for.

    Settings are those of ``llama_cpp.Llama``, such as n_gpu_layers, or another n_ctx.

    Raises:
        UsageError: If llama-cpp-python is not installed.
        ModelError: If there is no such file, or it holds no model.
    """
    try:
        from llama_cpp import Llama
    except ImportError:
        raise UsageError(*NO_LLAMA) from None
    if not Path(path).is_file():
        raise ModelError(f"There is no file {path}.", "Name a GGUF file.")
    try:
        return Llama(path, **{"n_ctx": 0, "verbose": False, **settings})
    except (ValueError, RuntimeError) as error:
        raise ModelError(f"llama.cpp cannot load {path}: {error}") from error


def check_vocabulary(llama: Any, tokenizer: PreTrainedTokenizerBase) -> None:
    """Raise MismatchError unless a GGUF model has a tokenizer's tokens at its ids."""
    import llama_cpp

    vocabulary, size = llama._model.vocab, llama.n_vocab()
    for token, place in sorted(tokenizer.get_vocab().items(), key=lambda item: item[1]):
        found = (
            llama_cpp.llama_vocab_get_text(vocabulary, place).decode("utf-8", "replace")
            if place < size
            else "nothing"
        )
        if found != token:
            raise MismatchError(
                f"Token {place} is {token!r} for the tokenizer and {found!r} in the GGUF file.",
                "Convert the model with its own tokenizer, or take the bias of this one.",
            )


def _end_ids(llama: Any) -> list[int]:
    """Tokens that end an answer as the file says, those of a turn among them."""
    import llama_cpp

    vocabulary = llama._model.vocab
    return [n for n in range(llama.n_vocab()) if llama_cpp.llama_vocab_is_eog(vocabulary, n)]


def debias(
    bias: SafetyBias, llama: Any, tokenizer: PreTrainedTokenizerBase, strength: float | None = None
) -> Any:
    """A ``logits_processor`` for llama-cpp-python.

    Args:
        bias: The safety bias.
        llama: The model, a ``llama_cpp.Llama``.
        tokenizer: The tokenizer of the model that it was converted from.
        strength: Factor of the bias; None leaves it to its condition, or takes what it
            recommends.

    Raises:
        MismatchError: If bias, model and tokenizer do not go together.
        UsageError: If no strength is named and the bias recommends none.
    """
    from llama_cpp import LogitsProcessorList

    check_bias(bias, llama, tokenizer)
    return LogitsProcessorList([SafetyDebias(bias, strength)])


def check_bias(bias: SafetyBias, llama: Any, tokenizer: PreTrainedTokenizerBase) -> None:
    """Raise MismatchError or UsageError unless the bias can be used with this GGUF model."""
    bias.check(tokenizer)
    bias.check_width(llama.n_vocab())
    check_vocabulary(llama, tokenizer)
    bias.check_no_anchor()


class LlamaCppEngine(Engine):
    """Answers with a GGUF model, request by request.

    The tokenizer is that of the model from which the ``llama_cpp.Llama`` was converted; bias,
    strength and chat format are as for `tsdi.engines.transformers.TransformersEngine`.

    Raises:
        MismatchError: If bias, model and tokenizer do not go together.
        UsageError: If no strength is named and the bias recommends none.
    """

    def __init__(
        self,
        llama: Any,
        tokenizer: PreTrainedTokenizerBase,
        bias: SafetyBias | None = None,
        strength: float | None = None,
        chat_format: ChatFormat = OWN_TEMPLATE,
    ) -> None:
        if bias is None:
            check_vocabulary(llama, tokenizer)
        else:
            check_bias(bias, llama, tokenizer)
        self._llama = llama
        self._tokenizer = tokenizer
        self._bias = bias
        self._strength: Strength = 0.0 if bias is None else bias.strength_or_condition(strength)
        self._chat_format = bias.info.chat_format if bias is not None else chat_format
        check_format(tokenizer, self._chat_format)
        self._ends = {*end_ids(tokenizer), *_end_ids(llama)}

    def at(self, knobs: Knobs) -> Engine:
        """The engine with its bias at another setting."""
        if self._bias is None:
            return super().at(knobs)
        made = copy(self)
        made._bias = knobs.of(self._bias)
        made._strength = made._bias.strength_or_condition(knobs.strength)
        return made

    def check(self, request: Request, sampling: Sampling) -> None:
        """Raise PromptError if the request and its answer cannot fit the model's context."""
        self._encode(request, sampling)

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> list[Completion]:
        """Answer all requests, one by one."""
        prompts = [self._encode(request, sampling) for request in requests]
        return [
            self._answer(request, prompt, sampling)
            for request, prompt in zip(requests, prompts, strict=True)
        ]

    def _encode(self, request: Request, sampling: Sampling) -> list[int]:
        limit = self._llama.n_ctx()
        return encode_request(self._tokenizer, request, sampling, self._chat_format, limit)

    def _answer(self, request: Request, prompt: list[int], sampling: Sampling) -> Completion:
        from llama_cpp import LogitsProcessorList

        strength = self._strength if request.strength is None else request.strength
        rule = None if self._bias is None else SafetyDebias(self._bias, strength)
        rows: list[torch.Tensor] = []

        def process(
            input_ids: NDArray[np.intc], scores: NDArray[np.float32]
        ) -> NDArray[np.float32]:
            scores = scores if rule is None else rule(input_ids, scores)
            if not np.isfinite(scores.max()):  # single tokens may be ruled out by -inf
                raise NumericalError(NOT_FINITE, "Check the model's weights.")
            if sampling.keep_logits:
                rows.append(torch.from_numpy(scores.copy()))
            if sampling.temperature == 0:
                return scores
            noise = gumbel_noise(
                prompt, sampling.seed, len(input_ids) - len(prompt), len(scores)
            ).numpy()
            drawn: NDArray[np.float32] = scores / np.float32(sampling.temperature) + noise
            return drawn

        ids: list[int] = []
        self._llama.reset()
        tokens = self._llama.generate(
            prompt,
            temp=0.0,  # the most likely one, after the processor
            repeat_penalty=1.0,
            logits_processor=LogitsProcessorList([process]),
        )
        for token in tokens:
            ids.append(int(token))
            if token in self._ends or len(ids) == sampling.longest:
                break
        tokens.close()
        return Completion(
            text=decode_answer(self._tokenizer, ids),
            token_ids=tuple(ids),
            finish="stop" if ids and ids[-1] in self._ends else "length",
            logits=torch.stack(rows[: len(ids)]) if rows else None,
            in_thought=is_in_thought(self._tokenizer, prompt),
            strength=None if rule is None else rule.found,
        )
