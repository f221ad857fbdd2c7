"""A static shift for servers without rules by step, and its divergence from the rule.

A static shift acts on every token of an answer, the rule on the first ones only: the divergence
says what that costs before it is deployed.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from tsdi.bias import SafetyBias
from tsdi.bias import lm_head as head
from tsdi.decoding.rule import subtract_bias
from tsdi.engines.base import Request, Sampling
from tsdi.engines.transformers import TransformersEngine
from tsdi.errors import UsageError
from tsdi.files import write_bytes
from tsdi.models.chat import encode_chat
from tsdi.stats.interval import Estimate
from tsdi.stats.seeds import mean_interval

Text = tuple[list[int], int]
"""A prompt with its answer as token ids, and how many of them are the answer."""


@dataclass(frozen=True)
class Divergence:
    """KL of a static shift from the real rule, in nats, on answers of the rule.

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

    Of what is added to the logits, [vocab], it keeps the `top` tokens that are moved furthest, and
    no shift beyond the limit.

    Returns:
        Shift by token id, the furthest first; tokens that are not moved are left out.

    Raises:
        UsageError: If top or limit is not above 0.
    """
    if top < 1 or limit <= 0:
        raise UsageError(
            "The most tokens, and the largest shift, are above 0.",
            "OpenAI takes 300 tokens within 100.",
        )
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
    """Write a request's ``logit_bias`` as JSON: token id (a string) to shift.

    Arguments of the chat template stand beside it, as vLLM and its like take them.
    """
    body: dict[str, Any] = {"logit_bias": {str(token): shift for token, shift in shifts.items()}}
    if template_args:
        body["chat_template_kwargs"] = dict(template_args)
    write_bytes(path, (json.dumps(body, allow_nan=False) + "\n").encode())


def divergence(
    model: PreTrainedModel,
    bias: SafetyBias,
    strength: float,
    static: Tensor | PreTrainedModel,
    texts: Sequence[Text],
) -> Divergence:
    """KL of a static form from the rule, on the rule's own greedy answers.

    The static form is what is added to the logits at every step, [vocab], or another model; `texts`
    are those of `rule_answers`.

    Returns:
        KL by step and in total, with t-intervals over prompts.
    """
    rows = [_kl(model, bias, strength, static, ids, answer) for ids, answer in texts]
    longest = max(map(len, rows))
    by_step = [[row[step] for row in rows if step < len(row)] for step in range(longest)]
    totals = [sum(row) for row in rows]
    return Divergence(tuple(map(_divergence_interval, by_step)), _divergence_interval(totals))


def rule_answers(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    bias: SafetyBias,
    strength: float,
    requests: Sequence[Request],
    max_new_tokens: int,
    batch_size: int = 16,
) -> list[Text]:
    """Token ids of prompts with the rule's greedy answers, and the answers' lengths.

    Raises:
        UsageError: If there is nothing to ask.
    """
    if not requests:
        raise UsageError("There are no prompts to compare on.")
    engine = TransformersEngine(model, tokenizer, bias, strength)
    sampling = Sampling(max_new_tokens=max_new_tokens)
    texts = []
    for start in range(0, len(requests), batch_size):
        part = requests[start : start + batch_size]
        for request, completion in zip(part, engine.generate(part, sampling), strict=True):
            prompt = encode_chat(tokenizer, request.messages, bias.info.chat_format)
            texts.append(([*prompt, *completion.token_ids], len(completion.token_ids)))
    return texts


def _divergence_interval(values: list[float]) -> Estimate:
    """A mean divergence with its t-interval, cut at 0, below which no divergence lies."""
    found = mean_interval(values)
    return replace(found, low=max(found.low, 0.0))


def _kl(
    model: PreTrainedModel,
    bias: SafetyBias,
    strength: float,
    static: Tensor | PreTrainedModel,
    ids: list[int],
    answer: int,
) -> list[float]:
    """KL(rule, static) at every position of an answer, the last tokens of these."""
    before = torch.tensor([ids])[:, :-1]
    plain = head.logits(model, before, answer)[0].cpu().double()
    rule = subtract_bias(plain, torch.arange(answer), bias.shift, strength)
    if isinstance(static, Tensor):
        plain[:, : len(static)] += static.double()
        other = plain
    else:
        other = head.logits(static, before, answer)[0].cpu().double()
    one, two = rule.log_softmax(-1), other.log_softmax(-1)
    terms = torch.where(one > -torch.inf, one.exp() * (one - two), 0.0)
    found: list[float] = terms.sum(-1).clamp(min=0).tolist()
    return found
