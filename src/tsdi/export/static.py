"""One shift for all steps, for servers with no rule by step, and how far it is from the real rule.

A static shift acts on every token of an answer, the rule on the first ones only: the divergence
says what that costs before it is deployed.
"""

import copy
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from tsdi.bias import SafetyBias
from tsdi.engines.base import Request, Sampling
from tsdi.engines.transformers import TransformersEngine
from tsdi.errors import ModelError, UsageError
from tsdi.files import write_bytes
from tsdi.stats.interval import Estimate
from tsdi.stats.seeds import mean_interval


@dataclass(frozen=True)
class Divergence:
    """How far a static shift is from the real rule, in nats, on answers of the real rule.

    Attributes:
        by_step: KL(rule, static) of the next token's distribution at every response position.
        total: The sum over an answer's positions: KL of whole answers.
    """

    by_step: tuple[Estimate, ...]
    total: Estimate


def static_vector(bias: SafetyBias, strength: float) -> Tensor:
    """The shift of the logits at every step: minus strength x the bias' mean over steps.

    Returns:
        float32 [vocab], of zero mean.
    """
    bias.check_order_0("one shift for all steps")
    vector = -strength * bias.values.float().mean(0)
    return vector - vector.mean()


def logit_bias(vector: Tensor, top: int, limit: float) -> dict[int, float]:
    """The shifts that an OpenAI-compatible API takes as ``logit_bias``.

    Args:
        vector: What is added to the logits, [vocab].
        top: How many tokens at most; those that are moved furthest.
        limit: No shift is beyond it, up or down.

    Returns:
        Shift by token id, the furthest first; tokens that are not moved are left out.

    Raises:
        UsageError: If top or limit is not above 0.
    """
    if top < 1 or limit <= 0:
        raise UsageError("--top and --limit are above 0.", "OpenAI takes 300 tokens within 100.")
    order = vector.abs().argsort(descending=True)[:top]
    clipped = vector.clamp(-limit, limit)
    return {int(token): round(float(clipped[token]), 4) for token in order if clipped[token] != 0}


def as_vector(shifts: dict[int, float], size: int) -> Tensor:
    """The vector that a ``logit_bias`` adds, float32 [size]."""
    vector = torch.zeros(size)
    for token, shift in shifts.items():
        vector[token] = shift
    return vector


def write_logit_bias(
    path: Path, shifts: dict[int, float], template_args: Mapping[str, Any] | None = None
) -> None:
    """Write what goes into a request's ``logit_bias``: token id (a string, in JSON) to shift.

    Arguments of the chat template stand beside it, as vLLM and its like take them.
    """
    body: dict[str, Any] = {"logit_bias": {str(token): shift for token, shift in shifts.items()}}
    if template_args:
        body["chat_template_kwargs"] = dict(template_args)
    write_bytes(path, (json.dumps(body, allow_nan=False) + "\n").encode())


def shifted_head(model: PreTrainedModel, vector: Tensor) -> PreTrainedModel:
    """A copy of a model whose head's bias has a static shift added.

    Args:
        model: A causal language model.
        vector: What is added to the logits, [vocab].

    Raises:
        ModelError: If its head has no bias, or its logits are capped or scaled behind the head.
    """
    head = model.get_output_embeddings()
    if getattr(head, "bias", None) is None:
        raise ModelError(
            f"The head of {type(model).__name__} has no bias, so no static shift fits into it.",
            "Take --to logit-bias or --to transformers, or an engine that runs the rule.",
        )
    config = model.config.get_text_config()
    for name in ("final_logit_softcapping", "logit_scale", "logits_scaling"):
        if getattr(config, name, None) not in (None, 1.0):
            raise ModelError(
                f"{type(model).__name__} changes its logits behind the head ({name}), so that a"
                " shift in the head would be another one.",
                "Take --to logit-bias or --to transformers.",
            )
    changed: PreTrainedModel = copy.deepcopy(model)
    with torch.no_grad():
        weight = changed.get_output_embeddings().bias
        weight[: len(vector)] += vector.to(weight.dtype).to(weight.device)
    return changed


def divergence(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    bias: SafetyBias,
    strength: float,
    vector: Tensor,
    requests: Sequence[Request],
    max_new_tokens: int,
    batch_size: int = 16,
) -> Divergence:
    """How far a static shift, a vector [vocab], is from the rule, on the rule's own greedy answers.

    Returns:
        KL by step and in total, with t-intervals over prompts.

    Raises:
        UsageError: If there is nothing to ask.
    """
    if not requests:
        raise UsageError("There are no prompts to compare on.")
    engine = TransformersEngine(model, tokenizer, bias, strength)
    sampling = Sampling(max_new_tokens=max_new_tokens, keep_logits=True)
    rows: list[list[float]] = []
    for start in range(0, len(requests), batch_size):
        for completion in engine.generate(requests[start : start + batch_size], sampling):
            assert completion.logits is not None
            rows.append(_kl(completion.logits, bias, strength, vector))
    longest = max(map(len, rows))
    by_step = [[row[step] for row in rows if step < len(row)] for step in range(longest)]
    totals = [sum(row) for row in rows]
    return Divergence(tuple(map(_divergence_interval, by_step)), _divergence_interval(totals))


def _divergence_interval(values: list[float]) -> Estimate:
    """A mean divergence with its t-interval, cut at 0, below which no divergence lies."""
    found = mean_interval(values)
    return replace(found, low=max(found.low, 0.0))


def _kl(debiased: Tensor, bias: SafetyBias, strength: float, vector: Tensor) -> list[float]:
    """KL(rule, static) at every position of an answer, from the rule's logits [tokens, width]."""
    rule = debiased.double()
    static = rule.clone()
    covered = min(len(rule), bias.steps)
    static[:covered, : bias.vocab] += strength * bias.values[:covered].double()
    static[:, : len(vector)] += vector.double()
    one, other = rule.log_softmax(-1), static.log_softmax(-1)
    terms = torch.where(one > -torch.inf, one.exp() * (one - other), 0.0)
    found: list[float] = terms.sum(-1).clamp(min=0).tolist()
    return found
