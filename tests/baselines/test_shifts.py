"""Shifts that a study sets beside the bias."""

import torch

from tests import tiny
from tsdi.baselines.shifts import random_shift


def test_a_random_shift_has_the_norm_of_the_bias_and_another_direction():
    bias = tiny.bias(torch.randn(3, 500) * torch.tensor([[1.0], [2.0], [5.0]]))
    shift = random_shift(bias, 0).values
    torch.testing.assert_close(shift.norm(dim=1), bias.values.norm(dim=1), rtol=1e-5, atol=0)
    assert float(shift.mean(1).abs().max()) < 1e-5
    assert float(torch.cosine_similarity(shift, bias.values).abs().max()) < 0.2
    assert not torch.equal(shift, random_shift(bias, 1).values)
