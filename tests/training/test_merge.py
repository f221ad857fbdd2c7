"""Linear merges: the weighted mean of every tensor, whole or not at all."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests import tiny
from tests.cli.conftest import tsdi
from tsdi.errors import MismatchError, ModelError, NumericalError, RunExistsError, UsageError
from tsdi.models.load import load_model
from tsdi.training import merge as merging
from tsdi.training.merge import merge


@pytest.fixture
def pair(tmp_path):
    """Two models, the second one in shards."""
    for seed, (name, size) in enumerate({"a": "5GB", "b": "20KB"}.items()):
        torch.manual_seed(seed)
        model = tiny.model("llama")
        model.save_pretrained(tmp_path / name, max_shard_size=size)
        tiny.tokenizer().save_pretrained(tmp_path / name)
    return tmp_path / "a", tmp_path / "b"


def tensors(folder):
    found = {}
    for file in folder.glob("*.safetensors"):
        found |= load_file(file)
    return found


def mean64(folders, weights):
    """The definition, in float64."""
    parts = [tensors(folder) for folder in folders]
    total = sum(weights)
    return {
        name: sum(w * part[name].double() for w, part in zip(weights, parts, strict=True)) / total
        for name in parts[0]
    }


@pytest.mark.parametrize("weights", [(0.25, 0.75), (1.0, 0.0), (3.0, 1.0), (1.5, -0.5)])
@pytest.mark.parametrize("turned", [False, True])
def test_it_is_the_weighted_mean_whatever_the_shards(pair, tmp_path, weights, turned):
    folders = pair[::-1] if turned else pair
    merge(list(zip(folders, weights, strict=True)), tmp_path / "out")
    expected = mean64(folders, weights)
    found = tensors(tmp_path / "out")
    assert found.keys() == expected.keys()
    for name, tensor in found.items():
        torch.testing.assert_close(tensor.double(), expected[name], rtol=1e-6, atol=1e-7)
    assert len(list((tmp_path / "out").glob("*.safetensors"))) == (
        len(list(folders[0].glob("*.safetensors")))
    )


def test_the_merged_model_can_be_loaded_and_keeps_the_first_ones_tokenizer(pair, tmp_path):
    merge([(pair[1], 0.5), (pair[0], 0.5)], tmp_path / "out")
    model = load_model(str(tmp_path / "out"))
    expected = mean64(pair, (0.5, 0.5))["model.norm.weight"].float()
    torch.testing.assert_close(model.model.norm.weight.data, expected)
    assert (tmp_path / "out/tokenizer.json").exists()


def test_sums_are_float32_whatever_the_models_are_saved_in(pair, tmp_path):
    for folder in pair:
        load_model(str(folder)).bfloat16().save_pretrained(folder.with_name(f"{folder.name}16"))
    folders = [folder.with_name(f"{folder.name}16") for folder in pair]
    merge([(folders[0], 0.3), (folders[1], 0.7)], tmp_path / "out")
    expected = mean64(folders, (0.3, 0.7))
    for name, tensor in tensors(tmp_path / "out").items():
        assert tensor.dtype == torch.bfloat16
        error = (tensor.double() - expected[name]).abs()
        assert (error <= expected[name].abs() * 2**-8 + 1e-9).all()


def test_a_killed_merge_leaves_no_folder_and_can_be_done_again(pair, tmp_path, monkeypatch):
    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(merging, "write_json", killed)
        with pytest.raises(KeyboardInterrupt):
            merge([(pair[1], 0.5), (pair[0], 0.5)], tmp_path / "out")
    assert not (tmp_path / "out").exists()
    merge([(pair[1], 0.5), (pair[0], 0.5)], tmp_path / "out")
    assert (tmp_path / "out").exists()
    assert not list(tmp_path.glob("*.unfinished"))


def test_what_cannot_be_merged_is_refused(pair, tmp_path):
    a, b = pair
    out = tmp_path / "out"
    nan, inf = float("nan"), float("inf")
    single = ((1e308, 1e308), (1e39, 1e39), (1e-300, 1e-300), (1e6, -999999.99), (1e6, -999999.9))
    for weights in ((1.0, -1.0), (nan, 1.0), (inf, 1.0), *single):
        with pytest.raises(UsageError, match="no mean"):
            merge(list(zip(pair, weights, strict=True)), out)
    with pytest.raises(UsageError, match="no mean"):
        merge([(a, 1.0)], out)
    with pytest.raises(RunExistsError, match="there already"):
        merge([(a, 0.5), (b, 0.5)], a)
    with pytest.raises(ModelError, match="no such folder"):
        merge([(a, 0.5), (tmp_path / "none", 0.5)], out)
    (tmp_path / "adapter").mkdir()
    (tmp_path / "adapter/adapter_config.json").write_text("{}")
    with pytest.raises(ModelError, match="is an adapter"):
        merge([(a, 0.5), (tmp_path / "adapter", 0.5)], out)
    shutil.copytree(a, tmp_path / "export")
    (tmp_path / "export/tsdi").mkdir()
    (tmp_path / "export/tsdi/bias_config.json").write_text("{}")
    with pytest.raises(UsageError, match="is an export of tsdi"):
        merge([(a, 0.5), (tmp_path / "export", 0.5)], out)
    assert not out.exists()


def test_models_that_differ_are_refused(pair, tmp_path):
    a, b = pair
    weights = load_file(a / "model.safetensors")
    out = tmp_path / "out"
    config = json.loads((b / "config.json").read_text())
    (b / "config.json").write_text(json.dumps(config | {"vocab_size": 7}))
    with pytest.raises(MismatchError, match="differ in vocab_size"):
        merge([(a, 0.5), (b, 0.5)], out)
    (b / "config.json").write_text(json.dumps(config))
    name = "model.norm.weight"
    changes = {
        "do not both have the tensor": {k: v for k, v in weights.items() if k != name},
        r"is \(3,\)": weights | {name: torch.ones(3)},
    }
    for words, changed in changes.items():
        save_file(changed, a / "model.safetensors", metadata={"format": "pt"})
        with pytest.raises(MismatchError, match=words):
            merge([(b, 0.5), (a, 0.5)], out)
    save_file(weights | {name: weights[name] * torch.nan}, a / "model.safetensors")
    with pytest.raises(NumericalError, match=name):
        merge([(b, 0.5), (a, 0.5)], out)


QUANTISED = {  # as GPTQ, bitsandbytes (nf4) and float8 checkpoints pack weights
    "model.layers.0.self_attn.q_proj.qweight": lambda g: torch.randint(
        -(2**31), 2**31, (4, 32), generator=g
    ).int(),
    "model.layers.0.self_attn.q_proj.weight": lambda g: torch.randint(
        0, 256, (512, 1), generator=g
    ).byte(),
    "model.layers.0.mlp.up_proj.weight": lambda g: torch.randn(48, 32, generator=g).to(
        torch.float8_e4m3fn
    ),
}


@pytest.mark.parametrize("name", QUANTISED)
def test_packed_numbers_are_refused_before_anything_is_written(pair, tmp_path, name):
    for seed, folder in enumerate(pair):
        packed = {name: QUANTISED[name](torch.Generator().manual_seed(seed))}
        for file in folder.glob("*.safetensors"):
            file.unlink()
        (folder / "model.safetensors.index.json").unlink(missing_ok=True)
        save_file(packed, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match=rf"'{name}' is (I32|U8|F8_E4M3),.*quantis"):
        merge([(pair[0], 0.5), (pair[1], 0.5)], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_integers_that_all_models_share_are_copied(pair, tmp_path):
    first = load_file(pair[0] / "model.safetensors")
    folders = [tmp_path / name for name in "xyz"]
    for folder, shift in zip(folders, (0, 0, 1), strict=True):
        shutil.copytree(pair[0], folder)
        ids = {"model.position_ids": torch.arange(2**53 + 1, 2**53 + 5) + shift}
        save_file(first | ids, folder / "model.safetensors", metadata={"format": "pt"})
    merge([(folders[0], 0.5), (folders[1], 0.5)], tmp_path / "out")
    assert tensors(tmp_path / "out")["model.position_ids"].tolist() == list(
        range(2**53 + 1, 2**53 + 5)
    )
    with pytest.raises(ModelError, match=r"'model\.position_ids' is I64"):
        merge([(folders[0], 0.5), (folders[2], 0.5)], tmp_path / "other")


CHANGES = {  # what decides numbers, and leaves names and shapes of all tensors as they are
    "num_attention_heads": {"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8},
    "rope_theta": {"rope_parameters": {"rope_theta": 5e5, "rope_type": "default"}},
    "rms_norm_eps": {"rms_norm_eps": 1e-3},
    "hidden_act": {"hidden_act": "gelu"},
}


@pytest.mark.parametrize("key", CHANGES)
def test_another_config_under_the_same_tensors_is_refused(pair, tmp_path, key):
    config = json.loads((pair[1] / "config.json").read_text())
    (pair[1] / "config.json").write_text(json.dumps(config | CHANGES[key]))
    with pytest.raises(MismatchError, match=f"differ in .*{'head_dim' if 'heads' in key else key}"):
        merge([(pair[0], 0.0), (pair[1], 1.0)], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_what_decides_no_number_may_differ(pair, tmp_path):
    config = json.loads((pair[1] / "config.json").read_text())
    config |= {"use_cache": False, "eos_token_id": [2, 6], "_name_or_path": "x", "dtype": "float32"}
    del config["rms_norm_eps"]  # the default, which another version need not write
    (pair[1] / "config.json").write_text(json.dumps(config))
    merge([(pair[0], 0.5), (pair[1], 0.5)], tmp_path / "out")


def test_another_tokenizer_is_refused_and_another_chat_template_is_said(pair, tmp_path, caplog):
    a, b = pair
    tiny.tokenizer("{{ messages }}").save_pretrained(b)
    with caplog.at_level("INFO", "tsdi"):
        merge([(a, 0.5), (b, 0.5)], tmp_path / "out")
    assert "chat templates differ" in caplog.text
    whole = json.loads((b / "tokenizer.json").read_text())
    words = whole["model"]["vocab"]
    rotated = dict(zip(words, [*list(words.values())[1:], 0], strict=True))
    whole["model"]["vocab"] = rotated | {
        token["content"]: token["id"] for token in whole["added_tokens"]
    }
    (b / "tokenizer.json").write_text(json.dumps(whole))
    with pytest.raises(MismatchError, match="different tokenizers"):
        merge([(a, 0.5), (b, 0.5)], tmp_path / "other")
    for file in b.glob("*token*"):
        file.unlink()
    merge([(a, 0.5), (b, 0.5)], tmp_path / "other")  # weights alone


def test_a_mean_that_the_dtype_cannot_hold_is_refused(pair, tmp_path):
    weights = load_file(pair[0] / "model.safetensors")
    half = {name: tensor.half() for name, tensor in weights.items()}
    save_file(half, pair[0] / "model.safetensors", metadata={"format": "pt"})
    name = "model.norm.weight"
    weights[name] = weights[name] * 1e30
    shutil.copytree(pair[0], tmp_path / "c")
    save_file(weights, tmp_path / "c/model.safetensors", metadata={"format": "pt"})
    with pytest.raises(NumericalError, match=f"{name}.*float16 cannot hold"):
        merge([(pair[0], 0.5), (tmp_path / "c", 0.5)], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_command_merges_and_refuses_in_one_line(pair, tmp_path):
    a, b = pair
    result = tsdi("merge", f"{a}=0.75", f"{b}=0.25", "--out", tmp_path / "out")
    assert result.exit_code == 0, result.output
    expected = mean64(pair, (0.75, 0.25))["model.norm.weight"].float()
    torch.testing.assert_close(tensors(tmp_path / "out")["model.norm.weight"], expected)
    made = merge([(a, 0.75), (b, 0.25)], tmp_path / "python")
    files = {path.name: path.read_bytes() for path in made.iterdir()}
    assert files == {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    for weights, word in (("", "has no weight"), ("=a", "has no weight"), ("=", "has no weight")):
        result = tsdi("merge", f"{a}=1", f"{b}{weights}", "--out", tmp_path / "other")
        assert result.exit_code == 2
        assert word in result.stderr
