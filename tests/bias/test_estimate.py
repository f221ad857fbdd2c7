"""What the estimator returns: compared with a slow float64 reference and with planted truth."""

import copy
import math
from contextlib import contextmanager
from dataclasses import replace

import pytest
import scipy.stats
import torch

from tests import tiny
from tsdi.bias import Estimation, estimate_bias
from tsdi.bias.estimate import mean_shift
from tsdi.bias.random_prompts import random_prompts
from tsdi.bias.standard_error import split_half_reliability
from tsdi.decoding.rule import subtract_bias
from tsdi.errors import MismatchError, NumericalError, UsageError
from tsdi.models.chat import ChatFormat, template_sha256, tokenizer_sha256
from tsdi.models.sides import Side

GROUPS = 4
OPTIONS = Estimation(prompts=24, steps=3, prompt_tokens=6, groups=GROUPS, pool="tokenizer")


@pytest.fixture(scope="module")
def tokenizer():
    return tiny.tokenizer()


@pytest.fixture(scope="module", params=["llama", "gemma2"], ids=["head inputs", "streaming"])
def pair(request):
    reference = tiny.model(request.param)
    return tiny.moved(reference), reference


@pytest.fixture(scope="module")
def llamas():
    reference = tiny.model("llama")
    return tiny.moved(reference), reference


class TestAgainstASlowReference:
    def test_the_mean_is_that_of_ordinary_logits(self, pair, tokenizer):
        bias = estimate_bias(*pair, tokenizer, OPTIONS)
        mean, _ = tiny.slow_estimate(*pair, tiny.prompts(), 24, GROUPS)
        assert bias.values.dtype == bias.standard_error.dtype == torch.float32
        assert bias.values.shape == bias.standard_error.shape == (3, tiny.VOCAB)
        assert tiny.error(bias.values, mean) < 1e-5

    def test_the_error_is_that_of_batch_means(self, pair, tokenizer):
        bias = estimate_bias(*pair, tokenizer, OPTIONS)
        mean, by_group = tiny.slow_estimate(*pair, tiny.prompts(), 24, GROUPS)
        _, high = scipy.stats.t.interval(
            0.95, GROUPS - 1, loc=mean.numpy(), scale=scipy.stats.sem(by_group.numpy(), axis=0)
        )
        found = bias.values + scipy.stats.t.ppf(0.975, GROUPS - 1) * bias.standard_error
        assert tiny.error(found, torch.from_numpy(high)) < 1e-5

    def test_groups_of_unequal_size_count_by_their_prompts(self, pair, tokenizer):
        bias = estimate_bias(*pair, tokenizer, replace(OPTIONS, prompts=22))
        mean, by_group = tiny.slow_estimate(*pair, tiny.prompts(), 22, GROUPS)
        weights = torch.tensor([6, 6, 5, 5]).double()[:, None, None] / 22
        variance = (weights * (by_group - mean).square()).sum(0) / (GROUPS - 1)
        assert tiny.error(bias.values, mean) < 1e-5
        assert tiny.error(bias.standard_error, variance.sqrt()) < 1e-5

    @pytest.mark.parametrize("batch_size", [1, 5, 24, 100])
    def test_the_batch_size_does_not_matter(self, llamas, tokenizer, batch_size):
        one = estimate_bias(*llamas, tokenizer, OPTIONS)
        other = estimate_bias(*llamas, tokenizer, OPTIONS, batch_size=batch_size)
        assert tiny.error(other.values, one.values) < 1e-5

    def test_every_step_has_mean_zero(self, pair, tokenizer):
        bias = estimate_bias(*pair, tokenizer, OPTIONS)
        assert bias.values.mean(1).abs().max() < 1e-6 * bias.values.abs().max()

    def test_the_paths_taken_are_on_record(self, pair, tokenizer):
        path = "logits" if pair[0].config.model_type == "gemma2" else "head_inputs"
        bias = estimate_bias(*pair, tokenizer, OPTIONS)
        assert bias.info.paths == {"aligned": path, "reference": path}


def test_a_planted_head_bias_is_recovered(tokenizer):
    reference = tiny.model("phi")
    aligned = copy.deepcopy(reference)
    planted = torch.randn(tiny.VOCAB, generator=torch.Generator().manual_seed(1))
    aligned.lm_head.bias.data += planted
    bias = estimate_bias(aligned, reference, tokenizer, OPTIONS)
    truth = (planted - planted.mean()).expand(3, -1)
    assert tiny.error(bias.values, truth) < 1e-5
    assert bias.standard_error.max() < 1e-5 * truth.abs().max()
    assert bias.info.reliability == pytest.approx([1, 1, 1])


def test_proposition_1_no_shift_is_left_on_the_same_prompts(pair, tokenizer):
    bias = estimate_bias(*pair, tokenizer, OPTIONS)
    rows = tiny.prompts().ids(0, 24)
    aligned, reference = (tiny.logits(model, rows, 3) for model in pair)
    for step in range(3):
        left = subtract_bias(aligned[:, step], step, bias.values) - reference[:, step]
        left = (left - left.mean(-1, keepdim=True)).mean(0)
        assert left.abs().max() < 1e-5 * bias.values[step].abs().max()


def test_an_anchor_comes_before_the_response(llamas, tokenizer):
    bias = estimate_bias(*llamas, tokenizer, replace(OPTIONS, anchor="</think>"))
    drawn = tiny.prompts(anchor="</think>")
    assert bias.info.anchor_ids == drawn.frame.suffix[-len(bias.info.anchor_ids) :]
    mean, _ = tiny.slow_estimate(*llamas, drawn, 24, GROUPS)
    assert tiny.error(bias.values, mean) < 1e-5


def test_arguments_of_the_template_are_kept_and_change_where_answers_begin(llamas):
    tokenizer = tiny.tokenizer(tiny.THINKING)
    given = {"enable_thinking": False}
    bias = estimate_bias(*llamas, tokenizer, replace(OPTIONS, chat=ChatFormat(template_args=given)))
    assert bias.info.template_args == given
    bias.check(tokenizer)
    assert not torch.equal(bias.values, estimate_bias(*llamas, tokenizer, OPTIONS).values)
    with pytest.raises(UsageError, match="'thinking'"):
        estimate_bias(
            *llamas, tokenizer, replace(OPTIONS, chat=ChatFormat(template_args={"thinking": False}))
        )


def test_the_reference_reads_the_same_tokens_in_a_format_of_its_own(llamas, tokenizer):
    format_ = "the mill {prompt} bread"
    bias = estimate_bias(*llamas, tokenizer, replace(OPTIONS, reference_format=format_))
    ours = tiny.prompts()
    theirs = random_prompts(
        tokenizer, ours.pool, prompt_tokens=6, steps=3, seed=0, chat_format=ChatFormat(format_)
    )
    sides = zip(llamas, (ours, theirs), strict=True)
    one, other = (tiny.logits(model, drawn.ids(0, 24), 3) for model, drawn in sides)
    shift = one - other
    assert tiny.error(bias.values, (shift - shift.mean(-1, keepdim=True)).mean(0)) < 1e-5
    assert bias.info.reference_format == format_
    assert bias.info.template_sha256 == template_sha256(tokenizer)  # as it is used
    with pytest.raises(UsageError, match=r"no \{prompt\}"):
        estimate_bias(*llamas, tokenizer, replace(OPTIONS, reference_format="Q: A:"))


def test_where_it_comes_from_is_on_record(llamas, tokenizer):
    info = estimate_bias(*llamas, tokenizer, replace(OPTIONS, seed=5)).info
    asked = {
        name: getattr(OPTIONS, name) for name in ("prompts", "prompt_tokens", "groups", "pool")
    }
    assert {name: getattr(info, name) for name in asked} == asked
    assert (info.seed, info.aligned, info.history) == (5, "LlamaForCausalLM", ())
    assert info.tokenizer_sha256 == tokenizer_sha256(tokenizer)
    assert info.template_sha256 == template_sha256(tokenizer)
    assert info.pool_sha256 == tiny.prompts().pool.sha256
    assert set(info.versions) == {"tsdi", "torch", "transformers"}


def test_a_model_against_itself_has_no_bias(llamas, tokenizer):
    bias = estimate_bias(llamas[0], llamas[0], tokenizer, OPTIONS)
    assert not bias.values.any()
    assert not bias.standard_error.any()
    assert bias.info.reliability == (0.0, 0.0, 0.0)


class TestFormulas:
    def test_a_single_group_size_gives_the_textbook_error(self):
        shifts = torch.tensor([[[1.0, -1.0]], [[3.0, -3.0]]])
        mean, error = mean_shift(shifts, torch.tensor([5, 5]))
        assert mean.tolist() == [[2.0, -2.0]]
        assert error.tolist() == [[1.0, 1.0]]  # standard deviation sqrt(2) over sqrt(2)

    @pytest.mark.parametrize(
        ("odd", "reliability"), [([1.0, 2, 3], 1), ([3.0, 2, 1], -1), ([1.0, 2, 1], 0)]
    )
    def test_reliability_is_the_stepped_up_correlation_of_the_halves(self, odd, reliability):
        shifts = torch.tensor([[[1.0, 2, 3]], [odd]])
        found = split_half_reliability(shifts, torch.tensor([1, 1]))
        assert found == pytest.approx([reliability], abs=1e-6)

    def test_reliability_of_two_noisy_halves(self):
        shifts = torch.tensor([[[1.0, 2, 3]], [[1.0, 3, 2]]])  # correlation 1/2
        assert split_half_reliability(shifts, torch.tensor([1, 1])) == pytest.approx([2 / 3])


class TestOneModelAfterTheOther:
    def sides(self, pair):
        memory = {"now": 0, "most": 0}

        @contextmanager
        def opened(model):
            memory["now"] += 1
            memory["most"] = max(memory.values())
            yield model
            memory["now"] -= 1

        names = ("aligned", "reference")
        sides = [
            Side(name, lambda model=model: opened(model), loaded=False)
            for name, model in zip(names, pair, strict=True)
        ]
        return sides, memory

    def test_it_equals_both_at_once_and_never_holds_two(self, llamas, tokenizer):
        sides, memory = self.sides(llamas)
        bias = estimate_bias(*sides, tokenizer, OPTIONS)
        assert memory == {"now": 0, "most": 1}
        assert torch.equal(bias.values, estimate_bias(*llamas, tokenizer, OPTIONS).values)

    def test_a_target_error_needs_both(self, llamas, tokenizer):
        sides, _ = self.sides(llamas)
        with pytest.raises(UsageError, match="needs both models at once"):
            estimate_bias(*sides, tokenizer, replace(OPTIONS, target_error=0.1))


class TestTargetError:
    """Errors are looked at after 2, 4, 8, ... prompts per group."""

    def error_after(self, pair, n):
        _, by_group = tiny.slow_estimate(*pair, tiny.prompts(), n, GROUPS)
        error = scipy.stats.sem(by_group.numpy(), axis=0)
        return float((error**2).mean(-1).max() ** 0.5)

    @pytest.mark.parametrize("enough", [8, 16, 32])
    def test_it_stops_at_the_first_check_that_is_good_enough(self, llamas, tokenizer, enough):
        errors = {n: self.error_after(llamas, n) for n in (8, 16, 32)}
        target = errors[enough] * 1.001
        stop = next(n for n in errors if errors[n] <= target)
        assert stop == enough, "errors must fall for this test to mean anything"
        options = replace(OPTIONS, prompts=60, target_error=target)
        bias = estimate_bias(*llamas, tokenizer, options)
        assert bias.info.prompts == enough
        mean, _ = tiny.slow_estimate(*llamas, tiny.prompts(), enough, GROUPS)
        assert tiny.error(bias.values, mean) < 1e-5

    def test_it_ends_with_all_prompts_where_that_is_not_enough(self, llamas, tokenizer):
        options = replace(OPTIONS, prompts=21, target_error=1e-9)
        with tiny.rows_run(llamas[0]) as seen:
            assert estimate_bias(*llamas, tokenizer, options).info.prompts == 21
        assert sum(len(rows) for rows in seen if rows.shape[1] > 1) >= 21


class TestVocabularies:
    @pytest.mark.parametrize("wider", ["aligned", "reference"])
    def test_padding_rows_are_trimmed(self, llamas, tokenizer, wider):
        truth = estimate_bias(*llamas, tokenizer, OPTIONS)
        pair = dict(zip(("aligned", "reference"), llamas, strict=True))
        pair[wider] = copy.deepcopy(pair[wider])
        pair[wider].resize_token_embeddings(384, mean_resizing=False)
        bias = estimate_bias(**pair, tokenizer=tokenizer, settings=OPTIONS)
        assert tiny.error(bias.values, truth.values) < 1e-6

    def test_padding_rows_that_both_have_stay(self, llamas, tokenizer):
        pair = [copy.deepcopy(model) for model in llamas]
        for model in pair:
            model.resize_token_embeddings(384, mean_resizing=False)
        bias = estimate_bias(*pair, tokenizer, OPTIONS)
        mean, _ = tiny.slow_estimate(*pair, tiny.prompts(), 24, GROUPS)
        assert bias.vocab == 384
        assert tiny.error(bias.values, mean) < 1e-5

    def test_rows_that_the_tokenizer_uses_are_no_padding(self, llamas, tokenizer):
        small = tiny.model(vocab_size=300)
        with pytest.raises(MismatchError, match="aligned 320, reference 300, tokenizer 320 ids"):
            estimate_bias(llamas[0], small, tokenizer, OPTIONS)

    def test_a_tokenizer_that_is_too_large_for_both(self, tokenizer):
        small = tiny.model(vocab_size=300)
        with pytest.raises(MismatchError, match=r"gives token 319, the model knows 300"):
            estimate_bias(small, small, tokenizer, OPTIONS)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"steps": 120}, r"6 prompt tokens and 120 steps make 129 tokens; .* context is 128"),
        ({"prompts": 3}, "3 random prompts in 4 groups give no standard error"),
        ({"groups": 1}, "in 1 groups give no standard error"),
        ({"steps": 0}, "steps must be a whole number from 1 on, not 0"),
        ({"prompt_tokens": 0}, "prompt_tokens must be a whole number from 1 on"),
        ({"seed": -1}, "seed must be a whole number from 0 on"),
        ({"target_error": 0.0}, "target_error must be a number above 0"),
        ({"target_error": math.nan}, "target_error must be a number above 0"),
        ({"target_error": math.inf}, "target_error must be a number above 0"),
    ],
)
def test_numbers_that_make_no_sense(llamas, tokenizer, changes, message):
    with pytest.raises(UsageError, match=message):
        estimate_bias(*llamas, tokenizer, replace(OPTIONS, **changes))


def test_a_batch_has_rows(llamas, tokenizer):
    with pytest.raises(UsageError, match="batch_size must be a whole number from 1 on"):
        estimate_bias(*llamas, tokenizer, OPTIONS, batch_size=0)


class TestBrokenWeights:
    @pytest.mark.parametrize("prompt", [1, 11])
    @pytest.mark.parametrize("number", [torch.nan, torch.inf])
    def test_the_model_and_the_first_bad_prompt_are_named(self, llamas, tokenizer, prompt, number):
        rows = tiny.prompts().ids(0, 24)
        seen = set(rows[:prompt].flatten().tolist())
        token = next(i for i in rows[prompt].tolist() if i not in seen)
        broken = copy.deepcopy(llamas[0])
        broken.model.embed_tokens.weight.data[token] = number
        side = Side("my-model", lambda: _context(broken))
        with pytest.raises(
            NumericalError, match=rf"my-model gives NaN .* random prompt {prompt}\."
        ):
            estimate_bias(side, llamas[1], tokenizer, OPTIONS, batch_size=8)

    def test_a_head_padded_with_minus_infinity_is_named(self, llamas, tokenizer):
        padded = tiny.model("phi")  # which has a bias at its head
        padded.lm_head.bias.data[-16:] = -torch.inf
        with pytest.raises(NumericalError, match="rules out 16 tokens, such as 304, by"):
            estimate_bias(padded, llamas[1], tokenizer, OPTIONS)

    @pytest.mark.parametrize("turned", [False, True])
    def test_a_shift_beyond_what_is_saved_is_the_models(self, llamas, tokenizer, turned):
        big = copy.deepcopy(llamas[0])
        big.lm_head.weight.data[5] *= 1e7
        sides = [Side("big", lambda: _context(big)), Side("small", lambda: _context(llamas[1]))]
        with pytest.raises(NumericalError, match=r"^big gives logits of up to .*beyond 1,000,000"):
            estimate_bias(*sides[:: -1 if turned else 1], tokenizer, OPTIONS)

    def test_a_broken_head_is_noticed_too(self, llamas, tokenizer):
        broken = copy.deepcopy(llamas[1])
        broken.lm_head.weight.data[5] = torch.nan
        with pytest.raises(NumericalError, match=r"random prompt 0\."):
            estimate_bias(llamas[0], broken, tokenizer, OPTIONS)


@contextmanager
def _context(model):
    yield model
