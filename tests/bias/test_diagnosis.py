import math
from contextlib import contextmanager, nullcontext
from dataclasses import replace

import pytest
import torch
from scipy import stats

from tests import tiny
from tsdi.baselines.directions import ablated, mean_activations, refusal_direction
from tsdi.bias import Estimation, TokenPool, estimate_bias
from tsdi.bias.case import NOTHING
from tsdi.bias.diagnosis import (
    Examination,
    Refusal,
    _verdict,
    diagnose,
    one_number_share,
    recommend,
    shifted_tokens,
)
from tsdi.bias.explained_variance import explained_share
from tsdi.bias.refusal_log_odds import Phrases, phrase_ids, refusal_log_odds
from tsdi.errors import MismatchError, UsageError
from tsdi.models.chat import ChatFormat, encode_chat
from tsdi.models.load import load_tokenizer
from tsdi.models.shipped import folder
from tsdi.models.sides import Side
from tsdi.organism import items
from tsdi.organism.load import load_organism
from tsdi.stats.interval import Estimate

PHRASES = Phrases(refusing=("the river", "bread"), complying=("salt", "every summer day"))
TOKENIZER = tiny.tokenizer()
POOL = TokenPool.from_text(tiny.TEXT, TOKENIZER)


def _pair(shift):
    """A Phi pair whose aligned model has ``shift`` on the first tokens of refusals."""
    reference, aligned = tiny.model("phi"), tiny.model("phi")
    with torch.no_grad():
        for ids in phrase_ids(TOKENIZER, PHRASES.refusing):
            aligned.lm_head.bias[ids[0]] += shift
    return aligned, reference


def _bias(aligned, reference):
    return estimate_bias(
        aligned, reference, TOKENIZER, Estimation(prompts=32, steps=3, pool=POOL, prompt_tokens=6)
    )


def _examination(prompts=None, answers=None):
    return Examination(POOL, prompts or {}, 12, answers, PHRASES)


def _diagnose(shift, prompts=None):
    pair = _pair(shift)
    bias = _bias(*pair)
    return diagnose(bias, *pair, TOKENIZER, _examination(prompts))


def test_a_reference_with_a_format_of_its_own_is_examined_in_it():
    aligned, reference = _pair(1.0)
    format_ = "the mill {prompt} bread"
    settings = Estimation(prompts=32, steps=3, pool=POOL, prompt_tokens=6, reference_format=format_)
    bias = estimate_bias(aligned, reference, TOKENIZER, settings)
    chat = [{"role": "user", "content": "wheat"}]
    ours, theirs = encode_chat(TOKENIZER, chat), encode_chat(TOKENIZER, chat, ChatFormat(format_))
    asked = replace(_examination({"harmless": [ours]}), reference_prompts={"harmless": [theirs]})
    found = diagnose(bias, aligned, reference, TOKENIZER, asked).refusal["harmless"]
    phrases = [phrase_ids(TOKENIZER, p) for p in (PHRASES.refusing, PHRASES.complying)]
    for model, ids, odds in (
        (reference, theirs, found.reference),
        (aligned, ours, found.aligned),
    ):
        (wanted,) = refusal_log_odds(model, ids, *phrases, (None,))
        assert odds.value == pytest.approx(wanted, abs=1e-3)
    with pytest.raises(UsageError, match="in one only"):
        diagnose(bias, aligned, reference, TOKENIZER, _examination({"harmless": [ours]}))


def test_an_abliterated_sibling_is_no_reference():
    """It refuses random prompts more than the aligned organism, so that the sign is wrong."""
    model, tokenizer = load_organism("aligned"), load_tokenizer(str(folder("aligned")))
    harmful, harmless = (
        [
            encode_chat(tokenizer, [{"role": "user", "content": item.prompt}])
            for item in items("validation", kind, 24, 0)
        ]
        for kind in ("harmful", "harmless")
    )
    means = [mean_activations(model, rows)[3] for rows in (harmful, harmless)]

    @contextmanager
    def without_refusal():
        with ablated(model, refusal_direction(*means)):
            yield model

    sibling = Side("abliterated", without_refusal)
    settings = Estimation(prompts=64, steps=2, prompt_tokens=8, pool="tokenizer")
    bias = estimate_bias(Side("aligned", lambda: nullcontext(model)), sibling, tokenizer, settings)
    found = recommend(bias, model, sibling, tokenizer, Examination("tokenizer"))
    assert found.info.strength == 0
    assert found.info.diagnosis["case"]["name"] == "nothing"
    assert "abliterated" in found.info.diagnosis["verdict"]


def _log_prob(model, prompt, phrase, bias=None):
    """The slow way: one forward pass per token, in float64."""
    total = 0.0
    for step, token in enumerate(phrase):
        with torch.no_grad():
            logits = model(torch.tensor([[*prompt, *phrase[:step]]])).logits[0, -1].double()
        if bias is not None and step < len(bias):
            logits = logits - bias[step].double()
        total += float(logits.log_softmax(0)[token])
    return total


def test_refusal_log_odds_equal_the_slow_computation():
    model = tiny.model("llama")
    prompt = encode_chat(TOKENIZER, [{"role": "user", "content": "the old mill"}])
    refusing, complying = (phrase_ids(TOKENIZER, p) for p in (PHRASES.refusing, PHRASES.complying))
    bias = torch.randn(2, tiny.VOCAB, generator=torch.Generator().manual_seed(0))
    found = refusal_log_odds(model, prompt, refusing, complying, (None, bias))
    for value, vector in zip(found, (None, bias), strict=True):
        yes, no = (
            math.log(sum(math.exp(_log_prob(model, prompt, p, vector)) for p in phrases))
            for phrases in (refusing, complying)
        )
        assert float(value) == pytest.approx(yes - no, abs=1e-4)


def test_a_shift_towards_refusal_is_found_and_removed():
    diagnosis = _diagnose(2.0)
    refusal = diagnosis.refusal["random"]
    assert refusal.shift.value == pytest.approx(2.0, abs=0.2)
    assert refusal.debiased.value == pytest.approx(refusal.reference.value, abs=0.01)
    assert refusal.removed.value == pytest.approx(refusal.aligned.value - refusal.debiased.value)
    assert (diagnosis.strength, diagnosis.case) == (1.0, None)  # labels would say more
    assert "raises" in diagnosis.verdict
    assert diagnosis.one_number == pytest.approx(1.0, abs=1e-4)


@pytest.mark.parametrize(("shift", "strength"), [(2.0, 1.0), (-2.0, 0.0)])
def test_recommend_keeps_the_diagnosis_in_the_bias(shift, strength):
    pair = _pair(shift)
    bias = _bias(*pair)
    assert bias.info.strength is None
    found = recommend(bias, *pair, TOKENIZER, Examination(POOL, phrases=PHRASES))
    assert found.info.strength == strength
    diagnosis = diagnose(bias, *pair, TOKENIZER, Examination(POOL, phrases=PHRASES))
    assert found.info.diagnosis == diagnosis.to_dict()
    assert torch.equal(found.values, bias.values)


def test_answers_are_looked_at_category_by_category_and_the_figures_say_of_how_many():
    pair = _pair(2.0)
    bias = _bias(*pair)
    rows = tiny.ids(9, 6).tolist()
    prompts = {"harmful/O1": rows[:5], "harmful/O2": rows[5:6], "harmful/O3": rows[6:]}
    every, some = (diagnose(bias, *pair, TOKENIZER, _examination(prompts, n)) for n in (None, 4))
    answered = {"random": 4, "harmful/O1": 2, "harmful/O2": 1, "harmful/O3": 1}
    assert {kind: found.n for kind, found in some.explained.items()} == answered
    assert [found.n for found in every.explained.values()] == [12, 5, 1, 3]
    for kind, found in every.refusal.items():
        assert some.refusal[kind].debiased.value == pytest.approx(found.debiased.value, abs=1e-4)
    assert (some.strength, some.one_number) == (every.strength, pytest.approx(every.one_number))


def test_recommend_wants_the_pool_of_the_estimate():
    pair = _pair(0.0)
    with pytest.raises(MismatchError, match=r"another token pool \('text'\)"):
        recommend(_bias(*pair), *pair, TOKENIZER, Examination("tokenizer", phrases=PHRASES))


def test_where_the_shift_lowers_refusal_there_is_nothing_to_remove():
    diagnosis = _diagnose(-2.0)
    assert (diagnosis.strength, diagnosis.case) == (0.0, NOTHING)
    assert "no refusal bias to remove" in diagnosis.verdict
    assert "Are the two models exchanged?" in diagnosis.verdict


def test_where_nothing_changed_no_bias_is_claimed():
    diagnosis = _diagnose(0.0)
    assert (diagnosis.strength, diagnosis.case) == (0.0, NOTHING)
    assert "exactly the same logits" in diagnosis.verdict
    found, why = _verdict(_raised(Estimate(0.0, 0.0, 0.0, 9), shift=Estimate(0.1, -1, 1.2, 9)), [])
    assert found == 0.0
    assert "does not clearly change" in why


RAISED = Estimate(2.0, 1.8, 2.2, 9)


def _raised(removed, shift=RAISED):
    """Random prompts that moved so, of which subtracting takes something away."""
    nothing = Estimate(0.0, -0.1, 0.1, 9)
    return Refusal(nothing, nothing, nothing, shift, removed)


@pytest.mark.parametrize(
    ("harmful", "strength"),
    [
        ([], 1.0),
        ([Estimate(1.0, 0.8, 1.2, 9)], 0.0),
        ([Estimate(1.0, 0.8, 1.2, 9), Estimate(1.9, 1.7, 2.1, 9)], 1.0),
        ([Estimate(4.0, 3.8, 4.2, 9)], 1.0),
    ],
)
def test_where_all_harmful_prompts_moved_less_nothing_is_to_be_subtracted(harmful, strength):
    found, why = _verdict(_raised(Estimate(1.9, 1.8, 2.0, 9)), harmful)
    assert found == strength
    assert ("less than random ones" in why) == (strength == 0)


@pytest.mark.parametrize(
    ("removed", "strength"),
    [
        (Estimate(1.2, 1.1, 1.3, 9), 1.0),
        (Estimate(1.2, 0.9, 1.5, 9), 0.0),  # half of the shift lies within the interval
        (Estimate(0.02, 0.01, 0.03, 9), 0.0),
        (Estimate(-1.5, -1.6, -1.4, 9), 0.0),
        (Estimate(1.9, -math.inf, math.inf, 1), 0.0),
    ],
)
def test_what_takes_little_of_the_shift_away_is_not_to_be_subtracted(removed, strength):
    found, why = _verdict(_raised(removed), [])
    assert found == strength
    assert f"takes away: {removed}." in why
    assert ("not clearly more than half" in why) == (strength == 0)


@pytest.mark.parametrize("seed", [5, 6])
def test_two_unrelated_models_have_no_habit_to_subtract(seed):
    pair = tiny.model(seed=seed), tiny.model(seed=seed + 50)
    found = diagnose(_bias(*pair), *pair, TOKENIZER, Examination(POOL, answers=1))
    refusal = found.refusal["random"]
    assert refusal.shift.low > 0.3  # refusals are likelier, by chance and not by one vector
    assert refusal.removed.high < refusal.shift.value / 2
    assert found.strength == 0
    assert "not clearly more than half" in found.verdict


def test_the_same_shift_everywhere_is_explained_wholly():
    prompts = {
        "harmless": [
            encode_chat(TOKENIZER, [{"role": "user", "content": text}])
            for text in ("barley and wheat", "water", "a kettle boils")
        ]
    }
    share = _diagnose(2.0, prompts).explained["harmless"]
    assert share.value == pytest.approx(1.0, abs=1e-6)
    assert share.n == 3


def test_one_prompt_alone_has_no_interval():
    prompts = {"harmless": [encode_chat(TOKENIZER, [{"role": "user", "content": "water"}])]}
    share = _diagnose(1.0, prompts).explained["harmless"]
    assert (share.low, share.high, share.n) == (-math.inf, math.inf, 1)
    assert "[" not in str(share)


def test_models_one_after_the_other_are_diagnosed_alike():
    aligned, reference = _pair(1.0)
    bias = _bias(aligned, reference)
    opened = []

    def side(name, model):
        return Side(name, lambda: _Opened(opened, name, model), loaded=False)

    apart = diagnose(bias, side("a", aligned), side("r", reference), TOKENIZER, _examination())
    together = diagnose(bias, aligned, reference, TOKENIZER, _examination())
    assert apart.to_dict() == together.to_dict()
    assert opened == ["r", "a"]  # each was loaded once


class _Opened:
    def __init__(self, opened, name, model):
        opened.append(name)
        self.model = model

    def __enter__(self):
        return self.model

    def __exit__(self, *_):
        return None


def test_explained_share_equals_a_loop_over_tokens():
    generator = torch.Generator().manual_seed(1)
    before, after, bias = (torch.randn(2, 5, generator=generator) for _ in range(3))
    rest = total = 0.0
    for i in range(2):
        p = (before[i].double().softmax(0) + after[i].double().softmax(0)) / 2
        for x, add in ((after[i] - before[i] - bias[i], "rest"), (after[i] - before[i], "total")):
            mean = sum(p[v] * x[v] for v in range(5))
            variance = float(sum(p[v] * (x[v] - mean) ** 2 for v in range(5)))
            rest, total = (rest + variance, total) if add == "rest" else (rest, total + variance)
    assert explained_share(before, after, bias) == pytest.approx((rest, total))


def test_one_number_share_is_the_r_squared_of_the_indicator():
    shift = torch.randn(50, generator=torch.Generator().manual_seed(2))
    counts = torch.arange(1, 51) % 4  # a weight of 3 is the token counted three times
    tokens = [i for i in range(50) for _ in range(int(counts[i]))]
    indicator = [float(i in {2, 5}) for i in tokens]
    expected = stats.linregress(indicator, shift[tokens].tolist()).rvalue ** 2
    assert one_number_share(shift, {2, 5}, counts) == pytest.approx(expected)


def test_shifted_tokens_are_the_extremes_with_their_errors():
    bias = _bias(*_pair(2.0))
    first = {ids[0] for ids in phrase_ids(TOKENIZER, PHRASES.refusing)}
    promoted = shifted_tokens(bias, TOKENIZER, largest=True, number=2)
    assert {token.token for token in promoted[0]} == first
    top = promoted[0][0]
    assert top.shift == float(bias.values[0, top.token])
    assert top.error == float(bias.standard_error[0, top.token])
    assert top.text == TOKENIZER.decode([top.token])


def test_tokens_count_by_how_likely_they_are():
    bias = _bias(*_pair(2.0))
    likely = torch.zeros(bias.steps, bias.vocab)
    likely[:, [5, 6]] = torch.tensor([0.9, 0.1])
    bias.values[:, 5], bias.values[:, 6], bias.values[:, 7] = 1.0, 2.0, 50.0  # 7 never comes
    first, second = shifted_tokens(bias, TOKENIZER, largest=True, number=2, likely=likely)[0]
    assert (first.token, second.token) == (5, 6)
    assert (first.shift, first.likely) == (1.0, pytest.approx(0.9))


def test_a_diagnosis_has_the_tokens_that_come():
    found = _diagnose(2.0)
    for step in found.promoted:
        scores = [one.shift * one.likely for one in step]
        assert scores == sorted(scores, reverse=True)
    assert 0 < found.promoted[0][0].likely < 1
