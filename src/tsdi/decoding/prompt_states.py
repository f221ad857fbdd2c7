"""Key-value states of prompts, so that many rules answer them after one reading."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel
from transformers.cache_utils import DynamicLayer

States = list[tuple[Tensor, Tensor]]
"""Keys and values of every layer, each [batch, heads, tokens, width]."""


class PromptStates:
    """A model's states of batches of prompts, read once and kept in memory.

    A study asks one model the same prompts with fifty settings; reading them is about half of an
    answer's cost on a CPU. Kept are the states of all tokens but the last, which is read anew each
    time, as the logits after it are what a rule changes. On other devices, where reading is quick
    and memory short, nothing is kept.

    Args:
        model: A causal language model.
        most_bytes: Bytes after which no more is kept.
    """

    def __init__(self, model: PreTrainedModel, most_bytes: int = 3 * 2**30) -> None:
        self._model: Any = model
        self._left = most_bytes
        self._kept: dict[tuple[tuple[int, ...], ...], States | None] = {}

    def arguments(self, ids: Tensor, mask: Tensor) -> dict[str, Any]:
        """Arguments of ``generate`` that spare it a left-padded batch's prompts.

        There are none beside a CPU, nor for a model whose cache is more than keys and values of all
        tokens (sliding windows, recurrent layers).
        """
        if self._model.device.type != "cpu":
            return {}
        key = tuple(map(tuple, ids.tolist()))
        states = self._kept.get(key)
        if key not in self._kept:
            states = self._read(ids, mask)
            size = sum(one.nbytes for layer in states or () for one in layer)
            if size <= self._left:
                self._left -= size
                self._kept[key] = states
        if states is None:
            return {}
        # A cache grows by new tensors, so that what is kept stays as it is.
        return {"past_key_values": DynamicCache(states)}

    @torch.no_grad()
    def _read(self, ids: Tensor, mask: Tensor) -> States | None:
        if ids.shape[1] < 2:
            return None
        read, seen = ids[:, :-1], mask[:, :-1]
        output = self._model(
            input_ids=read.to(self._model.device),
            attention_mask=seen.to(self._model.device),
            position_ids=(seen.cumsum(1) - 1).clamp(min=0).to(self._model.device),
            use_cache=True,
            logits_to_keep=1,
        )
        layers: Sequence[Any] = getattr(output.past_key_values, "layers", ())
        if not layers or any(type(layer) is not DynamicLayer for layer in layers):
            return None
        return [(layer.keys, layer.values) for layer in layers]
