"""Forward passes up to the input of the output layer (the head), and from there on.

A linear head commutes with the mean, E[head(h)] = head(E[h]). So estimation needs no logits: it
sums the head's inputs, and at the end puts their mean back at that place, in one forward pass of
the model itself, so that head bias, adapters, constant scales and quantisation apply as in life.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from inspect import signature
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

LINEARITY_TOLERANCE = 1e-5


def head_inputs(model: PreTrainedModel, ids: Tensor, steps: int) -> Tensor:
    """The head's inputs at the last positions, [batch, steps, hidden], without computing logits.

    Args:
        model: A causal language model.
        ids: Token ids, int64 [batch, length].
        steps: Number of last positions to keep.
    """
    kept: list[Tensor] = []
    # The head still runs, but on no rows at all; a quantised one may not know how, so on one.
    rows = 1 if _native(model) else 0

    def keep(hidden: Tensor) -> Tensor:
        kept.append(hidden[:, -steps:])
        return hidden[:rows, :1]

    with _at_head(model, keep):
        _forward(model, ids, steps)
    return kept[0]


def logits(model: PreTrainedModel, ids: Tensor, steps: int) -> Tensor:
    """Logits at the last positions, with the head in float32: [batch, steps, vocab]."""
    if _native(model):
        return native_logits(model, ids, steps)
    with _at_head(model, Tensor.float):
        return _forward(model, ids, steps, precise=True)[:, -steps:].float()


def native_logits(model: PreTrainedModel, ids: Tensor, steps: int) -> Tensor:
    """Logits at the last positions, computed in the model's own precision: [batch, steps, vocab].

    This takes no float32 copy of the head, for which there may be no memory beside a training.
    """
    return _forward(model, ids, steps)[:, -steps:].float()


def logits_from(model: PreTrainedModel, inputs: Tensor) -> Tensor:
    """Logits for given head inputs, with the head in float32.

    Args:
        model: A causal language model.
        inputs: Head inputs, [batch, steps, hidden].

    Returns:
        float32 [batch, steps, vocab].
    """
    native = _native(model)

    def put_back(hidden: Tensor) -> Tensor:
        return inputs.to(hidden.device, hidden.dtype if native else torch.float32)

    # The body runs on one token, only to get to the head; the model's own code does the rest.
    ids = torch.zeros(1, 1, dtype=torch.long)
    with _at_head(model, put_back):
        return _forward(model, ids, 1, precise=True).float()


def output_layer(model: PreTrainedModel, hidden: int) -> tuple[Tensor, Tensor]:
    """A linear output layer as numbers: logits are inputs @ matrix + offset.

    Args:
        model: A causal language model.
        hidden: Width of the head's inputs.

    Returns:
        Matrix float32 [hidden, vocab] and offset float32 [vocab], on the CPU.
    """
    offset = logits_from(model, torch.zeros(1, 1, hidden))[0, 0].cpu()
    unit = torch.eye(hidden)
    rows = [logits_from(model, part[:, None])[:, 0].cpu() - offset for part in unit.split(64)]
    return torch.cat(rows), offset


def is_linear(model: PreTrainedModel, ids: Tensor, steps: int) -> bool:
    """Whether logits are linear in the head's inputs, so that means can be put back.

    Compares the mean of ordinary logits with the logits of the mean input, to 1e-5 of their scale.
    A soft cap in the config means no, as small logits would not show it.

    Args:
        model: A causal language model.
        ids: A few rows, int64 [batch, length].
        steps: Number of last positions to compare.
    """
    if model.get_output_embeddings() is None:
        return False
    if getattr(model.config.get_text_config(), "final_logit_softcapping", None):
        return False
    inputs: list[Tensor] = []

    def note(hidden: Tensor) -> Tensor:
        inputs.append(hidden[:, -steps:])
        return hidden

    with _at_head(model, note):  # row by row: memory may be too short for more
        rows = [logits(model, row, steps) for row in ids.split(1)]
    ordinary = torch.cat(rows).double().mean(0)
    mean_input = torch.cat(inputs).double().mean(0, keepdim=True).float()
    error = (logits_from(model, mean_input)[0].double() - ordinary).abs().max()
    return bool(error <= LINEARITY_TOLERANCE * ordinary.abs().max())


@dataclass(frozen=True)
class Step:
    """Head inputs of newly read tokens, with the cache behind them.

    Attributes:
        inputs: The head's inputs at these tokens, [batch, tokens, hidden].
        choice: The most likely token after the last one, [batch]; None unless asked for.
        cache: The key-value cache of all tokens so far.
    """

    inputs: Tensor
    choice: Tensor | None
    cache: Any


def read_on(model: PreTrainedModel, ids: Tensor, mask: Tensor, cache: Any, *, choose: bool) -> Step:
    """Let a model read further tokens behind its cache, padded on the left.

    Args:
        model: A causal language model with an output layer of its own.
        ids: int64 [batch, tokens].
        mask: int64 [batch, tokens so far and these], 0 for padding.
        cache: Cache of the step before, which this one may change; None at the beginning.
        choose: Find the most likely next token, in the model's own precision.
    """
    kept: list[Tensor] = []
    rows = None if choose else int(_native(model))  # as in `head_inputs`

    def keep(hidden: Tensor) -> Tensor:
        kept.append(hidden[:, -ids.shape[1] :])
        return hidden[:rows, -1:]

    arguments: dict[str, Any] = {"attention_mask": mask, "past_key_values": cache}
    arguments["use_cache"] = True
    if "position_ids" in signature(_unwrapped(model).forward).parameters:
        positions = (mask.cumsum(1) - 1).clamp(min=0)
        arguments["position_ids"] = positions[:, -ids.shape[1] :]
    with torch.no_grad(), evaluating(model), _at_head(model, keep):
        output: Any = model(input_ids=ids.to(model.device), **arguments)
    choice = output.logits[:, -1].argmax(-1) if choose else None
    return Step(kept[0], choice, output.past_key_values)


@contextmanager
def _at_head(model: PreTrainedModel, change: Callable[[Tensor], Tensor]) -> Iterator[None]:
    def hook(_module: Any, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return (change(args[0]), *args[1:])

    handle = model.get_output_embeddings().register_forward_pre_hook(hook)
    try:
        yield
    finally:
        handle.remove()


def _native(model: PreTrainedModel) -> bool:
    """Whether the head must stay in its own precision: unknown, quantised, or not in memory."""
    head = model.get_output_embeddings()
    if head is None:
        return True
    weights = (*head.parameters(), *head.buffers())
    return any(w.is_meta or not w.is_floating_point() or w.element_size() < 2 for w in weights)


def _float32_head(model: PreTrainedModel) -> dict[str, Tensor]:
    """The head's parameters in float32 by their names in the model; none if they are already."""
    head = model.get_output_embeddings()
    place = next(name for name, module in model.named_modules() if module is head)
    lower = {n: p for n, p in head.named_parameters() if p.dtype != torch.float32}
    return {f"{place}.{name}": parameter.float() for name, parameter in lower.items()}


@torch.no_grad()
def _forward(model: PreTrainedModel, ids: Tensor, steps: int, *, precise: bool = False) -> Tensor:
    ids = ids.to(model.device)
    arguments: dict[str, Any] = {
        "input_ids": ids,
        "attention_mask": torch.ones_like(ids),  # nothing is padding, whatever the pool draws
        "use_cache": False,
    }
    if "logits_to_keep" in signature(_unwrapped(model).forward).parameters:
        arguments["logits_to_keep"] = steps
    with evaluating(model):
        replaced = _float32_head(model) if precise and not _native(model) else {}
        if not replaced:
            return _logits_of(model(**arguments))
        # tie_weights=False leaves the input embeddings, which may be the same tensor, as they are.
        output = torch.func.functional_call(model, replaced, (), arguments, tie_weights=False)
        return _logits_of(output)


def _logits_of(output: Any) -> Tensor:
    result: Tensor = output.logits
    return result


def _unwrapped(model: Any) -> Any:
    return model.get_base_model() if hasattr(model, "get_base_model") else model


@contextmanager
def evaluating(model: PreTrainedModel) -> Iterator[None]:
    """Run a model in evaluation mode; afterwards every module's mode is restored."""
    training = [module for module in model.modules() if module.training]
    for module in training:
        module.training = False
    try:
        yield
    finally:
        for module in training:
            module.training = True
