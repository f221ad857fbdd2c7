"""The area under the ROC curve against scikit-learn, a slow definition and its own coverage."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import mannwhitneyu
from sklearn.metrics import roc_auc_score

from tsdi.stats.auc import auc, auc_change

SCORES = st.lists(st.integers(-3, 3).map(float), min_size=2, max_size=12)


@given(SCORES, SCORES)
def test_the_area_is_scikit_learns_and_mann_whitneys(one, other):
    found = auc(one, other)
    truth = roc_auc_score([1] * len(one) + [0] * len(other), one + other)
    assert found.value == pytest.approx(truth)
    assert found.value == pytest.approx(mannwhitneyu(one, other).statistic / len(one) / len(other))
    assert 0 <= found.low <= found.value <= found.high <= 1
    assert found.n == len(one) + len(other)


@given(SCORES, SCORES)
def test_the_ends_are_where_newcombes_score_reaches_z(one, other):
    found, m, n = auc(one, other), len(one), len(other)
    for end in (found.low, found.high):
        if 0 < end < 1:
            half = (m + n) / 2 - 1
            spread = 1 + half * ((1 - end) / (2 - end) + end / (1 + end))
            z = abs(found.value - end) / np.sqrt(end * (1 - end) * spread / (m * n))
            assert z == pytest.approx(1.95996, abs=1e-4)


def test_perfect_scores_are_not_certain():
    few, many = auc([1.0] * 5, [0.0] * 5), auc([1.0] * 500, [0.0] * 500)
    assert (few.value, few.high) == (many.value, many.high) == (1, 1)
    assert few.low < 0.8
    assert many.low > 0.99


def test_without_a_kind_there_is_none():
    assert auc([], [1.0]).value is None
    assert auc_change(([], [1.0]), ([], [2.0])).value is None


def slow_variance(before, after):
    """DeLong's, from the kernel of every pair."""

    def kernel(scores):
        return np.array([[(p > q) + 0.5 * (p == q) for q in scores[1]] for p in scores[0]])

    change = kernel(after) - kernel(before)
    return change.mean(), (
        change.mean(1).var(ddof=1) / len(before[0]) + change.mean(0).var(ddof=1) / len(before[1])
    )


def test_a_change_is_the_slow_delongs():
    drawn = np.random.default_rng(0)
    before = drawn.normal(size=9).round(1), drawn.normal(size=7).round(1)
    after = before[0] + drawn.normal(size=9) + 1, before[1] + drawn.normal(size=7)
    found, (value, variance) = auc_change(before, after), slow_variance(before, after)
    assert found.value == pytest.approx(value)
    assert found.high - found.value == pytest.approx(1.95996 * np.sqrt(variance), abs=1e-5)


def test_both_intervals_hold_what_they_promise():
    drawn, hits, changed = np.random.default_rng(1), 0, 0
    truth = 0.7602  # P(N(1, 1) > N(0, 1))
    for _ in range(200):
        one, other = drawn.normal(1, 1, 30), drawn.normal(0, 1, 40)
        found = auc(one, other)
        hits += found.low <= truth <= found.high
        same = one + drawn.normal(0, 1, 30), other + drawn.normal(0, 1, 40)
        alike = one + drawn.normal(0, 1, 30), other + drawn.normal(0, 1, 40)
        no_change = auc_change(same, alike)
        changed += not no_change.low <= 0 <= no_change.high
    assert hits / 200 > 0.92
    assert changed / 200 < 0.09


def test_scores_of_other_items_are_refused():
    with pytest.raises(ValueError, match="other items"):
        auc_change(([1.0], [2.0]), ([1.0, 2.0], [2.0]))
