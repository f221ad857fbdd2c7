"""The bias as a value: its algebra, and whom it belongs to."""

import pytest
import torch

from tests import tiny
from tsdi.baselines.shifts import random_shift, static_shift
from tsdi.bias import SafetyBias, compare_biases
from tsdi.decoding.transformers import SafetyDebias
from tsdi.engines.base import Request, Sampling
from tsdi.engines.transformers import TransformersEngine
from tsdi.errors import MismatchError, UsageError

VALUES = torch.tensor([[3.0, -4.0, 1.0], [0.5, -0.5, 0.0]])
ERROR = torch.tensor([[3.0, 4.0, 1.0], [1.0, 1.0, 2.0]])


def small(values=VALUES, error=ERROR, **changes):
    return tiny.bias(values.clone(), error.clone(), **changes)


class TestAlgebra:
    @pytest.mark.parametrize("factor", [2.0, -0.5, 0.0])
    def test_scale(self, factor):
        scaled = small().scale(factor)
        assert torch.equal(scaled.values, VALUES * factor)
        assert torch.equal(scaled.standard_error, ERROR * abs(factor))

    def test_add_adds_errors_as_independent_ones(self):
        other = small(2 * VALUES, torch.tensor([[4.0, 3.0, 0.0], [0.0, 0.0, 0.0]]))
        total = small().add(other)
        assert torch.equal(total.values, 3 * VALUES)
        assert total.standard_error.tolist() == [[5.0, 5.0, 1.0], [1.0, 1.0, 2.0]]
        assert torch.equal(other.add(small()).values, total.values)

    def test_truncate_keeps_the_first_steps(self):
        first = small().truncate(1)
        assert (first.steps, first.vocab) == (1, 3)
        assert torch.equal(first.values, VALUES[:1])
        assert torch.equal(first.standard_error, ERROR[:1])

    @pytest.mark.parametrize(
        ("k", "values"),
        [
            (1, [[0.0, -4.0, 0.0], [0.5, 0.0, 0.0]]),
            (2, [[3.0, -4.0, 0.0], [0.5, -0.5, 0.0]]),
            (3, VALUES.tolist()),
        ],
    )
    def test_top_k_keeps_the_largest_shifts(self, k, values):
        top = small().top_k(k)
        assert top.values.tolist() == values
        kept = top.values.abs() >= VALUES.abs().topk(k).values[:, -1:]
        assert torch.equal(top.standard_error, ERROR * kept)

    @pytest.mark.parametrize(
        ("change", "history"),
        [
            (lambda bias: bias.scale(0.25), "scale 0.25"),
            (lambda bias: bias.truncate(1), "truncate 1"),
            (lambda bias: bias.top_k(2), "top_k 2"),
            (lambda bias: bias.add(bias), "add SafetyBias(tiny-aligned - tiny-reference, (2, 3))"),
        ],
    )
    def test_nothing_is_changed_in_place_and_the_way_is_on_record(self, change, history):
        bias = small()
        changed = change(bias)
        assert changed.info.history == (history,)
        assert change(changed.truncate(1)).info.history[0] == history
        assert bias.info.history == ()
        assert torch.equal(bias.values, VALUES)
        assert torch.equal(bias.standard_error, ERROR)

    def test_another_recommended_strength(self):
        bias = small()
        weaker = bias.with_diagnosis(0.5, {"verdict": "weak"})
        assert weaker.info.diagnosis == {"verdict": "weak"}
        assert (bias.info.strength, weaker.info.strength) == (None, 0.5)
        assert torch.equal(weaker.values, bias.values)

    def test_a_tuned_strength_brings_its_evidence(self):
        tuned = small().with_tuning(0.25, {"trials": 3})
        again = tuned.with_diagnosis(1.0, {"strength": 1.0}).info
        assert (again.strength, again.tuning) == (1.0, {})
        assert (tuned.info.strength, tuned.info.tuning) == (0.25, {"trials": 3})
        assert torch.equal(tuned.values, VALUES)

    def test_decay_weakens_later_steps(self):
        decayed = small().decayed(0.5)
        assert torch.equal(decayed.values, torch.stack([VALUES[0], VALUES[1] / 2]))
        assert torch.equal(decayed.standard_error, torch.stack([ERROR[0], ERROR[1] / 2]))
        assert torch.equal(small().decayed(1.0).values, VALUES)

    @pytest.mark.parametrize("factor", [-0.1, 1.1, float("nan")])
    def test_a_decay_that_is_none(self, factor):
        with pytest.raises(UsageError, match="between 0 and 1"):
            small().decayed(factor)

    @pytest.mark.parametrize(
        ("method", "number", "message"),
        [
            ("truncate", 0, "Cannot take 0 of 2 steps"),
            ("truncate", 3, "Cannot take 3 of 2 steps"),
            ("top_k", 0, "top 0 of 3 tokens"),
            ("top_k", 4, "top 4 of 3 tokens"),
        ],
    )
    def test_numbers_out_of_range(self, method, number, message):
        with pytest.raises(UsageError, match=message):
            getattr(small(), method)(number)

    @pytest.mark.parametrize(
        ("values", "error"),
        [(torch.zeros(3), torch.zeros(3)), (torch.zeros(2, 3), torch.zeros(3, 2))],
    )
    def test_values_and_errors_need_one_shape(self, values, error):
        with pytest.raises(UsageError, match=r"values and errors \[steps, vocab\]"):
            SafetyBias(values, error, small().info)


class TestCompare:
    def test_numbers_by_hand(self):
        other = small(torch.tensor([[-3.0, 4.0, -1.0], [0.5, 1.5, 0.0]]))
        found = compare_biases(small(), other)
        assert found["cosine"][0] == pytest.approx(-1)
        assert found["difference"] == pytest.approx([(104 / 3) ** 0.5, (4 / 3) ** 0.5])
        z = [((36 / 18 + 64 / 32 + 4 / 2) / 3) ** 0.5, (4 / 2 / 3) ** 0.5]
        assert found["z"] == pytest.approx(z)

    def test_with_itself(self):
        found = compare_biases(small(), small())
        assert found["cosine"] == pytest.approx([1, 1])
        assert found["difference"] == found["z"] == [0, 0]

    def test_over_the_steps_that_both_have(self):
        assert len(compare_biases(small(), small().truncate(1))["cosine"]) == 1
        assert len(compare_biases(small().truncate(1), small())["cosine"]) == 1

    def test_a_difference_without_any_error_is_infinite(self):
        found = compare_biases(small(error=ERROR * 0), small(2 * VALUES, ERROR * 0))
        assert found["z"] == [torch.inf, torch.inf]


@pytest.mark.parametrize("method", [SafetyBias.add, compare_biases])
class TestTwoThatDoNotBelongTogether:
    def test_other_tokenizers(self, method):
        with pytest.raises(MismatchError, match="different tokenizers"):
            method(small(), small(tokenizer_sha256="0" * 64))

    def test_other_vocabularies(self, method):
        other = small(VALUES[:, :2], ERROR[:, :2])
        with pytest.raises(MismatchError, match=r"shapes \(2, 3\) and \(2, 2\)"):
            method(small(), other)


def test_other_lengths_cannot_be_added():
    with pytest.raises(MismatchError, match=r"shapes \(2, 3\) and \(1, 3\). Truncate the longer"):
        small().add(small().truncate(1))


class TestCheck:
    def test_its_own_tokenizer_and_model_are_right(self):
        tiny.bias().check(tiny.tokenizer(), tiny.model())

    def test_another_tokenizer(self):
        with pytest.raises(MismatchError, match="tokenizer of tiny-aligned, not for this one"):
            tiny.bias().check(tiny.tokenizer(vocab=300))

    def test_another_chat_template(self):
        with pytest.raises(MismatchError, match="another chat template"):
            tiny.bias().check(tiny.tokenizer("{{ messages }}"))

    @pytest.mark.parametrize("size", [300, 319])
    def test_a_model_with_fewer_tokens(self, size):
        with pytest.raises(MismatchError, match=f"for 320 tokens, the model has {size}"):
            tiny.bias().check(model=tiny.model(vocab_size=size))

    def test_a_model_with_padding_rows_is_right(self):
        tiny.bias().check(model=tiny.model(vocab_size=384))

    def test_a_model_whose_further_rows_are_tokens(self):
        with pytest.raises(MismatchError, match="for 320 tokens, the model has 384"):
            tiny.bias(tokenizer_size=330).check(model=tiny.model(vocab_size=384))


class TestStrength:
    """One rule: no diagnosis, no recommendation; the default is what is recommended."""

    IDS, SCORES = torch.tensor([[7, 8]]), torch.zeros(1, 3)

    def examined(self, strength):
        return small(reliability=(1.0, 0.5)).with_diagnosis(strength, {"verdict": "so"})

    @pytest.mark.parametrize("strength", [0.0, 1.0])
    def test_a_processor_takes_what_is_recommended(self, strength):
        processor = self.examined(strength).logits_processor(2)
        assert torch.equal(processor(self.IDS, self.SCORES), -strength * VALUES[:1])

    def test_a_named_strength_goes_first(self):
        processor = self.examined(0.0).logits_processor(2, 2.0)
        assert torch.equal(processor(self.IDS, self.SCORES), -2 * VALUES[:1])

    def test_without_either_the_error_says_what_to_do(self):
        with pytest.raises(UsageError, match=r"recommends no strength.* Name one .*strength=1.0"):
            small().logits_processor(2)
        assert isinstance(small().logits_processor(2, 1.0), SafetyDebias)

    def test_engines_take_it_too(self):
        bias = tiny.bias()
        for strength in (0.0, 0.5):
            examined = bias.with_diagnosis(strength, {"verdict": "so"})
            given = TransformersEngine(tiny.model(), tiny.tokenizer(), examined)
            named = TransformersEngine(tiny.model(), tiny.tokenizer(), bias, strength)
            asked = [Request.from_text("the river")], Sampling(4)
            assert given.generate(*asked) == named.generate(*asked)
        with pytest.raises(UsageError, match="recommends no strength"):
            TransformersEngine(tiny.model(), tiny.tokenizer(), bias)

    @pytest.mark.parametrize(
        ("change", "reliability"),
        [
            (lambda bias: bias.scale(2), (1.0, 0.5)),
            (lambda bias: bias.decayed(0.5), (1.0, 0.5)),
            (lambda bias: bias.truncate(1), (1.0,)),
            (lambda bias: bias.add(bias), ()),
            (lambda bias: bias.top_k(1), ()),
            (lambda bias: random_shift(bias, 0), ()),
            (static_shift, ()),
        ],
    )
    def test_what_was_found_of_a_bias_is_not_true_of_what_is_made_of_it(self, change, reliability):
        info = change(self.examined(1.0).with_tuning(0.5, {"trials": 3})).info
        assert (info.strength, info.diagnosis, info.tuning) == (None, {}, {})
        assert info.reliability == reliability
        assert len(info.history) == 1


def test_the_processor_has_its_strength_and_anchor():
    bias, known = tiny.bias(anchor="x", anchor_ids=(9,)), tiny.tokenizer()
    processor = bias.logits_processor(2, 0.5, known)
    assert isinstance(processor, SafetyDebias)
    scores = torch.zeros(1, tiny.VOCAB)
    a, x = (known(letter)["input_ids"][0] for letter in "ax")
    for ids in ([a, a], [a, a, a]):
        assert not processor(torch.tensor([ids]), scores).any()
    found = processor(torch.tensor([[a, a, a, x]]), scores)
    assert torch.equal(found[0], -0.5 * bias.values[0])
    with pytest.raises(UsageError, match="tokenizer=tokenizer"):
        bias.logits_processor(2, 0.5)
