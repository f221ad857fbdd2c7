"""Directions of refusal: their means, and ablation against orthogonalised weights."""

import copy

import pytest
import torch

from tests import tiny
from tsdi.baselines.directions import (
    AblatedEngine,
    ablated,
    false_refusal_direction,
    mean_activations,
    refusal_direction,
)
from tsdi.engines.base import Request, Sampling
from tsdi.engines.transformers import TransformersEngine
from tsdi.errors import ModelError, NumericalError

MODEL = tiny.model("llama")
PROMPTS = [[7, 8, 9], [30, 31], [100, 7, 50, 60, 70]]


def direction(seed=0):
    drawn = torch.randn(32, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return drawn / drawn.norm()


@torch.no_grad()
def test_the_mean_is_over_last_tokens_without_padding():
    found = mean_activations(MODEL, PROMPTS)
    assert len(found) == 3  # before and after each of two layers
    for layer in range(3):
        rows = [
            MODEL(torch.tensor([ids]), output_hidden_states=True).hidden_states[layer][0, -1]
            for ids in PROMPTS
        ]
        assert torch.allclose(found[layer], torch.stack(rows).double().mean(0), atol=1e-5)


def orthogonalised(model, along):
    """A float64 copy whose writing matrices have the direction taken out by hand."""
    made = copy.deepcopy(model).double()
    project = torch.eye(32, dtype=torch.float64) - torch.outer(along, along)
    with torch.no_grad():
        made.model.embed_tokens.weight.copy_(made.model.embed_tokens.weight @ project)
        for layer in made.model.layers:
            for writer in (layer.self_attn.o_proj, layer.mlp.down_proj):
                writer.weight.copy_(project @ writer.weight)
    return made


def test_half_the_strength_is_half_of_what_is_written_and_none_is_the_model_itself():
    along, rows = direction(), tiny.ids(3, 9)
    before = tiny.logits(MODEL, rows, 9)
    with ablated(MODEL, along, 0.0):
        assert torch.equal(tiny.logits(MODEL, rows, 9), before)
    outputs = {}
    for strength in (0.5, 1.0):
        with ablated(MODEL, along, strength):
            outputs[strength] = MODEL.model.embed_tokens(rows).double()
    own = MODEL.model.embed_tokens(rows).double()
    assert torch.allclose(own - outputs[0.5], (own - outputs[1.0]) / 2, atol=1e-7)


def test_ablation_is_what_orthogonalised_weights_do():
    along, rows = direction(), tiny.ids(3, 9)
    before = tiny.logits(MODEL, rows, 9)
    with ablated(MODEL, along):
        found = tiny.logits(MODEL, rows, 9)
    expected = tiny.logits(orthogonalised(MODEL, along), rows, 9)
    assert tiny.error(found, expected) < 1e-5
    assert tiny.error(found, before) > 1e-2
    assert torch.equal(tiny.logits(MODEL, rows, 9), before)  # untouched afterwards


def test_the_engine_answers_with_the_ablated_model():
    tokenizer, along = tiny.tokenizer(), direction()
    requests = [Request.from_text("the mill"), Request.from_text("bread and salt")]
    sampling = Sampling(max_new_tokens=4)
    found = AblatedEngine(MODEL, tokenizer, along).generate(requests, sampling)
    by_hand = TransformersEngine(orthogonalised(MODEL, along), tokenizer)
    assert found == by_hand.generate(requests, sampling)


def test_directions_are_unit_vectors_and_false_refusal_leaves_refusal_alone():
    harmful, harmless, lookalike = (torch.randn(32, dtype=torch.float64) for _ in range(3))
    refusal = refusal_direction(harmful, harmless)
    assert torch.allclose(refusal * (harmful - harmless).norm(), harmful - harmless)
    found = false_refusal_direction(lookalike, harmless, refusal)
    assert float(found.norm()) == pytest.approx(1)
    assert float(found @ refusal) == pytest.approx(0, abs=1e-12)
    rest = (lookalike - harmless) - found * ((lookalike - harmless) @ found)
    assert torch.allclose(rest, refusal * (rest @ refusal))  # nothing else was taken out


def test_prompts_that_do_not_differ_have_no_direction():
    same = torch.ones(32, dtype=torch.float64)
    with pytest.raises(NumericalError, match="direction"):
        refusal_direction(same, same)


def test_other_architectures_are_refused():
    with pytest.raises(ModelError, match="Llama-like"), ablated(tiny.model("gpt2"), direction()):
        pass
