"""The transformers engine: ``generate`` with the rule as a logits processor."""

import hashlib
from collections.abc import Sequence
from typing import Any

import torch
from accelerate.utils.memory import clear_device_cache, should_reduce_batch_size
from torch import Tensor
from transformers import (
    GenerationConfig,
    LogitsProcessor,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from tsdi.bias import SafetyBias
from tsdi.chat import encode_chat
from tsdi.compatibility import context_length
from tsdi.engines.base import Completion, Engine, Request, Sampling
from tsdi.errors import PromptError


class TransformersEngine(Engine):
    """Answers with a transformers model, debiased if there is a bias.

    Args:
        model: A causal language model.
        tokenizer: Its tokenizer.
        bias: The safety bias to subtract.
        strength: How much of it, unless a request says otherwise.
        prompt_format: Used instead of the chat template; a bias brings its own.

    Raises:
        MismatchError: If the bias is not for this model and tokenizer.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        bias: SafetyBias | None = None,
        strength: float = 1.0,
        prompt_format: str | None = None,
    ) -> None:
        if bias is not None:
            bias.check(tokenizer, model)
        self._model = model
        self._tokenizer = tokenizer
        self._bias = bias
        self._strength = strength
        self._prompt_format = bias.info.prompt_format if bias is not None else prompt_format
        ends = model.generation_config.eos_token_id
        ends = tokenizer.eos_token_id if ends is None else ends
        self._ends = tuple(ends) if isinstance(ends, (list, tuple)) else (ends,)

    def check(self, request: Request, sampling: Sampling) -> None:
        """Raise PromptError if the request and its answer cannot fit the model's context."""
        self._encode(request, sampling)

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> list[Completion]:
        """Answer every request in one left-padded batch, in two if memory runs out."""
        prompts = [self._encode(request, sampling) for request in requests]
        try:
            return self._answer(requests, prompts, sampling)
        except RuntimeError as error:
            if not should_reduce_batch_size(error) or len(requests) == 1:
                raise
        clear_device_cache(garbage_collection=True)
        half = len(requests) // 2
        return [
            *self.generate(requests[:half], sampling),
            *self.generate(requests[half:], sampling),
        ]

    def _encode(self, request: Request, sampling: Sampling) -> list[int]:
        ids = encode_chat(self._tokenizer, request.messages, self._prompt_format)
        limit = context_length(self._model)
        if limit is not None and len(ids) + sampling.max_new_tokens > limit:
            raise PromptError(
                f"{len(ids)} tokens and an answer of up to {sampling.max_new_tokens} do not fit "
                f"the model's context of {limit}.",
                "Shorten the prompt or lower --max-new-tokens.",
            )
        return ids

    def _answer(
        self, requests: Sequence[Request], prompts: list[list[int]], sampling: Sampling
    ) -> list[Completion]:
        ids, mask = self._pad(prompts)
        generate: Any = self._model.generate
        output = generate(
            ids,
            attention_mask=mask,
            logits_processor=self._processors(requests, prompts, ids.shape[1], sampling),
            generation_config=GenerationConfig(
                max_new_tokens=sampling.max_new_tokens,
                do_sample=False,
                eos_token_id=[end for end in self._ends if end is not None] or None,
                pad_token_id=self._pad_id,
                return_dict_in_generate=True,
                output_scores=sampling.keep_logits,
            ),
        )
        answers = output.sequences[:, ids.shape[1] :].tolist()
        logits = [None] * len(answers)
        if sampling.keep_logits:
            logits = list(torch.stack(output.scores, 1).float().cpu())
        return [self._completion(a, kept) for a, kept in zip(answers, logits, strict=True)]

    def _pad(self, prompts: list[list[int]]) -> tuple[Tensor, Tensor]:
        longest = max(map(len, prompts))
        rows = [[self._pad_id] * (longest - len(row)) + row for row in prompts]
        mask = [[0] * (longest - len(row)) + [1] * len(row) for row in prompts]
        device = self._model.device
        return torch.tensor(rows, device=device), torch.tensor(mask, device=device)

    @property
    def _pad_id(self) -> int:
        return int(self._tokenizer.pad_token_id or 0)

    def _processors(
        self,
        requests: Sequence[Request],
        prompts: list[list[int]],
        length: int,
        sampling: Sampling,
    ) -> list[LogitsProcessor]:
        processors: list[LogitsProcessor] = []
        strengths = [self._strength if r.strength is None else r.strength for r in requests]
        if self._bias is not None and any(strengths):
            strength = torch.tensor(strengths)
            processors.append(self._bias.logits_processor(length, strength))
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


class _Gumbel(LogitsProcessor):
    """Draws by the Gumbel-max trick: argmax(logits / temperature + noise) is a draw from softmax.

    The noise depends on seed, prompt and step only, so that an answer does not depend on its
    neighbours in the batch, and a resumed run repeats the text of an unbroken one.
    """

    def __init__(self, prompts: list[list[int]], length: int, sampling: Sampling) -> None:
        self._seeds = [
            int.from_bytes(hashlib.sha256(f"{sampling.seed} {row}".encode()).digest()[:6])
            for row in prompts
        ]
        self._length = length
        self._temperature = sampling.temperature

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        step = input_ids.shape[1] - self._length
        noise = [
            torch.empty(scores.shape[1]).exponential_(
                generator=torch.Generator().manual_seed(seed + step)
            )
            for seed in self._seeds
        ]
        return scores / self._temperature - torch.stack(noise).log().to(scores.device)
