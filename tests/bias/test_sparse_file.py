"""A bias of few tokens is kept in few bytes, and read as it was; old files are read as ever."""

import json

import pytest
import safetensors.torch
import torch

from tests import tiny
from tests.bias.test_format import CONFIG, TENSORS, refused, write
from tsdi.bias import SafetyBias

TOKENS = torch.tensor([[0, 3], [1, 2]], dtype=torch.int32)
PARTS = {
    "bias": torch.tensor([[1.0, -1.0], [0.5, -0.5]]),
    "error": torch.full((2, 2), 0.25),
    "bias_tokens": TOKENS,
}
SPARSE = {"format_version": 5, "vocab": 4, "tokens_per_step": 2}


def saved(bias, folder):
    bias.save_pretrained(folder)
    return json.loads((folder / CONFIG).read_text()), (folder / TENSORS).stat().st_size


def test_the_top_tokens_take_a_fraction_of_the_bytes(tmp_path):
    whole = tiny.bias()
    top = whole.top_k(10)
    config, size = saved(top, tmp_path / "top")
    plain, dense_size = saved(whole, tmp_path / "whole")
    assert (config["format_version"], config["tokens_per_step"]) == (5, 10)
    assert plain["format_version"] == 2
    assert "tokens_per_step" not in plain
    assert size < dense_size / 10
    read = SafetyBias.from_pretrained(tmp_path / "top")
    assert torch.equal(read.values, top.values)
    assert torch.equal(read.standard_error, top.standard_error)
    assert read.sha256 == top.sha256 == top.scale(-1).scale(-1).sha256


def test_rows_may_have_fewer_tokens_than_the_longest(tmp_path):
    values = torch.zeros(2, 9)
    values[0, 8], values[0, 1], values[1, 4] = 1.0, -1.0, 0.5
    error = torch.zeros(2, 9)
    error[1, 0] = 0.125  # of a token whose value is 0
    tiny.bias(values, error).save_pretrained(tmp_path)
    tokens = safetensors.torch.load_file(tmp_path / TENSORS)["bias_tokens"]
    assert tokens.tolist() == [[1, 8], [0, 4]]
    read = SafetyBias.from_pretrained(tmp_path)
    assert torch.equal(read.values, values)
    assert torch.equal(read.standard_error, error)


def test_a_bias_of_zeros_is_kept(tmp_path):
    tiny.bias(torch.zeros(2, 9)).save_pretrained(tmp_path)
    assert not SafetyBias.from_pretrained(tmp_path).values.any()


@pytest.mark.parametrize("kept", [6, 9])
def test_where_many_tokens_count_all_are_kept(tmp_path, kept):
    values = torch.zeros(1, 9)
    values[0, :kept] = 1
    config, _ = saved(tiny.bias(values), tmp_path)
    assert config["format_version"] == 2


def test_it_may_have_a_condition(tmp_path):
    bias = tiny.bias().top_k(5).with_condition(tiny.condition())
    config, _ = saved(bias, tmp_path)
    assert config["format_version"] == 5
    assert SafetyBias.from_pretrained(tmp_path).condition.tokens.equal(bias.condition.tokens)


def test_a_file_by_hand_is_read(tmp_path):
    read = SafetyBias.from_pretrained(write(tmp_path, PARTS, **SPARSE))
    assert read.values.tolist() == [[1, 0, 0, -1], [0, 0.5, -0.5, 0]]
    assert read.standard_error.tolist() == [[0.25, 0, 0, 0.25], [0, 0.25, 0.25, 0]]


@pytest.mark.parametrize(
    ("tensors", "changes", "message"),
    [
        ({"bias_tokens": TOKENS.long()}, {}, "must be there as int32"),
        ({"bias_tokens": TOKENS[:1]}, {}, "must be there as int32"),
        ({"bias_tokens": TOKENS.flip(1)}, {}, "must ascend"),
        ({"bias_tokens": TOKENS * 0}, {}, "must ascend"),
        ({"bias_tokens": TOKENS - 1}, {}, "from 0 to 3"),
        ({"bias_tokens": TOKENS + 1}, {}, "from 0 to 3"),
        ({"bias": PARTS["bias"][:, :1]}, {}, r"\(2, 1\).* says \(2, 2\)"),
        ({"error": -PARTS["error"]}, {}, "negative"),
        ({}, {"tokens_per_step": 3}, r"says \(2, 3\)"),
        ({}, {"tokens_per_step": 0}, "'tokens_per_step' must be"),
        ({}, {"tokens_per_step": True}, "'tokens_per_step' must be"),
        ({}, {"tokens_per_step": "2"}, "'tokens_per_step' must be"),
        ({}, {"tokens_per_step": None}, "not that of its fields"),
        ({}, {"format_version": 2}, "not that of its fields"),
        ({}, {"vocab": 2**40}, "more than 268,435,456 numbers"),
    ],
)
def test_what_is_refused(tmp_path, tensors, changes, message):
    refused(write(tmp_path, PARTS | tensors, **(SPARSE | changes)), message)


def test_tokens_must_be_there(tmp_path):
    tensors = {name: PARTS[name] for name in ("bias", "error")}
    refused(write(tmp_path, tensors, **SPARSE), "must be there as int32")
