"""Tiny random models, tokenizers and biases, built here and never downloaded."""

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    CONFIG_MAPPING,
    AutoModelForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

from tsdi.bias import BiasInfo, SafetyBias, TokenPool
from tsdi.bias.random_prompts import RandomPrompts, random_prompts
from tsdi.decoding.condition import Condition
from tsdi.decoding.slope import Slope
from tsdi.errors import ModelError, TsdiError
from tsdi.models.chat import ChatFormat, template_sha256, tokenizer_sha256
from tsdi.models.compatibility import tokenizer_size

VOCAB = 320
TEXT = (
    "the river runs past the old mill and the fields where people grow wheat and barley every "
    "summer day. a kettle boils at one hundred degrees; bread needs flour, water, salt and time."
)
TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
THINKING = TEMPLATE.replace(
    "<|assistant|>",
    "<|assistant|>{% if effort %}{{ effort }}{% endif %}"
    "{% if enable_thinking is defined and enable_thinking is false %}<think></think>{% endif %}",
)
"""A chat template that takes arguments."""


def tokenizer(template: str | None = TEMPLATE, vocab: int = VOCAB) -> PreTrainedTokenizerFast:
    special = ["<pad>", "<bos>", "<eos>", "<|user|>", "<|assistant|>", "<|system|>", "<|end|>"]
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator([TEXT], trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        bos_token="<bos>",
        eos_token="<eos>",
        pad_token="<pad>",
        additional_special_tokens=special[3:],
        chat_template=template,
        padding_side="left",
    )


SMALL = {
    "vocab_size": VOCAB,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "max_position_embeddings": 128,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
EXTRA = {
    "gpt2": {"n_embd": 32, "n_layer": 2, "n_head": 2, "n_positions": 128},
    "mixtral": {"num_local_experts": 4, "num_experts_per_tok": 2},
    "gemma": {"head_dim": 16},
    "gemma2": {"head_dim": 16, "query_pre_attn_scalar": 16, "final_logit_softcapping": 30.0},
    "qwen3": {"head_dim": 16},
    "granite": {"logits_scaling": 8.0},
    "cohere": {"logit_scale": 0.0625},
    "phi": {"num_key_value_heads": 2, "partial_rotary_factor": 0.5},
}
UNKNOWN = {
    "gpt2": (
        "hidden_size",
        "intermediate_size",
        "num_hidden_layers",
        "num_attention_heads",
        "num_key_value_heads",
        "max_position_embeddings",
    ),
    "gpt_neox": ("num_key_value_heads",),
}


def model(kind: str = "llama", seed: int = 0, **changes: object) -> PreTrainedModel:
    arguments = {k: v for k, v in SMALL.items() if k not in UNKNOWN.get(kind, ())}
    config = CONFIG_MAPPING[kind](**{**arguments, **EXTRA.get(kind, {}), **changes})
    torch.manual_seed(seed)
    made = AutoModelForCausalLM.from_config(config).eval()
    with torch.no_grad():
        for parameter in made.parameters():  # initial weights are so small that logits are flat
            if parameter.dim() > 1:
                parameter.mul_(5)
            else:
                parameter.add_(torch.randn_like(parameter) * 0.1)
    return made


def moved(base: PreTrainedModel, scale: float = 0.3, seed: int = 9) -> PreTrainedModel:
    """A copy of a model whose weights have moved a little, as training does."""
    torch.manual_seed(seed)
    made = copy.deepcopy(base)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(torch.randn_like(parameter) * scale * parameter.std().nan_to_num(0.1))
    return made


def ids(rows: int = 6, length: int = 16, seed: int = 0) -> torch.Tensor:
    return torch.randint(7, VOCAB, (rows, length), generator=torch.Generator().manual_seed(seed))


def prompts(
    steps: int = 3, prompt_tokens: int = 6, seed: int = 0, anchor: str = ""
) -> RandomPrompts:
    known = tokenizer()
    pool = TokenPool.from_tokenizer(known)
    return random_prompts(
        known, pool, prompt_tokens=prompt_tokens, steps=steps, seed=seed, anchor=anchor
    )


@torch.no_grad()
def logits(model: PreTrainedModel, rows: torch.Tensor, steps: int) -> torch.Tensor:
    """Ordinary logits of the last positions, as a user gets them: float64 [rows, steps, vocab]."""
    output = model(input_ids=rows, attention_mask=torch.ones_like(rows))
    return output.logits[:, -steps:].double()


def slow_estimate(
    aligned: PreTrainedModel, reference: PreTrainedModel, drawn: RandomPrompts, n: int, groups: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Centred shift: mean over prompts [steps, vocab], group means [groups, steps, vocab]."""
    rows = drawn.ids(0, n)
    shift = logits(aligned, rows, drawn.steps) - logits(reference, rows, drawn.steps)
    shift -= shift.mean(-1, keepdim=True)
    return shift.mean(0), torch.stack([shift[g::groups].mean(0) for g in range(groups)])


def error(found: torch.Tensor, truth: torch.Tensor) -> float:
    """Largest difference, as a share of the largest true value."""
    found, truth = found.detach().double(), truth.detach().double()
    return float((found - truth).abs().max() / truth.abs().max())


def bias(
    values: torch.Tensor | None = None,
    error: torch.Tensor | None = None,
    known: PreTrainedTokenizerFast | None = None,
    **changes: object,
) -> SafetyBias:
    """A bias for the tiny tokenizer, without any estimate; random unless values are given."""
    known = tokenizer() if known is None else known
    asked = ChatFormat(changes.get("prompt_format"), changes.get("template_args") or {})
    generator = torch.Generator().manual_seed(3)
    values = torch.randn(3, VOCAB, generator=generator) * 3 if values is None else values
    info = {
        "tokenizer_sha256": tokenizer_sha256(known),
        "template_sha256": template_sha256(known, asked),
        "tokenizer_size": tokenizer_size(known),
        "aligned": "tiny-aligned",
        "reference": "tiny-reference",
        "pool": "tokenizer",
        "pool_sha256": TokenPool.from_tokenizer(known).sha256,
        "prompts": 32,
        "prompt_tokens": 6,
        "groups": 4,
        "seed": 0,
        **changes,
    }
    return SafetyBias(values, values.abs() / 10 if error is None else error, BiasInfo(**info))


def condition(known: PreTrainedTokenizerFast | None = None, **changes: object) -> Condition:
    """A condition for the tiny tokenizer, without any fit; random unless weights are given."""
    known = tokenizer() if known is None else known
    weights = torch.randn(12, generator=torch.Generator().manual_seed(8)) / 8
    made = {
        "tokens": torch.arange(20, 32) * 7,
        "weights": weights - weights.mean(),
        "intercept": 0.1,
        "low": -0.5,
        "high": 1.5,
        "tokenizer_sha256": tokenizer_sha256(known),
        "template_sha256": template_sha256(known, ChatFormat()),
        **changes,
    }
    return Condition(**made)


def slope(vocab: int = VOCAB, steps: int = 3, rank: int = 2, scale: float = 1.0) -> Slope:
    """A slope that reads most tokens and moves all of them."""
    drawn = torch.randn(2, rank, vocab, generator=torch.Generator().manual_seed(7))
    drawn[0, :, :4] = 0  # which may be ruled out
    drawn[0, :, 4:] -= drawn[0, :, 4:].mean(1, keepdim=True)
    drawn[1] -= drawn[1].mean(1, keepdim=True)
    centre = torch.randn(steps, rank, generator=torch.Generator().manual_seed(8))
    return Slope(drawn[0] / vocab**0.5, scale * drawn[1], centre)


@contextmanager
def only_tsdi_errors() -> Iterator[None]:
    """Lets a block fail, but only with an error of tsdi's own, of one line."""
    try:
        yield
    except TsdiError as error:
        if "\n" in str(error):
            raise AssertionError(f"more than a line: {error}") from error


@contextmanager
def rows_run(model: PreTrainedModel) -> Iterator[list[torch.Tensor]]:
    """Collects the ids of every forward pass of a model."""
    seen: list[torch.Tensor] = []

    def note(_module: object, _args: tuple[object, ...], kwargs: dict[str, torch.Tensor]) -> None:
        seen.append(kwargs["input_ids"])

    handle = model.register_forward_pre_hook(note, with_kwargs=True)
    try:
        yield seen
    finally:
        handle.remove()


def refused(call: Callable[[], object], *parts: str, kind: type[Exception] = ModelError) -> None:
    """The call raises an error of one line that names these parts."""
    with pytest.raises(kind) as caught:
        call()
    message = str(caught.value)
    assert "\n" not in message
    for part in parts:
        assert part in message
