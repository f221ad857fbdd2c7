"""Directions of the residual stream that mediate refusal, and models from which one is ablated."""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from tsdi.engines.base import Completion, Request, Sampling
from tsdi.engines.transformers import TransformersEngine
from tsdi.errors import ModelError, NumericalError
from tsdi.models.chat import OWN_TEMPLATE, ChatFormat

_BATCH = 64
_WRITERS = re.compile(r"(^|\.)(embed_tokens|self_attn\.o_proj|mlp\.down_proj)$")
_SMALL = 1e-9


@torch.no_grad()
def mean_activations(model: PreTrainedModel, prompts: Sequence[Sequence[int]]) -> Tensor:
    """Mean of the residual stream at the last token of prompts, before and after every layer.

    Args:
        model: A causal language model.
        prompts: Token ids, template included, so that the last token is where an answer begins.

    Returns:
        float64 [layers + 1, hidden]; row n is what n decoder layers have left.
    """
    total: Tensor | None = None
    for start in range(0, len(prompts), _BATCH):
        rows = prompts[start : start + _BATCH]
        longest = max(map(len, rows))
        # Padding on the right: causal models see nothing after a position.
        ids = torch.tensor([[*row, *([row[-1]] * (longest - len(row)))] for row in rows])
        run: Any = model
        output = run(ids.to(model.device), output_hidden_states=True, use_cache=False)
        last = torch.tensor([len(row) - 1 for row in rows])
        at = torch.arange(len(rows)), last
        summed = torch.stack([one.cpu().double()[at].sum(0) for one in output.hidden_states])
        total = summed if total is None else total + summed
    assert total is not None
    mean: Tensor = total / len(prompts)
    return mean


def refusal_direction(harmful: Tensor, harmless: Tensor) -> Tensor:
    """The unit vector from the mean activation on harmless prompts to that on harmful ones.

    Raises:
        NumericalError: If the means are the same.

    Source: Arditi et al. (2024), arXiv 2406.11717, section 2.3 (difference in means).
    """
    return _unit(harmful - harmless)


def false_refusal_direction(pseudo_harmful: Tensor, harmless: Tensor, refusal: Tensor) -> Tensor:
    """The unit vector from harmless prompts to lookalikes, orthogonal to the refusal direction.

    Raises:
        NumericalError: If nothing is left of it.

    Source: Wang et al. (2025), arXiv 2410.03415, section 3.
    """
    difference = pseudo_harmful - harmless
    return _unit(difference - (difference @ refusal) * refusal)


def _unit(vector: Tensor) -> Tensor:
    norm = vector.norm()
    if not norm > _SMALL:
        raise NumericalError(
            "Two kinds of prompts have the same mean activation: there is no direction to ablate.",
            "Give other validation prompts, or another layer.",
        )
    unit: Tensor = vector / norm
    return unit


@contextmanager
def ablated(model: PreTrainedModel, direction: Tensor, strength: float = 1.0) -> Iterator[None]:
    """A model from whose residual stream a direction is removed, for as long as this is open.

    Everything that writes to the stream has the direction taken out of what it writes, which is
    what orthogonalised weights would do (Arditi et al. 2024, section 4.1), but leaves them alone.

    Args:
        model: A Llama-like model: embed_tokens, self_attn.o_proj and mlp.down_proj in each layer.
        direction: A unit vector, [hidden].
        strength: The share of the direction that is taken out; 0 leaves the model as it is.

    Raises:
        ModelError: If the model's parts have other names.
    """
    writers = [module for name, module in model.named_modules() if _WRITERS.search(name)]
    wanted = 1 + 2 * int(model.config.get_text_config().num_hidden_layers)
    if len(writers) != wanted:
        raise ModelError(
            f"{type(model).__name__} has {len(writers)} parts named embed_tokens, self_attn.o_proj"
            f" or mlp.down_proj, not {wanted}.",
            "Directions can be ablated from Llama-like models only.",
        )

    def remove(_module: Any, _inputs: Any, output: Any) -> Any:
        along = direction.to(output.device, output.dtype)
        return output - strength * (output @ along)[..., None] * along

    handles = [module.register_forward_hook(remove) for module in writers]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


class AblatedEngine(TransformersEngine):
    """Answers with a model from which a direction is ablated, as by `ablated`."""

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        direction: Tensor,
        strength: float = 1.0,
        chat_format: ChatFormat = OWN_TEMPLATE,
    ) -> None:
        super().__init__(model, tokenizer, chat_format=chat_format)
        self._direction, self._share = direction, strength

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> list[Completion]:
        """Answer all requests with the direction ablated."""
        with ablated(self._model, self._direction, self._share):
            return super().generate(requests, sampling)
