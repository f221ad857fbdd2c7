"""Control shifts of logits: a constant, the average over steps, a random direction."""

import hashlib
import json
from collections.abc import Collection

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from tsdi.bias import BiasInfo, SafetyBias
from tsdi.models.chat import OWN_TEMPLATE, ChatFormat, template_sha256, tokenizer_sha256
from tsdi.models.compatibility import tokenizer_size, vocabulary_width


def constant_shift(
    tokenizer: PreTrainedTokenizerBase,
    model: PreTrainedModel,
    tokens: Collection[int],
    constant: float,
    chat_format: ChatFormat = OWN_TEMPLATE,
) -> SafetyBias:
    """A "bias" which, subtracted, adds a constant to some tokens at the first step.

    The constant is in logits, the vocabulary the model's, the chat format that of the engine.
    """
    values = torch.zeros(1, vocabulary_width(model))
    values[0, list(tokens)] = -constant
    info = BiasInfo(
        tokenizer_sha256=tokenizer_sha256(tokenizer),
        template_sha256=template_sha256(tokenizer, chat_format),
        tokenizer_size=tokenizer_size(tokenizer),
        prompt_format=chat_format.prompt_format,
        template_args=dict(chat_format.template_args),
        aligned="",
        reference="",
        pool="",
        pool_sha256=hashlib.sha256(json.dumps(sorted(tokens)).encode()).hexdigest(),
        prompts=2,  # no prompt is read; the file, which vLLM needs, asks for the smallest estimate
        prompt_tokens=1,
        groups=2,
        seed=0,
    )
    return SafetyBias(values, torch.zeros_like(values), info)


def static_shift(bias: SafetyBias) -> SafetyBias:
    """The bias averaged over steps, at every step, as a static logit_bias applies it."""
    values = bias.values.mean(0, keepdim=True).expand_as(bias.values).clone()
    bias.check_order_0("a static shift")
    return bias.derived(values, bias.standard_error, "static")


def random_shift(bias: SafetyBias, seed: int) -> SafetyBias:
    """A shift in a random direction, centred, with the bias' norm at every step."""
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randn(bias.values.shape, generator=generator, dtype=torch.float64)
    drawn -= drawn.mean(-1, keepdim=True)
    scale = bias.values.double().norm(dim=-1, keepdim=True) / drawn.norm(dim=-1, keepdim=True)
    return bias.derived((drawn * scale).float(), torch.zeros_like(bias.values), f"random {seed}")
