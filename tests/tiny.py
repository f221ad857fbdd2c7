"""Tiny random models and tokenizers, built here and never downloaded."""

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    AutoModelForCausalLM,
    CONFIG_MAPPING,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

VOCAB = 320
TEXT = (
    "the river runs past the old mill and the fields where people grow wheat and barley every "
    "summer day. a kettle boils at one hundred degrees; bread needs flour, water, salt and time."
)
TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


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
UNKNOWN = {"gpt2": ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
                    "num_key_value_heads", "max_position_embeddings"),
           "gpt_neox": ("num_key_value_heads",)}


def model(kind: str = "llama", seed: int = 0, **changes: object) -> PreTrainedModel:
    arguments = {k: v for k, v in SMALL.items() if k not in UNKNOWN.get(kind, ())}
    config = CONFIG_MAPPING[kind](**{**arguments, **EXTRA.get(kind, {}), **changes})
    torch.manual_seed(seed)
    made = AutoModelForCausalLM.from_config(config).eval()
    with torch.no_grad():
        for parameter in made.parameters():  # initial weights are so small that logits are flat
            parameter.mul_(5) if parameter.dim() > 1 else parameter.add_(
                torch.randn_like(parameter) * 0.1
            )
    return made
