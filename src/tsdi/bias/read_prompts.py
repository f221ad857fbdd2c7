"""Forward passes over prompts, for refusal log-odds and for logits along an answer."""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from accelerate.utils.memory import clear_device_cache, should_reduce_batch_size
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from tsdi.bias import lm_head as head
from tsdi.bias.prompt_cache import PromptCache, cache_is_exact
from tsdi.bias.refusal_log_odds import PhraseTree, refusal_log_odds
from tsdi.decoding.end_tokens import end_ids
from tsdi.decoding.greedy import generate_greedily, pad_id
from tsdi.decoding.slope import Bias

_LOGITS_AT_ONCE = 2**26  # numbers, 256 MiB in float32
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Reading:
    """A model's refusal log-odds and answer after one prompt.

    Attributes:
        odds: Refusal log-odds, one for each bias that was asked for.
        answer: Token ids of an answer.
        logits: Logits that predict its tokens, float32 [answer, vocab], on the CPU.
        inputs: Head input at the end of the prompt, [hidden], on the CPU; None if the prompt was
            not read in a batch.
    """

    odds: list[float]
    answer: list[int]
    logits: Tensor
    inputs: Tensor | None = None


@dataclass(frozen=True)
class PromptReader:
    """Computes refusal log-odds, and answers token by token, of prompts with a model.

    Attributes:
        tokenizer: The tokenizer of the models.
        refusing: Token ids of the beginnings of refusing answers.
        complying: Token ids of the beginnings of complying answers.
        steps: Most tokens of an answer.
        batch_size: Prompts read together; halved where memory runs out.
    """

    tokenizer: PreTrainedTokenizerBase
    refusing: list[list[int]]
    complying: list[list[int]]
    steps: int
    batch_size: int

    @property
    def longest(self) -> int:
        """The largest number of tokens that are read after a prompt."""
        return max(self.steps, *map(len, [*self.refusing, *self.complying]))

    def read(
        self,
        model: PreTrainedModel,
        prompts: Sequence[list[int]],
        answers: Sequence[list[int]] | None,
        biases: Sequence[Bias | None],
        batched: bool,
    ) -> Iterator[Reading]:
        """Read all prompts, in order.

        Args:
            model: A causal language model.
            prompts: Token ids of every prompt.
            answers: Token ids of answers; None takes the model's own, greedily.
            biases: Safety biases [steps, vocab], for the log-odds; None is none.
            batched: Whether prompts may be read in batches (see `can_batch`).
        """
        size = self.batch_size if batched else 1
        start = 0
        while start < len(prompts):
            part = slice(start, start + size)
            given = None if answers is None else answers[part]
            try:
                found = self._batch(model, prompts[part], given, biases, batched)
            except RuntimeError as error:
                if size == 1 or not should_reduce_batch_size(error):
                    raise
                size //= 2
                clear_device_cache(garbage_collection=True)
                continue
            yield from found
            start += size

    def can_batch(self, model: PreTrainedModel, prompts: Sequence[list[int]]) -> bool:
        """Whether this model gives the same for these prompts in batches, found by trying."""
        row = max((*self.refusing, *self.complying), key=len)
        ends = min(prompts, key=len), max(prompts, key=len)
        if cache_is_exact(model, ends, row, pad_id(model, self.tokenizer)):
            return True
        _log.warning(
            "%s answers differently with padding or a cache, or has none: its prompts are read one"
            " by one, which takes longer.",
            type(model).__name__,
        )
        return False

    def _batch(
        self,
        model: PreTrainedModel,
        prompts: Sequence[list[int]],
        answers: Sequence[list[int]] | None,
        biases: Sequence[Bias | None],
        batched: bool,
    ) -> list[Reading]:
        if not batched:
            given = None if answers is None else answers[0]
            return [self._alone(model, prompts[0], given, biases)]
        cache = PromptCache(model, prompts, pad_id(model, self.tokenizer))
        tree = PhraseTree(self.refusing, self.complying)
        behind = [cache.along(branch) for branch in tree.branches]
        odds: list[list[float]] = []
        for logits in _logits(model, torch.cat([cache.last, *behind], 1)):
            odds += tree.log_odds(logits, biases)
        if answers is None:
            answers, inputs = cache.greedily(self.steps, self._ends(model))
        else:
            inputs = cache.last
            if max(map(len, answers)) > 1:
                rest = cache.after([answer[:-1] for answer in answers])
                inputs = torch.cat([inputs, rest], 1)
        logits = torch.cat([part.cpu() for part in _logits(model, inputs)])
        last = cache.last[:, 0].cpu()
        return [
            Reading(odds[n], answer, logits[n, : len(answer)], last[n])
            for n, answer in enumerate(answers)
        ]

    def _alone(
        self,
        model: PreTrainedModel,
        prompt: list[int],
        answer: list[int] | None,
        biases: Sequence[Bias | None],
    ) -> Reading:
        odds = refusal_log_odds(model, prompt, self.refusing, self.complying, biases)
        if answer is None:
            answer = generate_greedily(model, self.tokenizer, [prompt], self.steps)[0][0]
        ids = torch.tensor([[*prompt, *answer]])[:, :-1]
        return Reading(odds, answer, head.logits(model, ids, len(answer))[0].cpu())

    def _ends(self, model: PreTrainedModel) -> list[int]:
        return end_ids(self.tokenizer, model.generation_config, model.config)


def _logits(model: PreTrainedModel, inputs: Tensor) -> Iterator[Tensor]:
    """Logits of head inputs [batch, places, hidden], in parts that fit into memory."""
    width = int(model.config.get_text_config().vocab_size)
    rows = max(1, _LOGITS_AT_ONCE // (width * inputs.shape[1]))
    for part in inputs.split(rows):
        yield head.logits_from(model, part)
