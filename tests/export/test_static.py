"""Static forms of a bias, and how far they say that they are from the rule."""

import json
import math

import pytest
import torch

from tests import tiny
from tsdi.engines.base import Request, Sampling
from tsdi.engines.transformers import TransformersEngine
from tsdi.errors import ModelError, UsageError
from tsdi.export.static import (
    as_vector,
    divergence,
    logit_bias,
    shifted_head,
    static_vector,
    write_logit_bias,
)

REQUESTS = [Request.from_text(text) for text in ("bread", "the old mill", "a kettle boils")]
TOKENIZER = tiny.tokenizer()


def test_the_vector_is_minus_the_mean_over_steps():
    bias = tiny.bias(torch.tensor([[1.0, 3.0], [3.0, 5.0]]).repeat(1, tiny.VOCAB // 2))
    assert static_vector(bias, 0.5)[:2].tolist() == [0.5, -0.5]


class TestLogitBias:
    VECTOR = torch.tensor([0.5, -200.0, 3.0, 0.0, -4.0])

    def test_the_furthest_tokens_are_kept_within_the_limit(self):
        assert logit_bias(self.VECTOR, 3, 100.0) == {1: -100.0, 4: -4.0, 2: 3.0}

    def test_tokens_that_are_not_moved_are_left_out(self):
        assert 3 not in logit_bias(self.VECTOR, 5, 100.0)

    @pytest.mark.parametrize(("top", "limit"), [(0, 1.0), (1, 0.0)])
    def test_nothing_to_take_is_refused(self, top, limit):
        with pytest.raises(UsageError, match="above 0"):
            logit_bias(self.VECTOR, top, limit)

    def test_the_file_is_what_a_request_takes(self, tmp_path):
        write_logit_bias(tmp_path / "x.json", {7: 1.5})
        assert (tmp_path / "x.json").read_text() == '{"logit_bias": {"7": 1.5}}\n'
        write_logit_bias(tmp_path / "y.json", {7: 1.5}, {"enable_thinking": False})
        found = json.loads((tmp_path / "y.json").read_text())
        assert found == {
            "logit_bias": {"7": 1.5},
            "chat_template_kwargs": {"enable_thinking": False},
        }

    def test_the_vector_of_a_file_is_what_it_adds(self):
        vector = as_vector({1: -2.0}, 3)
        assert vector.tolist() == [0.0, -2.0, 0.0]


class TestTheHead:
    def test_logits_are_shifted_and_nothing_else(self):
        model = tiny.model("phi")
        vector = torch.randn(tiny.VOCAB, generator=torch.Generator().manual_seed(0))
        changed = shifted_head(model, vector)
        ids = tiny.ids()
        with torch.no_grad():
            before, after = model(ids).logits, changed(ids).logits
        torch.testing.assert_close(after, before + vector, rtol=0, atol=1e-5)

    def test_a_head_without_a_bias_is_refused(self):
        with pytest.raises(ModelError, match="LlamaForCausalLM has no bias"):
            shifted_head(tiny.model("llama"), torch.zeros(tiny.VOCAB))

    def test_logits_that_are_changed_behind_the_head_are_refused(self):
        model = tiny.model("phi")
        model.config.logit_scale = 0.5
        with pytest.raises(ModelError, match="logit_scale"):
            shifted_head(model, torch.zeros(tiny.VOCAB))


def slow(model, bias, strength, vector, tokens):
    """KL(rule, static) by step, token by token in float64, over the rule's own answers."""
    engine = TransformersEngine(model, TOKENIZER, bias, strength)
    found = []
    for request in REQUESTS:
        plain = TransformersEngine(model, TOKENIZER)
        prompt = plain._encode(request, Sampling(max_new_tokens=1))
        answer = engine.generate([request], Sampling(max_new_tokens=tokens))[0].token_ids
        row = []
        for step in range(len(answer)):
            with torch.no_grad():
                logits = model(torch.tensor([[*prompt, *answer[:step]]])).logits[0, -1].double()
            rule = logits.clone()
            if step < bias.steps:
                rule -= strength * bias.values[step].double()
            static = (logits + vector.double()).softmax(0)
            rule = rule.softmax(0)
            row.append(
                sum(
                    float(p) * math.log(float(p) / float(q))
                    for p, q in zip(rule, static, strict=True)
                    if p
                )
            )
        found.append(row)
    return found


class TestDivergence:
    def test_it_equals_the_slow_computation(self):
        model, bias = tiny.model("llama"), tiny.bias()
        vector = as_vector(logit_bias(static_vector(bias, 0.7), 20, 1.0), tiny.VOCAB)
        found = divergence(model, TOKENIZER, bias, 0.7, vector, REQUESTS, 5, batch_size=2)
        rows = slow(model, bias, 0.7, vector, 5)
        for step, one in enumerate(found.by_step):
            known = [row[step] for row in rows if step < len(row)]
            assert one.n == len(known)
            assert one.value == pytest.approx(sum(known) / len(known), rel=1e-4)
        assert found.total.value == pytest.approx(sum(map(sum, rows)) / len(rows), rel=1e-4)

    def test_a_bias_that_is_the_same_at_every_step_costs_nothing_until_its_end(self):
        values = torch.randn(1, tiny.VOCAB, generator=torch.Generator().manual_seed(4))
        bias = tiny.bias((values - values.mean()).repeat(3, 1))
        vector = static_vector(bias, 1.0)
        found = divergence(tiny.model("llama"), TOKENIZER, bias, 1.0, vector, REQUESTS, 5)
        assert [one.value for one in found.by_step[:3]] == pytest.approx([0, 0, 0], abs=1e-6)
        assert found.by_step[3].value > 1e-3  # where the rule has ended, the static shift has not

    def test_its_interval_does_not_reach_below_0(self):
        vector = static_vector(tiny.bias(), 1.0)
        found = divergence(
            tiny.model("llama"), TOKENIZER, tiny.bias(), 1.0, vector, REQUESTS[:2], 5
        )
        assert min(one.low for one in (*found.by_step, found.total)) >= 0

    def test_no_prompts_are_refused(self):
        bias = tiny.bias()
        with pytest.raises(UsageError, match="no prompts"):
            divergence(tiny.model("llama"), TOKENIZER, bias, 1.0, torch.zeros(3), [], 5)
