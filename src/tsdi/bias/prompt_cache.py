"""Prompts read once into a model's key-value cache, and continuations of them.

Results are head inputs (see `tsdi.bias.lm_head`); ``head.logits_from`` makes logits of them.
"""

import copy
from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import PreTrainedModel

from tsdi.bias import lm_head as head
from tsdi.bias.refusal_log_odds import Branch
from tsdi.decoding.end_tokens import until_end
from tsdi.decoding.greedy import pad_left

_SAME = {torch.float32: 1e-3, torch.float64: 1e-3}  # else two bytes, which round far more
_SAME_OF_16_BITS = 0.05


class PromptCache:
    """Prompts in a model's cache, padded on the left.

    Args:
        model: A causal language model.
        prompts: Token ids of every prompt.
        pad: An id to pad with; its positions are masked.

    Attributes:
        last: Head inputs at the end of every prompt, [batch, 1, hidden].
    """

    def __init__(self, model: PreTrainedModel, prompts: Sequence[Sequence[int]], pad: int) -> None:
        ids, mask = pad_left(prompts, pad)
        self._model, self._mask = model, mask.to(model.device)
        step = head.read_on(model, ids, self._mask, None, choose=True)
        self._cache, self._first = step.cache, step.choice
        self.last = step.inputs[:, -1:]

    def after(self, rows: Sequence[Sequence[int]]) -> Tensor:
        """Head inputs after every token of one row per prompt, [batch, longest row, hidden].

        The model sees nothing behind a position, so shorter rows are filled up on the right.
        """
        longest = max(map(len, rows))
        ids = torch.tensor([[*row, *([0] * (longest - len(row)))] for row in rows])
        mask, cache = self._mask_with(longest), copy.deepcopy(self._cache)  # which is changed
        return head.read_on(self._model, ids, mask, cache, choose=False).inputs

    def along(self, branch: Branch) -> Tensor:
        """Head inputs at every token of a branch of phrases, [batch, tokens, hidden]."""
        batch, above = torch.arange(len(self._mask), device=self._mask.device), 1
        cache, mask = copy.deepcopy(self._cache), self._mask
        found = []
        for level in branch:
            parents, tokens = torch.tensor(level, device=mask.device).T
            rows = (batch[:, None] * above + parents).flatten()
            cache.reorder_cache(rows)
            mask = torch.cat([mask[rows], mask.new_ones(len(rows), 1)], 1)
            ids = tokens.repeat(len(batch))[:, None]
            step = head.read_on(self._model, ids, mask, cache, choose=False)
            found.append(step.inputs.view(len(batch), len(level), -1))
            cache, above = step.cache, len(level)
        return torch.cat(found, 1)

    def greedily(self, steps: int, ends: Sequence[int]) -> tuple[list[list[int]], Tensor]:
        """Greedy answers of at most `steps` tokens, up to one of the end tokens.

        Returns:
            Token ids of every answer, its end included, and the head inputs that predict them,
            [batch, tokens, hidden].
        """
        assert self._first is not None
        chosen, inputs = [self._first], [self.last]
        cache, stops = copy.deepcopy(self._cache), torch.tensor(list(ends)).to(self._first)
        ended = torch.isin(self._first, stops)
        while len(chosen) < steps and not bool(ended.all()):
            mask = self._mask_with(len(chosen))
            step = head.read_on(self._model, chosen[-1][:, None], mask, cache, choose=True)
            assert step.choice is not None
            chosen.append(step.choice)
            inputs.append(step.inputs)
            cache = step.cache
            ended |= torch.isin(step.choice, stops)
        rows = torch.stack(chosen, 1).tolist()
        return [until_end(row, ends) for row in rows], torch.cat(inputs, 1)

    def _mask_with(self, more: int) -> Tensor:
        return torch.cat([self._mask, self._mask.new_ones(len(self._mask), more)], 1)


def cache_is_exact(
    model: PreTrainedModel, prompts: Sequence[Sequence[int]], row: Sequence[int], pad: int
) -> bool:
    """Whether a model's outputs after cached, padded prompts equal those without padding.

    The check takes the shortest and the longest prompt, and a row of tokens behind them. It fails
    for models without a cache, and for those that do not mask padding.
    """
    if model.get_output_embeddings() is None:
        return False
    shortest = min(prompts, key=len)
    try:
        kept = PromptCache(model, [shortest, max(prompts, key=len)], pad)
        branch: Branch = [[(0, token), (0, token)] for token in row]  # two rows for each prompt
        behind = kept.along(branch)[0, ::2]
        cached = torch.cat([kept.last[0], behind, kept.after([row, row])[0]]).double()
    except (AttributeError, LookupError, RuntimeError, TypeError, ValueError):
        return False  # whatever a model raises that has no such cache
    alone = head.head_inputs(model, torch.tensor([[*shortest, *row]]), len(row) + 1)[0].double()
    alone = torch.cat([alone, alone[1:]])
    error = (cached - alone).norm() / alone.norm()
    return bool(error <= _SAME.get(model.dtype, _SAME_OF_16_BITS))
