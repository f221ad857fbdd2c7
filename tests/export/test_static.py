"""Static forms of a bias, and how far they say that they are from the rule."""

import json
import math
from dataclasses import replace

import pytest
import torch

from tests import tiny
from tsdi.bias import SafetyBias
from tsdi.decoding.rule import subtract_bias
from tsdi.engines.base import Request, Sampling
from tsdi.engines.transformers import TransformersEngine
from tsdi.errors import ModelError, UsageError
from tsdi.export.edited_head import edited_head
from tsdi.export.static import (
    as_vector,
    divergence,
    logit_bias,
    rule_answers,
    static_vector,
    write_logit_bias,
)
from tsdi.models.load import LoadOptions, load_model

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


def compare(model, bias, strength, vector, requests=REQUESTS, tokens=5):
    texts = rule_answers(model, TOKENIZER, bias, strength, requests, tokens, batch_size=2)
    return divergence(model, bias, strength, vector, texts)


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
        found = compare(model, bias, 0.7, vector)
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
        found = compare(tiny.model("llama"), bias, 1.0, vector)
        assert [one.value for one in found.by_step[:3]] == pytest.approx([0, 0, 0], abs=1e-6)
        assert found.by_step[3].value > 1e-3  # where the rule has ended, the static shift has not

    def test_its_interval_does_not_reach_below_0(self):
        vector = static_vector(tiny.bias(), 1.0)
        found = compare(tiny.model("llama"), tiny.bias(), 1.0, vector, REQUESTS[:2])
        assert min(one.low for one in (*found.by_step, found.total)) >= 0

    def test_no_prompts_are_refused(self):
        bias = tiny.bias()
        with pytest.raises(UsageError, match="no prompts"):
            compare(tiny.model("llama"), bias, 1.0, torch.zeros(3), [])


class TestAnEditedHead:
    """A bias of first order as weights: its logits are the rule's wherever its constant is one."""

    def sloped(self, steps=1, order=1):
        values = torch.randn(steps, tiny.VOCAB, generator=torch.Generator().manual_seed(4))
        known = tiny.bias(values)
        slope = tiny.slope(steps=steps, scale=0.3) if order else None
        return SafetyBias(values, known.standard_error, known.info, slope=slope)

    def texts(self, model, bias):
        words = tiny.TEXT.split()
        asked = [Request.from_text(" ".join(words[n : n + m])) for n in range(29) for m in range(5)]
        return rule_answers(model, TOKENIZER, bias, 0.5, asked, 6)

    @pytest.mark.parametrize(
        ("kind", "options", "order"),
        [
            ("phi", {}, 1),  # with a bias in the head
            ("llama", {"tie_word_embeddings": False}, 0),
            ("llama", {"tie_word_embeddings": False}, 1),
            ("llama", {"tie_word_embeddings": True}, 1),
        ],
    )
    def test_it_is_close_to_the_rule_on_other_prompts(self, kind, options, order, tmp_path):
        model, bias = tiny.model(kind, **options), self.sloped(2, order)
        texts = self.texts(model, bias)
        changed = edited_head(model, bias, 0.5, texts[::2])
        changed.save_pretrained(tmp_path)
        again = load_model(str(tmp_path), LoadOptions("float32"))
        embeddings = model.get_input_embeddings().weight
        assert torch.equal(again.get_input_embeddings().weight, embeddings)
        whole = [one for one in texts[1::2] if one[1] >= bias.steps]
        first = [(ids[: len(ids) - answer + 2], 2) for ids, answer in whole]
        found, plain = (
            divergence(model, bias, 0.5, form, first) for form in (again, torch.zeros(tiny.VOCAB))
        )
        assert found.total.value < 0.5 * plain.total.value

    def test_without_constants_it_is_exact(self):
        model, bias = tiny.model("phi"), self.sloped()
        slope = bias.slope
        with torch.no_grad():
            model.lm_head.bias.zero_()
        bias = SafetyBias(
            bias.values * 0, bias.standard_error, bias.info,
            slope=replace(slope, centre=slope.centre * 0),
        )  # fmt: skip
        changed = edited_head(model, bias, 0.5, self.texts(model, bias)[:2])
        ids = tiny.ids()
        with torch.no_grad():
            before, after = model(ids).logits[:, -1], changed(ids).logits[:, -1]
        expected = subtract_bias(before, 0, bias.shift, 0.5)
        torch.testing.assert_close(after, expected, rtol=0, atol=1e-4)

    def test_logits_that_are_changed_behind_the_head_are_refused(self):
        model = tiny.model("llama")
        model.config.logit_scale = 0.5
        with pytest.raises(ModelError, match="logit_scale"):
            edited_head(model, self.sloped(), 1.0, [])
