import json
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from tsdi.evaluation.statistics import holm, mcnemar, paired_change, wilson

OUTCOMES = st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=80)


@given(st.integers(1, 400), st.data(), st.sampled_from([0.8, 0.95, 0.99]))
def test_wilson_is_scipys_and_holds_its_value(n, data, confidence):
    successes = data.draw(st.integers(0, n))
    estimate = wilson(successes, n, confidence)
    interval = binomtest(successes, n).proportion_ci(confidence, method="wilson")
    assert estimate.low == pytest.approx(interval.low, abs=1e-12)
    assert estimate.high == pytest.approx(interval.high, abs=1e-12)
    assert 0 <= estimate.low <= estimate.value <= estimate.high <= 1
    assert estimate.n == n


def test_wilson_covers():
    draw = random.Random(0)
    hits = 0
    for _ in range(2000):
        share = draw.random()
        estimate = wilson(sum(draw.random() < share for _ in range(30)), 30)
        hits += estimate.low <= share <= estimate.high
    assert 0.935 <= hits / 2000 <= 0.97


@pytest.mark.parametrize("estimate", [wilson(0, 0), paired_change([], []), wilson(1, 3)])
def test_estimates_are_valid_json(estimate):
    text = json.dumps(estimate.to_dict(), allow_nan=False)
    assert list(json.loads(text)) == ["value", "low", "high", "n"]


def test_nothing_known_is_the_whole_range():
    assert wilson(0, 0).to_dict() == {"value": None, "low": 0.0, "high": 1.0, "n": 0}
    assert paired_change([], []).to_dict() == {"value": None, "low": -1.0, "high": 1.0, "n": 0}


@pytest.mark.parametrize("counts", [(-1, 3), (4, 3), (0, -1)])
def test_wilson_refuses_impossible_counts(counts):
    with pytest.raises(ValueError, match="successes"):
        wilson(*counts)


def test_paired_change_by_hand():
    # 21 pairs, 7 gained, 1 lost: 8/23 - 2/23 -+ 1.959964 sqrt((10/23 - (6/23)^2) / 23)
    before = [True] + [False] * 7 + [True] + [False] * 12
    after = [False] + [True] * 7 + [True] + [False] * 12
    estimate = paired_change(before, after)
    assert estimate.value == pytest.approx(6 / 21)
    assert estimate.low == pytest.approx(0.013380, abs=2e-6)
    assert estimate.high == pytest.approx(0.508359, abs=2e-6)
    assert estimate.n == 21


@given(OUTCOMES)
def test_paired_change_turns_with_its_arms_and_holds_its_value(outcomes):
    before, after = zip(*outcomes, strict=True)
    change, back = paired_change(before, after), paired_change(after, before)
    assert -1 <= change.low <= change.value <= change.high <= 1
    assert (back.value, back.low, back.high) == pytest.approx(
        (-change.value, -change.high, -change.low)
    )


def test_paired_change_covers():
    draw = random.Random(1)
    hits = 0
    for _ in range(1500):
        gain, loss = draw.random() / 2, draw.random() / 2
        draws = [draw.random() for _ in range(40)]
        estimate = paired_change([u > 1 - loss for u in draws], [u < gain for u in draws])
        hits += estimate.low <= gain - loss <= estimate.high
    assert 0.935 <= hits / 1500 <= 0.985


@given(OUTCOMES)
def test_mcnemar_is_the_binomial_test_of_the_changes(outcomes):
    before, after = zip(*outcomes, strict=True)
    gained = sum(a and not b for b, a in outcomes)
    lost = sum(b and not a for b, a in outcomes)
    p = mcnemar(before, after)
    assert p == pytest.approx(mcnemar(after, before))
    assert p == (pytest.approx(binomtest(gained, gained + lost).pvalue) if gained + lost else 1.0)


def test_mcnemar_by_hand():
    # 5 gained, none lost: twice 1/2^5.
    assert mcnemar([False] * 5 + [True], [True] * 6) == pytest.approx(2 / 32)


@pytest.mark.parametrize("function", [paired_change, mcnemar])
def test_arms_of_different_length_are_refused(function):
    with pytest.raises(ValueError, match="zip"):
        function([True, False], [True])


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([]) == []


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12), st.randoms(use_true_random=False))
def test_holm_keeps_order_and_lies_between_raw_and_bonferroni(pvalues, shuffler):
    adjusted = holm(pvalues)
    for raw, own in zip(pvalues, adjusted, strict=True):
        assert raw <= own <= min(1.0, raw * len(pvalues)) or own == pytest.approx(max(adjusted))
    order = list(range(len(pvalues)))
    shuffler.shuffle(order)
    assert holm([pvalues[i] for i in order]) == [adjusted[i] for i in order]


def test_holm_refuses_what_is_no_probability():
    with pytest.raises(ValueError, match="p-values"):
        holm([0.5, float("nan")])
