import json
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from tsdi.evaluation.statistics import paired_change, wilson

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


def test_arms_of_different_length_are_refused():
    with pytest.raises(ValueError, match="zip"):
        paired_change([True, False], [True])
