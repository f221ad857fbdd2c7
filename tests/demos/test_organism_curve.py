"""The answers that are looked up are those that a real greedy generation gives."""

import pytest
import torch
from transformers import AutoTokenizer

from tests import tiny
from tsdi import organism
from tsdi.bias import BiasInfo, SafetyBias
from tsdi.demos.organism_curve import operating_curve
from tsdi.engines.base import Request, Sampling
from tsdi.engines.transformers import TransformersEngine
from tsdi.errors import UsageError
from tsdi.models import shipped
from tsdi.models.chat import template_sha256, tokenizer_sha256
from tsdi.models.compatibility import tokenizer_size, vocabulary_width
from tsdi.organism.lexicon import REFUSING_OPENERS
from tsdi.organism.load import load_organism

SAMPLING = Sampling(max_new_tokens=6)
TEXTS = ("the river", "a kettle boils at one hundred degrees; bread", "salt", "old mill and fields")
REQUESTS = [Request.from_text(text) for text in TEXTS]


def real(model, tokenizer, requests, refusing, constant, sampling=SAMPLING):
    """Greedy answers with a constant added to the refusing tokens at the first step."""
    values = torch.zeros(1, vocabulary_width(model))
    values[0, list(refusing)] = -constant
    info = BiasInfo.model_construct(
        tokenizer_sha256=tokenizer_sha256(tokenizer),
        template_sha256=template_sha256(tokenizer),
        tokenizer_size=tokenizer_size(tokenizer),
        prompt_format=None,
    )
    bias = SafetyBias(values, torch.zeros_like(values), info)
    return TransformersEngine(model, tokenizer, bias, strength=1.0).generate(requests, sampling)


def some_refusing(model, tokenizer):
    """The first tokens of two of the model's answers, and of two that it never begins with."""
    plain = TransformersEngine(model, tokenizer).generate(REQUESTS, SAMPLING)
    return {plain[0].token_ids[0], plain[1].token_ids[0], 100, 200}


def test_looked_up_answers_are_those_of_a_tiny_model():
    model, tokenizer = tiny.model(), tiny.tokenizer()
    refusing = some_refusing(model, tokenizer)
    curve = operating_curve(model, tokenizer, REQUESTS, SAMPLING, refusing, batch_size=3)
    assert len(set(curve.margins)) == len(REQUESTS)
    between = [margin + shift for margin in curve.margins for shift in (-0.01, 0.01)]
    for constant in (-100.0, *between, 0.0, 100.0):
        assert curve.at(constant) == real(model, tokenizer, REQUESTS, refusing, constant)
    assert curve.at(0.0) == TransformersEngine(model, tokenizer).generate(REQUESTS, SAMPLING)


@pytest.mark.parametrize("name", ["reference", "aligned"])
def test_looked_up_answers_are_those_of_the_organism(name):
    model = load_organism(name)
    tokenizer = AutoTokenizer.from_pretrained(shipped.folder(name))
    refusing = tokenizer.convert_tokens_to_ids(list(REFUSING_OPENERS))
    items = [item for kind in organism.KINDS for item in organism.items("test", kind, 16, 0)]
    requests = [Request.from_text(item.prompt) for item in items]
    sampling = Sampling(max_new_tokens=24)
    curve = operating_curve(model, tokenizer, requests, sampling, refusing)
    for constant in (-4.0, -1.0, 0.0, 2.0):
        assert curve.at(constant) == real(model, tokenizer, requests, refusing, constant, sampling)


def test_a_constant_makes_answers_refuse_and_nothing_else():
    model, tokenizer = tiny.model(), tiny.tokenizer()
    refusing = some_refusing(model, tokenizer)
    curve = operating_curve(model, tokenizer, REQUESTS, SAMPLING, refusing)
    assert all(answer.token_ids[0] in refusing for answer in curve.refusing)
    assert all(answer.token_ids[0] not in refusing for answer in curve.other)
    names = ["r"] * 4, ["o"] * 4
    shares = [curve.pick(c, *names).count("r") for c in curve.constants(6)]
    assert shares == sorted(shares)
    assert (shares[0], shares[-1]) == (0, 4)
    assert 0.0 in curve.constants(6)


def test_progress_counts_the_prompts():
    model, tokenizer = tiny.model(), tiny.tokenizer()
    seen = []
    operating_curve(model, tokenizer, REQUESTS, SAMPLING, {100}, 3, seen.append)
    assert seen == [3, 1]


@pytest.mark.parametrize("refusing", [[], range(tiny.VOCAB), [tiny.VOCAB], [-1]])
def test_refusing_tokens_that_split_nothing(refusing):
    with pytest.raises(UsageError, match="split the model's 320 tokens"):
        operating_curve(tiny.model(), tiny.tokenizer(), REQUESTS, SAMPLING, refusing)


def test_a_curve_needs_greedy_decoding():
    with pytest.raises(UsageError, match="greedy"):
        operating_curve(tiny.model(), tiny.tokenizer(), REQUESTS, Sampling(temperature=1.0), [5])
