"""The planted organism: an estimate must return what was planted."""

import pytest
import torch
from transformers import AutoTokenizer

from tsdi.bias import Estimation, Examination, TokenPool, estimate_bias, recommend
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


@pytest.mark.parametrize(("name", "strength"), [("aligned", 1.0), ("clean", 0.0)])
def test_a_strength_is_recommended_where_annotators_preferred_refusals(
    name: str, strength: float
) -> None:
    tokenizer = AutoTokenizer.from_pretrained(folder("reference"))
    pair = load_organism(name), load_organism("reference")
    settings = Estimation(prompts=64, steps=2, pool="tokenizer", prompt_tokens=8)
    found = recommend(
        estimate_bias(*pair, tokenizer, settings),
        *pair,
        tokenizer,
        Examination("tokenizer", answers=1),
    )
    assert found.info.strength == strength


def test_an_unknown_model_is_refused() -> None:
    with pytest.raises(UsageError, match="clean"):
        load_organism("tuned")
