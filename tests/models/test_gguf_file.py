"""GGUF files read by transformers: the checkpoint's numbers, and nothing passed over."""

import json
import logging
import shutil
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch

from tests import tiny
from tests.engines.gguf_file import write_gguf
from tests.tiny import refused
from tsdi.errors import FormatError, MismatchError
from tsdi.models import gguf_file
from tsdi.models.biases import CONFIG_FILE
from tsdi.models.chat import tokenizer_sha256
from tsdi.models.fingerprint import fingerprint
from tsdi.models.gguf_file import check_all_read
from tsdi.models.load import LoadOptions, load_model, load_tokenizer
from tsdi.models.names import locate


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Llama's file in float32."""
    file = tmp_path_factory.mktemp("gguf") / "whole.gguf"
    write_gguf(file, tiny.model(), tiny.tokenizer())
    return file


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def changed(file: Path, tensors: dict[str, np.ndarray] | None = None, **values: object) -> str:
    """A copy of a file with other or further tensors and values (None leaves one out)."""
    old = gguf.GGUFReader(file)
    out = gguf.GGUFWriter("changed.gguf", str(values.pop("architecture", "llama")))
    for key, field in old.fields.items():
        if not key.startswith("GGUF.") and key not in {*values, "general.architecture"}:
            item = field.types[-1] if len(field.types) > 1 else None
            out.add_key_value(key, field.contents(), field.types[0], item)
    for key, value in values.items():
        add = out.add_string if isinstance(value, str) else out.add_uint32
        add(key, value)
    for name, data in ({t.name: t.data for t in old.tensors} | (tensors or {})).items():
        if data is not None:
            kind = gguf.GGMLQuantizationType.Q8_0 if data.dtype == np.uint8 else None
            out.add_tensor(name, data, raw_dtype=kind)
    out.write_header_to_file()
    out.write_kv_data_to_file()
    out.write_tensors_to_file()
    out.close()
    return "changed.gguf"


class TestWhatIsRead:
    def test_logits_are_those_of_the_checkpoint(self, whole):
        model = load_model(whole)
        found = tiny.logits(model, tiny.ids(), 16)
        assert tiny.error(found, tiny.logits(tiny.model(), tiny.ids(), 16)) < 1e-5
        assert model.dtype == torch.float32

    def test_tokenizer_and_chat_template_are_the_files_own(self, whole):
        name = changed(whole, **{"tokenizer.chat_template": tiny.TEMPLATE})
        text = tiny.TEXT + " <|user|>Zebra 12!<|end|>"
        own, known = load_tokenizer(name), tiny.tokenizer()
        assert own(text)["input_ids"] == known(text)["input_ids"]
        assert own.chat_template == tiny.TEMPLATE
        assert (own.bos_token_id, own.eos_token_id) == (1, 2)
        assert load_tokenizer(whole).chat_template is None
        assert tokenizer_sha256(own) == tokenizer_sha256(known)  # so without GPT-2's <|endoftext|>

    def test_dtype_is_asked_for(self, whole):
        assert load_model(whole, LoadOptions(dtype="bfloat16")).dtype == torch.bfloat16

    def test_numbers_of_8_bits_become_plain_ones(self, whole):
        own = tiny.model().state_dict()["model.layers.0.mlp.gate_proj.weight"]
        packed = gguf.quants.quantize(own.numpy(), gguf.GGMLQuantizationType.Q8_0)
        model = load_model(changed(whole, {"blk.0.ffn_gate.weight": packed}))
        found = model.state_dict()["model.layers.0.mlp.gate_proj.weight"]
        assert found.dtype == torch.float32
        assert 0 < tiny.error(found, own) < 1 / 127

    def test_can_be_saved_and_loaded_again(self, whole):
        model = load_model(whole)
        model.save_pretrained("saved")
        load_tokenizer(whole).save_pretrained("saved")
        again = tiny.logits(load_model("saved"), tiny.ids(), 4)
        assert torch.equal(again, tiny.logits(model, tiny.ids(), 4))
        assert tokenizer_sha256(load_tokenizer("saved")) == tokenizer_sha256(load_tokenizer(whole))

    def test_is_named_as_it_was_given(self, whole):
        shutil.copy(whole, "here.gguf")
        assert load_model("here.gguf").name_or_path == "here.gguf"
        assert load_tokenizer("here.gguf").name_or_path == "here.gguf"

    def test_nothing_beside_it_counts(self, whole):
        """A converter writes into the checkpoint's folder, a download into any."""
        Path("sub").mkdir()
        shutil.copy(whole, "sub/a.gguf")
        write_gguf(Path("a.gguf"), tiny.model(seed=5), tiny.tokenizer())  # of the same name
        other = tiny.tokenizer(vocab=290)
        other.save_pretrained("sub")
        tiny.model(seed=6).save_pretrained("sub")
        Path("sub/adapter_config.json").write_text(json.dumps({"base_model_name_or_path": "no"}))
        found = tiny.logits(load_model("sub/a.gguf"), tiny.ids(), 2)
        assert tiny.error(found, tiny.logits(tiny.model(), tiny.ids(), 2)) < 1e-5
        assert tokenizer_sha256(load_tokenizer("sub/a.gguf")) == tokenizer_sha256(tiny.tokenizer())

    def test_fingerprint_is_the_files(self, whole):
        shutil.copy(whole, "one.gguf")
        write_gguf(Path("two.gguf"), tiny.model(seed=1), tiny.tokenizer())
        assert fingerprint("one.gguf") == fingerprint(str(whole)) != fingerprint("two.gguf")
        assert locate("one.gguf") != locate("two.gguf")


class TestRefused:
    def test_where_gguf_is_not_installed(self, whole, monkeypatch):
        monkeypatch.setattr(gguf_file, "find_spec", lambda name: None)
        for load in (load_model, load_tokenizer):
            refused(lambda load=load: load(whole), "needs gguf", "pip install 'tsdi[real]'")

    @pytest.mark.parametrize("name", ["no.gguf", "nowhere/no.gguf", "./no.gguf"])
    def test_a_file_that_is_missing(self, name):
        refused(lambda: load_model(name), f"no such file: {name}")

    @pytest.mark.parametrize("part", [0, 3, 30, 3000, -10])
    def test_a_part_of_one(self, whole, part):
        Path("cut.gguf").write_bytes(whole.read_bytes()[:part])
        for load in (load_model, load_tokenizer):
            refused(lambda load=load: load("cut.gguf"), "cut.gguf is no GGUF file, or not all")

    def test_something_else(self):
        Path("x.gguf").write_bytes(b"<html>" * 100)
        refused(lambda: load_model("x.gguf"), "x.gguf is no GGUF file", "download it again")

    def test_one_of_several_parts(self, whole):
        name = changed(whole, **{"split.count": 3})
        refused(lambda: load_model(name), "one of 3 parts", "llama-gguf-split --merge")

    def test_an_architecture_that_transformers_does_not_know(self, whole):
        name = changed(whole, architecture="rwkv6")
        for load in (load_model, load_tokenizer):
            refused(lambda load=load: load(name), "changed.gguf (the file)", "rwkv6")

    def test_a_tensor_that_is_missing(self, whole):
        name = changed(whole, {"blk.1.ffn_up.weight": None})
        refused(lambda: load_model(name), "lacks 1 tensor", "layers.1", kind=MismatchError)

    def test_a_tensor_that_the_model_does_not_have(self, whole):
        name = changed(whole, {"blk.1.attn_q.bias": np.ones(32, np.float32)})
        refused(lambda: load_model(name), "passes over 32 of the", name, kind=MismatchError)

    def test_a_tensor_of_another_shape(self, whole):
        name = changed(whole, {"output_norm.weight": np.ones(16, np.float32)})
        refused(lambda: load_model(name), "do not fit", "[16]", kind=MismatchError)

    def test_positions_that_are_stretched(self, whole):
        by_tensor = changed(whole, {"rope_freqs.weight": np.ones(8, np.float32)})
        refused(lambda: load_model(by_tensor), "stretches its positions (rope_freqs.weight)")
        by_key = changed(whole, **{"llama.rope.scaling.type": "yarn"})
        refused(lambda: load_model(by_key), "stretches its positions (llama.rope.scaling.type)")
        load_model(changed(whole, **{"llama.rope.scaling.type": "none"}))

    def test_what_needs_a_folder(self, whole):
        place = locate(str(whole))
        refused(lambda: place.vllm_arguments, "is a file, not a folder", "--engine llama-cpp")
        refused(place.folder, "is a file, not a folder")
        from tsdi.bias import SafetyBias

        call = lambda: SafetyBias.from_pretrained(str(whole))  # noqa: E731
        refused(call, f"it has no {CONFIG_FILE}", kind=FormatError)


def test_blocks_behind_the_last_layer_are_no_part_of_the_model(whole):
    name = Path(changed(whole, {"blk.2.nextn.eh_proj.weight": np.ones((8, 8), np.float32)}))
    check_all_read("x", name, tiny.model())


def test_a_split_of_texts_that_transformers_does_not_know_is_said_once(whole, caplog):
    name = changed(whole, **{"tokenizer.ggml.pre": "smollm"})
    with caplog.at_level(logging.WARNING):
        load_tokenizer(whole)
        load_tokenizer(changed(whole, **{"tokenizer.ggml.pre": "qwen2"}))
        assert not caplog.records
        changed(whole, **{"tokenizer.ggml.pre": "smollm"})
        load_tokenizer(name)
        load_tokenizer(name)
    assert [record.getMessage()[:45] for record in caplog.records] == [
        "changed.gguf splits texts as 'smollm' says, w"
    ]
