"""The transformers engine: ``generate`` with the rule as a logits processor."""

from collections.abc import Sequence

import torch
from accelerate.utils.memory import clear_device_cache, should_reduce_batch_size
from torch import Tensor
from transformers import LogitsProcessor, PreTrainedModel, PreTrainedTokenizerBase

from tsdi.bias import SafetyBias
from tsdi.chat import OWN_TEMPLATE, ChatFormat, check_format
from tsdi.compatibility import context_length, embedding_rows
from tsdi.decoding.ends import end_ids
from tsdi.decoding.greedy import generate_greedily
from tsdi.decoding.sampling import gumbel_noise
from tsdi.engines.base import Completion, Engine, Request, Sampling
from tsdi.engines.encode import encode_request
from tsdi.errors import ModelError, NumericalError, PromptError


class TransformersEngine(Engine):
    """Answers with a transformers model, debiased if there is a bias.

    Args:
        model: A causal language model.
        tokenizer: Its tokenizer.
        bias: The safety bias to subtract.
        strength: How much of it, unless a request says otherwise; None takes what it recommends.
        chat_format: How chats become text; a bias brings its own.

    Attributes:
        chat_format: The one that is used.

    Raises:
        MismatchError: If the bias is not for this model and tokenizer.
        UsageError: If no strength is named and the bias recommends none.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        bias: SafetyBias | None = None,
        strength: float | None = None,
        chat_format: ChatFormat = OWN_TEMPLATE,
    ) -> None:
        if bias is not None:
            bias.check(tokenizer, model)
            bias.logits_processor(0, 0.0, tokenizer)  # a marker that cannot be found is said now
        self._model = model
        self._tokenizer = tokenizer
        self._bias = bias
        self._strength = 0.0 if bias is None else bias.strength_or_recommended(strength)
        self.chat_format = bias.info.chat_format if bias is not None else chat_format
        check_format(tokenizer, self.chat_format)
        self._ends = end_ids(tokenizer, model.generation_config, model.config)

    def check(self, request: Request, sampling: Sampling) -> None:
        """Raise PromptError if the request and its answer cannot fit the model's context."""
        self._encode(request, sampling)

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> list[Completion]:
        """Answer every request in one left-padded batch, in two if memory runs out."""
        prompts = [self._encode(request, sampling) for request in requests]
        try:
            return self._answer(requests, prompts, sampling)
        except RuntimeError as error:
            if not should_reduce_batch_size(error):
                raise
            if len(requests) == 1:
                raise ModelError(
                    f"Memory runs out with a single prompt of {len(prompts[0])} tokens.",
                    "Take --dtype bfloat16, --device-map auto or a lower --max-new-tokens.",
                ) from error
        clear_device_cache(garbage_collection=True)
        half = len(requests) // 2
        return [
            *self.generate(requests[:half], sampling),
            *self.generate(requests[half:], sampling),
        ]

    def _encode(self, request: Request, sampling: Sampling) -> list[int]:
        ids = encode_request(
            self._tokenizer, request, sampling, self.chat_format, context_length(self._model)
        )
        if max(ids) >= (known := embedding_rows(self._model)):
            raise PromptError(
                f"The tokenizer gives token {max(ids)}, the model knows {known}.",
                "Give the model its own tokenizer.",
            )
        return ids

    def _answer(
        self, requests: Sequence[Request], prompts: list[list[int]], sampling: Sampling
    ) -> list[Completion]:
        answers, logits = generate_greedily(
            self._model,
            self._tokenizer,
            prompts,
            sampling.max_new_tokens,
            self._processors(requests, prompts, sampling),
            keep_logits=sampling.keep_logits,
        )
        return [
            self._completion(answer, None if logits is None else logits[row])
            for row, answer in enumerate(answers)
        ]

    def _processors(
        self,
        requests: Sequence[Request],
        prompts: list[list[int]],
        sampling: Sampling,
    ) -> list[LogitsProcessor]:
        length = max(map(len, prompts))
        processors: list[LogitsProcessor] = [_Finite()]
        strengths = [self._strength if r.strength is None else r.strength for r in requests]
        if self._bias is not None and any(strengths):
            same = len(set(strengths)) == 1  # the usual case, which needs no copy to the device
            strength = strengths[0] if same else torch.tensor(strengths)
            processors.append(self._bias.logits_processor(length, strength, self._tokenizer))
        if sampling.temperature > 0:
            processors.append(_Gumbel(prompts, length, sampling))
        return processors

    def _completion(self, ids: list[int], logits: Tensor | None) -> Completion:
        end = next((i for i, token in enumerate(ids) if token in self._ends), None)
        kept = ids if end is None else ids[: end + 1]
        return Completion(
            text=str(self._tokenizer.decode(kept, skip_special_tokens=True)),
            token_ids=tuple(kept),
            finish="length" if end is None else "stop",
            logits=None if logits is None else logits[: len(kept)],
        )


class _Finite(LogitsProcessor):
    """Stops a model whose weights are broken, before its answers are taken for real ones."""

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        if bool(scores.isnan().any()):
            raise NumericalError(
                "The model gives NaN logits.",
                "Check its weights, or load it in float32 or bfloat16.",
            )
        return scores


class _Gumbel(LogitsProcessor):
    """Draws by `gumbel_noise`: a resumed run repeats the text of an unbroken one."""

    def __init__(self, prompts: list[list[int]], length: int, sampling: Sampling) -> None:
        self._prompts = prompts
        self._length = length
        self._sampling = sampling

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        step, width = input_ids.shape[1] - self._length, scores.shape[1]
        noise = [gumbel_noise(row, self._sampling.seed, step, width) for row in self._prompts]
        return scores / self._sampling.temperature + torch.stack(noise).to(scores.device)
