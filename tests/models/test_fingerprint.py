"""What decides a model's answers tells it from another; nothing else does."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests import tiny
from tsdi.models import fingerprint as module
from tsdi.models.fingerprint import fingerprint
from tsdi.models.names import Place


@pytest.fixture
def model(tmp_path):
    tiny.model("llama").save_pretrained(tmp_path / "model")
    tiny.tokenizer().save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def test_a_copy_elsewhere_is_the_same_model(model, tmp_path):
    shutil.copytree(model, tmp_path / "copy")
    assert fingerprint(str(tmp_path / "copy")) == fingerprint(str(model))


@pytest.mark.parametrize("whole", [1 << 26, 0])  # in full, and by blocks
def test_no_tensor_changes_unseen(model, monkeypatch, whole):
    monkeypatch.setattr(module, "_WHOLE", whole or 1 << 13)
    module._hash_of.cache_clear()
    file = model / "model.safetensors"
    before, tensors = fingerprint(str(model)), load_file(file)
    seen = {before}
    for name in tensors:
        changed = tensors | {name: tensors[name] + 1}
        save_file(changed, file, {"format": "pt"})
        seen.add(fingerprint(str(model)))
    assert len(seen) == 1 + len(tensors)


def test_large_files_of_other_kinds_are_told_apart(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_WHOLE", 1 << 10)
    monkeypatch.setattr(module, "_BLOCKS", 8)
    found = set()
    for number, data in enumerate((b"GGUF" * 10_000, b"GGUG" * 10_000, b"GGUF" * 10_001)):
        (tmp_path / f"{number}.gguf").write_bytes(data)
        found.add(fingerprint(str(tmp_path / f"{number}.gguf")))
    (tmp_path / "odd.safetensors").write_bytes(
        (9).to_bytes(8, "little") + b'{"a": 1} ' + b"x" * 2000
    )
    found.add(fingerprint(str(tmp_path / "odd.safetensors")))
    assert len(found) == 4


@pytest.mark.parametrize(
    "name", ["chat_template.jinja", "tokenizer.json", "generation_config.json", "config.json"]
)
def test_what_decides_answers_counts(model, name):
    before = fingerprint(str(model))
    with (model / name).open("a") as file:
        file.write(" ")
    assert fingerprint(str(model)) != before


def test_results_beside_the_weights_do_not_count(model):
    before = fingerprint(str(model))
    for name in ("results.json", "README.md", "trainer_state.json", "training_args.bin"):
        (model / name).write_text("{}")
    (model / "checkpoint-3").mkdir()
    (model / "checkpoint-3/model.safetensors").write_text("")
    assert fingerprint(str(model)) == before


def test_a_base_model_counts_with_its_adapter(model, tmp_path):
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    config = {"base_model_name_or_path": str(model)}
    (adapter / "adapter_config.json").write_text(json.dumps(config))
    before = fingerprint(str(adapter))
    (model / "config.json").write_text("{}")
    assert fingerprint(str(adapter)) != before
    config = {"base_model_name_or_path": str(adapter)}  # goes round in a circle
    (adapter / "adapter_config.json").write_text(json.dumps(config))
    assert fingerprint(str(adapter)) != before


def test_a_hub_name_stands_for_its_commit(monkeypatch):
    def located(name):
        _, _, revision = name.partition("@")
        return Place("org/model", revision or "abc", frozenset({"config.json"}))

    monkeypatch.setattr(module, "locate", located)
    assert fingerprint("org/model") == "org/model abc"
    assert fingerprint("org/model@v1") == "org/model v1"


@pytest.mark.parametrize("name", ["neutral", "a: b", "x" * 200])
def test_a_name_of_which_nothing_is_known_stands_for_itself(name):
    assert fingerprint(name) == name


def test_no_name_is_no_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    assert fingerprint("") == ""
    assert fingerprint(".") != ""


def test_weights_of_a_fraction_of_a_tensor_are_seen_where_files_are_small(model):
    before, file = fingerprint(str(model)), model / "model.safetensors"
    tensors = load_file(file)
    name = next(iter(tensors))
    tensors[name].view(-1)[7] += torch.finfo(torch.float32).eps * 9
    save_file(tensors, file, {"format": "pt"})
    assert fingerprint(str(model)) != before
