"""The mixing engine: its logits are those of full forward passes, whatever the cache does."""

import copy

import pytest
import torch

from tests import tiny
from tsdi.baselines import mixing
from tsdi.baselines.engine import (
    adacd_engine,
    dera_engine,
    proxy_engine,
    safe_decoding_engine,
    self_contrast_engine,
)
from tsdi.baselines.prompting import demand_refusal, emphasise_safety
from tsdi.decoding.prompt_states import PromptStates
from tsdi.engines.base import Request, Sampling
from tsdi.engines.transformers import TransformersEngine
from tsdi.errors import MismatchError
from tsdi.models.chat import encode_chat

TOKENIZER = tiny.tokenizer()
ALIGNED = tiny.model("llama", max_position_embeddings=512)
REFERENCE, OTHER = (tiny.moved(ALIGNED, seed=seed) for seed in (1, 2))
TEXTS = ("the mill", "wheat and barley every summer day", "bread needs flour")
REQUESTS = [Request.from_text(text) for text in TEXTS]
SAMPLING = Sampling(max_new_tokens=5, keep_logits=True)


def as_it_is(messages):
    return messages


def slow(branches, combine, request, answer):
    """Logits that predict each token of an answer: full passes in float64, row by row."""
    rows = []
    for model, transform in branches:
        prompt = encode_chat(TOKENIZER, transform(request.messages))
        ids = torch.tensor([[*prompt, *answer]])[:, :-1]
        rows.append(tiny.logits(copy.deepcopy(model).double(), ids, len(answer))[0])
    return torch.stack([combine([row[i : i + 1] for row in rows])[0] for i in range(len(answer))])


ENGINES = {
    "dera": (
        dera_engine(ALIGNED, REFERENCE, TOKENIZER, 0.4),
        [(ALIGNED, as_it_is), (REFERENCE, as_it_is)],
        lambda logits: mixing.realign(*logits, 0.4),
    ),
    "proxy": (
        proxy_engine(REFERENCE, ALIGNED, OTHER, TOKENIZER, 1.5),
        [(REFERENCE, as_it_is), (ALIGNED, as_it_is), (OTHER, as_it_is)],
        lambda logits: mixing.proxy_tune(*logits, 1.5),
    ),
    "self-contrast": (
        self_contrast_engine(ALIGNED, TOKENIZER, 2.5),
        [(ALIGNED, emphasise_safety), (ALIGNED, as_it_is)],
        lambda logits: mixing.self_contrast(*logits, 2.5),
    ),
}


@pytest.mark.parametrize("name", ENGINES)
def test_logits_are_those_of_full_passes(name):
    engine, branches, combine = ENGINES[name]
    for request, answer in zip(REQUESTS, engine.generate(REQUESTS, SAMPLING), strict=True):
        expected = slow(branches, combine, request, list(answer.token_ids))
        assert torch.allclose(answer.logits.double(), expected, atol=1e-4)
        assert answer.token_ids == tuple(expected.argmax(-1).tolist())


def test_adacd_ends_after_its_steps():
    engine = adacd_engine(ALIGNED, TOKENIZER, 4.5, steps=2)
    for request, answer in zip(REQUESTS, engine.generate(REQUESTS, SAMPLING), strict=True):
        ids = list(answer.token_ids)
        both = [(ALIGNED, as_it_is), (ALIGNED, demand_refusal)]
        mixed = slow(both, lambda x: mixing.adaptive_contrast(x[1], x[0], 4.5), request, ids)
        alone = slow(both[:1], lambda x: x[0], request, ids)
        allowed = mixed[:2] > mixing.EXCLUDED
        assert torch.allclose(answer.logits[:2].double()[allowed], mixed[:2][allowed], atol=1e-3)
        assert torch.allclose(answer.logits[2:].double(), alone[2:], atol=1e-4)


def test_safe_decoding_ends_after_its_steps():
    engine = safe_decoding_engine(REFERENCE, ALIGNED, TOKENIZER, 2.0, steps=2, common=5)
    for request, answer in zip(REQUESTS, engine.generate(REQUESTS, SAMPLING), strict=True):
        ids = list(answer.token_ids)
        both = [(REFERENCE, as_it_is), (ALIGNED, as_it_is)]
        mixed = slow(both, lambda x: mixing.safe_decode(*x, 2.0, 5), request, ids)
        alone = slow(both[:1], lambda x: x[0], request, ids)
        allowed = mixed[:2] > mixing.EXCLUDED
        assert torch.allclose(answer.logits[:2].double()[allowed], mixed[:2][allowed], atol=1e-3)
        assert (answer.logits[:2][~allowed] <= mixing.EXCLUDED).all()
        assert torch.allclose(answer.logits[2:].double(), alone[2:], atol=1e-4)


@pytest.mark.parametrize(("weight", "model"), [(1.0, ALIGNED), (0.0, REFERENCE)])
def test_dera_ends_at_both_models(weight, model):
    mixed = dera_engine(ALIGNED, REFERENCE, TOKENIZER, weight).generate(REQUESTS, SAMPLING)
    assert mixed == TransformersEngine(model, TOKENIZER).generate(REQUESTS, SAMPLING)


def test_neighbours_in_the_batch_do_not_matter():
    engine = ENGINES["self-contrast"][0]
    alone = [engine.generate([request], SAMPLING)[0] for request in REQUESTS]
    assert engine.generate(REQUESTS, SAMPLING) == alone


def test_models_of_other_vocabularies_are_refused():
    wide = tiny.model("llama", vocab_size=tiny.VOCAB - 40)
    with pytest.raises(MismatchError):
        dera_engine(ALIGNED, wide, TOKENIZER, 0.5)


def test_prompts_that_were_read_before_are_answered_the_same():
    states = PromptStates(ALIGNED), PromptStates(REFERENCE)
    usual = dera_engine(ALIGNED, REFERENCE, TOKENIZER, 0.4).generate(REQUESTS, SAMPLING)
    for _ in range(2):
        engine = dera_engine(ALIGNED, REFERENCE, TOKENIZER, 0.4, states=states)
        for one, other in zip(engine.generate(REQUESTS, SAMPLING), usual, strict=True):
            assert one.token_ids == other.token_ids
            torch.testing.assert_close(one.logits, other.logits, rtol=1e-4, atol=1e-4)
