"""The planted organism: an estimate must return what was planted."""

import pytest
import torch
from transformers import AutoTokenizer

from tsdi.bias import Estimation, TokenPool, estimate_bias
from tsdi.errors import UsageError
from tsdi.models.shipped import folder
from tsdi.organism.load import load_organism, planted_vector


def test_the_estimate_returns_the_planted_vector() -> None:
    tokenizer = AutoTokenizer.from_pretrained(folder("reference"))
    bias = estimate_bias(
        load_organism("planted"),
        load_organism("reference"),
        tokenizer,
        Estimation(
            prompts=32,
            steps=4,
            pool=TokenPool.from_tokenizer(tokenizer),
        ),
    )
    planted = planted_vector()
    expected = (planted - planted.mean()).expand_as(bias.values)
    torch.testing.assert_close(bias.values, expected, atol=1e-5, rtol=0)
    assert float(bias.standard_error.max()) < 1e-5


def test_an_unknown_model_is_refused() -> None:
    with pytest.raises(UsageError, match="clean"):
        load_organism("tuned")
