"""Writes a tiny Llama as a GGUF file, so that llama.cpp can be tested without a download."""

from pathlib import Path

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase


def write_gguf(
    path: Path,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    end_of_turn: int | None = None,
) -> None:
    """Write a Llama in float32 with the tokens of its tokenizer.

    Only a byte-level BPE tokenizer splits texts in llama.cpp as it does here.
    """
    import gguf

    config, weights = model.config, model.state_dict()
    head = config.head_dim or config.hidden_size // config.num_attention_heads
    out = gguf.GGUFWriter(str(path), "llama")
    out.add_context_length(config.max_position_embeddings)
    out.add_embedding_length(config.hidden_size)
    out.add_block_count(config.num_hidden_layers)
    out.add_feed_forward_length(config.intermediate_size)
    out.add_head_count(config.num_attention_heads)
    out.add_head_count_kv(config.num_key_value_heads)
    out.add_layer_norm_rms_eps(config.rms_norm_eps)
    out.add_rope_dimension_count(head)
    out.add_rope_freq_base(config.rope_parameters["rope_theta"])
    out.add_vocab_size(config.vocab_size)
    out.add_file_type(gguf.LlamaFileType.ALL_F32)
    _add_tokenizer(out, tokenizer, config.vocab_size)
    if end_of_turn is not None:
        out.add_eot_token_id(end_of_turn)
    for name, weight in weights.items():
        if name == "lm_head.weight" and config.tie_word_embeddings:
            continue  # llama.cpp takes the embeddings
        values = weight.float()
        if "q_proj" in name or "k_proj" in name:
            values = _interleaved(values, head)
        out.add_tensor(_gguf_name(name), values.contiguous().numpy())
    out.write_header_to_file()
    out.write_kv_data_to_file()
    out.write_tensors_to_file()
    out.close()


def _add_tokenizer(out, tokenizer, size):
    import json

    import gguf

    vocabulary = {place: token for token, place in tokenizer.get_vocab().items()}
    special = set(tokenizer.all_special_ids) | {
        place for place, token in tokenizer.added_tokens_decoder.items() if token.special
    }
    known = range(size)
    out.add_tokenizer_model("gpt2")
    out.add_tokenizer_pre("gpt-2")
    out.add_token_list([vocabulary.get(n, f"[PAD{n}]") for n in known])
    kinds = gguf.TokenType
    out.add_token_types(
        [
            kinds.UNUSED if n not in vocabulary else kinds.CONTROL if n in special else kinds.NORMAL
            for n in known
        ]
    )
    merges = json.loads(tokenizer.backend_tokenizer.to_str())["model"].get("merges") or ["a b"]
    out.add_token_merges([" ".join(pair) if isinstance(pair, list) else pair for pair in merges])
    if tokenizer.bos_token_id is not None:
        out.add_bos_token_id(tokenizer.bos_token_id)
    if tokenizer.eos_token_id is not None:
        out.add_eos_token_id(tokenizer.eos_token_id)
    out.add_add_bos_token(False)


def _interleaved(weight: torch.Tensor, head: int) -> torch.Tensor:
    """Rows of each head in llama.cpp's order: its rotary pairs are neighbours, ours halves."""
    heads = weight.shape[0] // head
    return weight.view(heads, 2, head // 2, -1).transpose(1, 2).reshape(weight.shape)


def _gguf_name(name: str) -> str:
    fixed = {
        "model.embed_tokens.weight": "token_embd.weight",
        "model.norm.weight": "output_norm.weight",
        "lm_head.weight": "output.weight",
    }
    if name in fixed:
        return fixed[name]
    layer, part = name.removeprefix("model.layers.").split(".", 1)
    parts = {
        "self_attn.q_proj": "attn_q",
        "self_attn.k_proj": "attn_k",
        "self_attn.v_proj": "attn_v",
        "self_attn.o_proj": "attn_output",
        "mlp.gate_proj": "ffn_gate",
        "mlp.up_proj": "ffn_up",
        "mlp.down_proj": "ffn_down",
        "input_layernorm": "attn_norm",
        "post_attention_layernorm": "ffn_norm",
    }
    return f"blk.{layer}.{parts[part.removesuffix('.weight')]}.weight"
