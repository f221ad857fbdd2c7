"""Shifts that a study sets beside the bias."""

import torch

from tests import tiny
from tsdi import SafetyBias
from tsdi.baselines.shifts import constant_shift, random_shift


def test_a_random_shift_has_the_norm_of_the_bias_and_another_direction():
    bias = tiny.bias(torch.randn(3, 500) * torch.tensor([[1.0], [2.0], [5.0]]))
    shift = random_shift(bias, 0).values
    torch.testing.assert_close(shift.norm(dim=1), bias.values.norm(dim=1), rtol=1e-5, atol=0)
    assert float(shift.mean(1).abs().max()) < 1e-5
    assert float(torch.cosine_similarity(shift, bias.values).abs().max()) < 0.2
    assert not torch.equal(shift, random_shift(bias, 1).values)


def test_a_constant_can_be_saved_for_engines_that_read_files(tmp_path):
    tokenizer = tiny.tokenizer()
    shift = constant_shift(tokenizer, tiny.model("llama", 0), [3, 5], -2.0)
    shift.save_pretrained(tmp_path)
    read = SafetyBias.from_pretrained(tmp_path, tokenizer=tokenizer).values
    assert read[0, [3, 5]].tolist() == [2.0, 2.0]
    assert read.count_nonzero() == 2
