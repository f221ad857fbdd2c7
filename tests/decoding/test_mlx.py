"""The MLX processor, on the CPU."""

import pytest
import torch

from tests import tiny
from tests.engines import cases
from tsdi.bias import SafetyBias
from tsdi.engines.base import Request, Sampling
from tsdi.errors import UsageError
from tsdi.models.chat import encode_chat

pytestmark = pytest.mark.skipif("mlx" in cases.NOT_RUN, reason="mlx is not installed, so not run")


@pytest.fixture(scope="module")
def model():
    from mlx_lm import load

    return load(str(cases.folder()))[0]


def generate(model, ids, processors=(), tokens=6, **options):
    import mlx.core as mx
    from mlx_lm.generate import generate_step

    made = generate_step(
        mx.array(ids), model, max_tokens=tokens, logits_processors=list(processors), **options
    )
    return [int(token) for token, _ in made]


def prompt(text):
    return encode_chat(tiny.tokenizer(), [{"role": "user", "content": text}])


@pytest.mark.parametrize("strength", [0.0, 0.5, 1.0])
def test_greedy_tokens_are_those_of_transformers(model, strength):
    from tsdi.decoding.mlx import SafetyDebias

    values = torch.randn(3, tiny.VOCAB, generator=torch.Generator().manual_seed(5)) * 3
    engine, _ = cases.make("transformers", values, strength)
    for text in ("bread", "the old mill", "a kettle boils at one hundred degrees", "bread"):
        (expected,) = engine.generate([Request.from_text(text)], Sampling(max_new_tokens=6))
        found = generate(model, prompt(text), [SafetyDebias(tiny.bias(values), strength)])
        assert tuple(found) == expected.token_ids


def test_a_condition_sets_the_strength_of_each_prompt(model):
    from tsdi.decoding.mlx import SafetyDebias

    values = torch.randn(3, tiny.VOCAB, generator=torch.Generator().manual_seed(5)) * 3
    bias = tiny.bias(values).with_condition(tiny.condition())
    engine, _ = cases.make("transformers", values, condition=tiny.condition())
    for text in ("bread", "the old mill", "a kettle boils at one hundred degrees"):
        (expected,) = engine.generate([Request.from_text(text)], Sampling(max_new_tokens=6))
        found = generate(model, prompt(text), [SafetyDebias(bias)])
        assert tuple(found) == expected.token_ids


def test_a_slope_follows_the_logits(model):
    from tsdi.decoding.mlx import SafetyDebias

    values = torch.randn(3, tiny.VOCAB, generator=torch.Generator().manual_seed(5)) * 3
    known = tiny.bias(values)
    bias = SafetyBias(values, known.standard_error, known.info, slope=tiny.slope(scale=3))
    engine, _ = cases.make("transformers", values, slope=tiny.slope(scale=3))
    for text in ("bread", "the old mill", "a kettle boils at one hundred degrees"):
        (expected,) = engine.generate([Request.from_text(text)], Sampling(max_new_tokens=6))
        found = generate(model, prompt(text), [SafetyDebias(bias, 1.0)])
        assert tuple(found) == expected.token_ids


def test_a_prompt_that_is_read_in_parts_begins_at_its_end(model):
    from tsdi.decoding.mlx import SafetyDebias

    forced = torch.zeros(3, tiny.VOCAB)
    forced[torch.arange(3), torch.arange(10, 13)] = -1000
    long = prompt("the river runs past the old mill and the fields")
    found = generate(model, long, [SafetyDebias(tiny.bias(forced), 1.0)], prefill_step_size=4)
    assert found[:3] == [10, 11, 12]


def test_one_for_two_answers_is_refused(model):
    from tsdi.decoding.mlx import SafetyDebias

    rule = SafetyDebias(tiny.bias(torch.zeros(3, tiny.VOCAB)), 1.0)
    generate(model, prompt("bread"), [rule])
    with pytest.raises(UsageError, match="second answer"):
        generate(model, prompt("the old mill and the fields"), [rule])


def test_a_second_prompt_of_just_the_length_that_was_due_is_refused_too():
    import mlx.core as mx

    from tsdi.decoding.mlx import SafetyDebias

    rule = SafetyDebias(tiny.bias(torch.ones(4, 5)), 1.0)
    for length in (3, 4, 5):
        rule(mx.arange(length), mx.zeros((1, 5)))
    with pytest.raises(UsageError, match="second answer"):
        rule(mx.arange(6) + 1, mx.zeros((1, 5)))


def test_an_anchored_bias_is_refused():
    from tsdi.decoding.mlx import SafetyDebias

    with pytest.raises(UsageError, match="</think>"):
        SafetyDebias(tiny.bias(anchor="</think>"))


def test_padding_columns_stay():
    import mlx.core as mx

    from tsdi.decoding.mlx import SafetyDebias

    rule = SafetyDebias(tiny.bias(torch.ones(2, 4)), 1.0)
    found = rule(mx.array([1, 2, 3]), mx.zeros((1, 6)))
    assert found.tolist() == [[-1.0] * 4 + [0.0] * 2]
