"""One suite for every engine: the contract of tsdi.engines.base, executed."""

from dataclasses import replace
from functools import partial

import pytest
import torch

from tests import tiny
from tests.engines import cases
from tsdi.bias.knobs import Knobs, Strengths
from tsdi.engines.base import Request, Sampling
from tsdi.errors import MismatchError, PromptError

STEPS = 3
LONG = Request.from_text("the river runs past the old mill and the fields")
SHORT = Request.from_text("bread")


@pytest.fixture(params=list(cases.NEEDS))
def make(request):
    if request.param in cases.NOT_RUN:
        pytest.skip(f"{request.param} is not installed, so not run; see make test-engines")
    return partial(cases.make, request.param)


def _values(vocab, scale=1.0):
    values = torch.randn(STEPS, vocab, generator=torch.Generator().manual_seed(5)) * scale
    return values - values.mean(1, keepdim=True)


def _generate(engine, requests, **changes):
    return engine.generate(requests, Sampling(**{"max_new_tokens": 6, **changes}))


def test_logits_with_the_rule_are_logits_minus_strength_times_bias(make):
    plain, vocab = make(None)
    values = _values(vocab, scale=1e-4)  # too small to change a greedy choice, so prefixes agree
    debiased, _ = make(values, strength=0.5)
    before = _generate(plain, [LONG, SHORT], keep_logits=True)
    after = _generate(debiased, [LONG, SHORT], keep_logits=True)
    for one, other in zip(before, after, strict=True):
        assert one.token_ids == other.token_ids
        shift = torch.zeros(len(one.token_ids), vocab)
        shift[: min(STEPS, len(shift))] = 0.5 * values[: len(shift)]
        torch.testing.assert_close(other.logits, one.logits - shift, rtol=0, atol=1e-5)


def test_the_logits_of_some_tokens_are_among_those_of_all(make):
    engine, _ = make(None)
    some = torch.tensor([4, 9, 20])
    whole = _generate(engine, [LONG, SHORT], keep_logits=True)
    found = _generate(engine, [LONG, SHORT], keep_logits=True, logits_of=tuple(some.tolist()))
    for one, other in zip(whole, found, strict=True):
        assert one.token_ids == other.token_ids
        torch.testing.assert_close(one.logits[:, some], other.logits[:, some], rtol=0, atol=1e-5)


def test_greedy_decoding_follows_the_debiased_logits(make):
    _, vocab = make(None)
    values = torch.zeros(STEPS, vocab)
    values[torch.arange(STEPS), torch.arange(10, 10 + STEPS)] = -1000
    engine, _ = make(values)
    for completion in _generate(engine, [LONG, SHORT]):
        assert completion.token_ids[:STEPS] == (10, 11, 12)


def test_requests_of_one_batch_have_their_own_strength(make):
    _, vocab = make(None)
    values = _values(vocab, scale=5)
    engine, plain = make(values)[0], make(None)[0]
    mixed = _generate(engine, [Request(LONG.messages, strength=0.0), LONG, SHORT])
    assert mixed[0] == _generate(plain, [LONG])[0]
    assert mixed[1:] == _generate(engine, [LONG, SHORT])
    assert mixed[0] != mixed[1]


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_an_answer_does_not_depend_on_its_neighbours(make, temperature):
    engine, _ = make(None)
    batch = _generate(engine, [LONG, SHORT, LONG], temperature=temperature)
    alone = [_generate(engine, [r], temperature=temperature)[0] for r in (LONG, SHORT, LONG)]
    assert batch == alone


def test_the_seed_decides_sampled_text(make):
    engine, _ = make(None)
    texts = {
        seed: [_generate(engine, [LONG], temperature=1.5, seed=seed)[0].text for _ in range(2)]
        for seed in range(4)
    }
    assert all(one == two for one, two in texts.values())
    assert len({one for one, _ in texts.values()}) > 1


def test_sampling_draws_from_the_softmax(make):
    _, vocab = make(None)
    values = torch.full((1, vocab), 1000.0)
    values[0, [10, 11]] = torch.tensor([0.0, -1.0])  # two tokens are left
    engine, _ = make(values)
    logits = _generate(engine, [SHORT], max_new_tokens=1, keep_logits=True)[0].logits[0]
    expected = float(logits[[10, 11]].softmax(0)[1])
    drawn = [
        _generate(engine, [SHORT], max_new_tokens=1, temperature=1.0, seed=seed)[0].token_ids[0]
        for seed in range(200)
    ]
    assert set(drawn) == {10, 11}
    assert abs(drawn.count(11) / 200 - expected) < 0.1


def test_a_prompt_beyond_the_context_is_refused_before_anything_is_generated(make):
    engine, _ = make(None)
    request = Request.from_text("mill " * 200)
    with pytest.raises(PromptError, match="context"):
        engine.check(request, Sampling(max_new_tokens=4))
    with pytest.raises(PromptError, match="context"):
        _generate(engine, [SHORT, request])


def test_an_answer_ends_with_the_end_token_or_at_its_length(make):
    engine, _ = make(None)
    for completion in _generate(engine, [LONG, SHORT], max_new_tokens=5):
        assert (len(completion.token_ids) == 5) or completion.finish == "stop"


def test_beyond_the_last_step_nothing_changes(make):
    """Two biases that force the same first tokens, one of them strong, give the same rest."""
    _, vocab = make(None)
    forced = torch.zeros(STEPS, vocab)
    forced[torch.arange(STEPS), torch.arange(10, 10 + STEPS)] = -1000
    weak, strong = _generate(make(forced)[0], [LONG]), _generate(make(2 * forced)[0], [LONG])
    assert weak[0].token_ids == strong[0].token_ids
    assert len(weak[0].token_ids) > STEPS


def test_strength_0_leaves_the_text_untouched(make):
    _, vocab = make(None)
    debiased, _ = make(_values(vocab, scale=5), strength=0.0)
    plain, _ = make(None)
    assert _generate(debiased, [LONG, SHORT]) == _generate(plain, [LONG, SHORT])


def test_a_bias_of_another_vocabulary_is_refused_before_anything_is_generated(make):
    _, vocab = make(None)
    with pytest.raises(MismatchError, match=f"{vocab + 1} tokens"):
        make(torch.zeros(STEPS, vocab + 1))


class TestACondition:
    """The strength of each prompt is that of its own logits at step 0, before the rule."""

    def condition(self, vocab):
        weights = torch.randn(12, generator=torch.Generator().manual_seed(2)) / 2
        return tiny.condition(
            tokens=torch.arange(12) * 2 + vocab // 4, weights=weights - weights.mean()
        )

    def expected(self, plain, condition, values):
        """Of answers without a bias: the strength, and what is to be subtracted at each step."""
        strength = condition.strength(plain.logits[:1])
        shift = torch.zeros_like(plain.logits)
        shift[: len(values), : values.shape[1]] = strength * values[: len(shift)]
        return float(strength), shift

    def test_it_is_read_before_the_rule_and_holds_for_all_steps(self, make):
        plain, vocab = make(None)
        condition, values = self.condition(vocab), _values(vocab, scale=1e-4)
        conditioned, _ = make(values, condition=condition)
        found = _generate(conditioned, [LONG, SHORT], keep_logits=True)
        strengths = []
        for one, other in zip(
            _generate(plain, [LONG, SHORT], keep_logits=True), found, strict=True
        ):
            strength, shift = self.expected(one, condition, values)
            assert one.token_ids == other.token_ids
            torch.testing.assert_close(other.logits, one.logits - shift, rtol=0, atol=1e-5)
            strengths.append(strength)
        assert abs(strengths[0] - strengths[1]) > 0.05

    def test_a_strength_that_a_request_names_wins(self, make):
        _, vocab = make(None)
        values = _values(vocab, scale=5)
        engine, plain = make(values, condition=self.condition(vocab))[0], make(None)[0]
        off, own = (Request(LONG.messages, strength=strength) for strength in (0.0, 2.0))
        mixed = _generate(engine, [off, LONG, own, SHORT])
        assert mixed[0] == _generate(plain, [LONG])[0]
        assert mixed[1::2] == _generate(engine, [LONG, SHORT])
        assert mixed[2] == _generate(make(values, strength=2.0)[0], [LONG])[0]
        assert mixed[0].text != mixed[1].text

    def test_a_negative_strength_adds_the_bias(self, make):
        _, vocab = make(None)
        values = torch.zeros(STEPS, vocab)
        values[torch.arange(STEPS), torch.arange(10, 10 + STEPS)] = 1000
        weights = torch.tensor([1e-6, -1e-6])
        sure = tiny.condition(tokens=torch.tensor([4, 5]), weights=weights, intercept=100.0)
        for completion in _generate(make(values, condition=sure)[0], [LONG, SHORT]):
            assert completion.token_ids[:STEPS] == (10, 11, 12)

    @pytest.mark.parametrize("temperature", [0.0, 1.0])
    def test_an_answer_does_not_depend_on_its_neighbours(self, make, temperature):
        _, vocab = make(None)
        engine, _ = make(_values(vocab, scale=3), condition=self.condition(vocab))
        batch = _generate(engine, [LONG, SHORT, LONG], temperature=temperature)
        alone = [_generate(engine, [r], temperature=temperature)[0] for r in (LONG, SHORT, LONG)]
        assert batch == alone

    def test_the_same_tokens_as_transformers(self, make):
        _, vocab = make(None)
        if vocab != tiny.VOCAB:
            pytest.skip("the fake engine has a model of its own")
        values, condition = _values(vocab, scale=3), self.condition(vocab)
        words = tiny.TEXT.split()
        requests = [Request.from_text(" ".join(words[n : n + 5])) for n in range(20)]
        found, expected = (
            _generate(engine, requests, max_new_tokens=12)
            for engine, _ in (
                make(values, condition=condition),
                cases.make("transformers", values, condition=condition),
            )
        )
        assert [one.token_ids for one in found] == [one.token_ids for one in expected]


class TestASlope:
    """A bias of first order follows the logits of the step at hand, before the rule."""

    def test_logits_are_those_of_the_formula(self, make):
        plain, vocab = make(None)
        values, slope = _values(vocab, scale=1e-4), tiny.slope(vocab, STEPS, scale=1e-4)
        sloped, _ = make(values, strength=0.5, slope=slope)
        before = _generate(plain, [LONG, SHORT], keep_logits=True)
        after = _generate(sloped, [LONG, SHORT], keep_logits=True)
        for one, other in zip(before, after, strict=True):
            assert one.token_ids == other.token_ids
            shift = torch.zeros(len(one.token_ids), vocab)
            for step in range(min(STEPS, len(shift))):
                readings = slope.read @ one.logits[step, :vocab] - slope.centre[step]
                shift[step] = 0.5 * (values[step] + readings @ slope.write)
            torch.testing.assert_close(other.logits, one.logits - shift, rtol=0, atol=1e-5)

    def test_with_a_condition_the_strength_is_of_the_plain_logits(self, make):
        plain, vocab = make(None)
        values, slope = _values(vocab, scale=1e-4), tiny.slope(vocab, STEPS, scale=1e-4)
        condition = TestACondition().condition(vocab)
        (one,) = _generate(plain, [LONG], keep_logits=True)
        (other,) = _generate(
            make(values, condition=condition, slope=slope)[0], [LONG], keep_logits=True
        )
        strength = condition.strength(one.logits[:1])
        readings = one.logits[:STEPS, :vocab] @ slope.read.T - slope.centre[: len(one.logits)]
        expected = strength * (values[: len(readings)] + readings @ slope.write)
        found = one.logits[: len(expected)] - other.logits[: len(expected)]
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)

    def test_the_same_tokens_as_transformers(self, make):
        _, vocab = make(None)
        if vocab != tiny.VOCAB:
            pytest.skip("the fake engine has a model of its own")
        values, slope = _values(vocab, scale=3), tiny.slope(vocab, STEPS, scale=3)
        words = tiny.TEXT.split()
        requests = [Request.from_text(" ".join(words[n : n + 5])) for n in range(20)]
        found, expected = (
            _generate(engine, requests, max_new_tokens=12)
            for engine, _ in (
                make(values, slope=slope),
                cases.make("transformers", values, slope=slope),
            )
        )
        assert [one.token_ids for one in found] == [one.token_ids for one in expected]


class TestAgainstTransformers:
    """Greedy text of real engines, plain and debiased, is that of transformers."""

    @pytest.mark.parametrize("strength", [0.0, 0.5, 1.0])
    def test_the_same_tokens(self, make, strength):
        _, vocab = make(None)
        if vocab != tiny.VOCAB:
            pytest.skip("the fake engine has a model of its own")
        values = _values(vocab, scale=3)
        words = tiny.TEXT.split()
        requests = [Request.from_text(" ".join(words[n : n + 5])) for n in range(20)]
        found = _generate(make(values, strength)[0], requests, max_new_tokens=12)
        expected = _generate(cases.make("transformers", values, strength)[0], requests,
                             max_new_tokens=12)  # fmt: skip
        assert [one.token_ids for one in found] == [one.token_ids for one in expected]
        assert [one.text for one in found] == [one.text for one in expected]


class TestAnotherSetting:
    """The engine at another setting of its bias answers as one that was made so."""

    @pytest.fixture(autouse=True)
    def _with_a_setting(self, make):
        if make(None)[1] != tiny.VOCAB:
            pytest.skip("the fake engine has one setting")

    def test_strength_steps_and_decay(self, make):
        values = _values(tiny.VOCAB, scale=3)
        engine, _ = make(values, strength=2.0)
        found = _generate(engine.at(Knobs(0.75, 2, 0.5)), [LONG, SHORT], keep_logits=True)
        whole = _generate(engine, [LONG, SHORT])
        decayed = values[:2] * torch.tensor([[1.0], [0.5]])
        expected = _generate(make(decayed, strength=0.75)[0], [LONG, SHORT], keep_logits=True)
        for one, other, before in zip(found, expected, whole, strict=True):
            assert one.token_ids == other.token_ids != before.token_ids
            torch.testing.assert_close(one.logits, other.logits, rtol=0, atol=1e-5)

    def test_low_high_width_and_threshold_of_a_condition(self, make):
        values, condition = _values(tiny.VOCAB, scale=3), TestACondition().condition(tiny.VOCAB)
        engine, _ = make(values, condition=condition)
        by = Strengths(-0.5, 2.0, 0.25, -0.75)
        found = _generate(engine.at(Knobs(None, STEPS, 1.0, by)), [LONG, SHORT])
        constant = _generate(engine.at(Knobs(0.5, STEPS, 1.0)), [LONG, SHORT])
        b = condition.intercept + 0.75
        other = replace(condition, low=-0.5, high=2.0, width=0.25, intercept=b)
        assert found == _generate(make(values, condition=other)[0], [LONG, SHORT])
        assert constant == _generate(make(values, strength=0.5)[0], [LONG, SHORT])

    def test_with_and_without_the_slope(self, make):
        values, slope = _values(tiny.VOCAB, scale=3), tiny.slope(tiny.VOCAB, STEPS, scale=3)
        engine, _ = make(values, slope=slope)
        sloped, plain = (
            _generate(engine.at(Knobs(1.0, STEPS, 1.0, None, order)), [LONG, SHORT])
            for order in (1, 0)
        )
        assert sloped == _generate(engine, [LONG, SHORT])
        assert plain == _generate(make(values)[0], [LONG, SHORT])
        assert sloped != plain
