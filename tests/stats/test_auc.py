"""The area under the ROC curve against scikit-learn, a slow definition and its own coverage."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import mannwhitneyu, t
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


def kernel(scores):
    """What every pair counts."""
    return np.array([[(p > q) + 0.5 * (p == q) for q in scores[1]] for p in scores[0]])


def slow_variance(before, after):
    """DeLong's, from the kernel of every pair."""
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


def slow_half(pairs, groups):
    """Obuchowski's variance group by group (her S10, S01 and S11), with Student's quantile."""
    m, n = pairs.shape
    area, every = pairs.mean(), sorted({*groups[0], *groups[1]})
    rows = [np.array(of) == name for name in every for of in groups]
    ones = [sum(pairs[i].mean() - area for i in np.flatnonzero(row)) for row in rows[::2]]
    others = [sum(pairs[:, j].mean() - area for j in np.flatnonzero(row)) for row in rows[1::2]]
    i10, i01, i = len({*groups[0]}), len({*groups[1]}), len(every)
    s10 = i10 / ((i10 - 1) * m) * sum(x**2 for x in ones) / m
    s01 = i01 / ((i01 - 1) * n) * sum(y**2 for y in others) / n
    s11 = i / (i - 1) * sum(x * y for x, y in zip(ones, others, strict=True)) / (m * n)
    freedom = (s10 + s01) ** 2 / (s10**2 / (i10 - 1) + s01**2 / (i01 - 1))
    return t.ppf(0.975, min(freedom, i - 1)) * np.sqrt(s10 + s01 + 2 * s11)


class TestGroups:
    """Near copies are not independent."""

    MIXED = (list("aabbbcdef"), list("aaccghh"))  # a and c have items of both kinds

    def scores(self, seed=0):
        drawn = np.random.default_rng(seed)
        before = drawn.normal(size=9).round(1), drawn.normal(size=7).round(1)
        return before, (before[0] + drawn.normal(size=9) + 1, before[1] + drawn.normal(size=7))

    @pytest.mark.parametrize("seed", range(4))
    def test_a_change_is_the_slow_obuchowskis(self, seed):
        before, after = self.scores(seed)
        found = auc_change(before, after, self.MIXED)
        half = slow_half(kernel(after) - kernel(before), self.MIXED)
        assert found.value == auc_change(before, after).value
        ends = max(-1, found.value - half), min(1, found.value + half)
        assert (found.low, found.high) == pytest.approx(ends)

    @pytest.mark.parametrize("seed", range(4))
    def test_an_area_is_newcombes_widened_as_obuchowskis_is_against_delongs(self, seed):
        scores = self.scores(seed)[0]
        found = auc(*scores, self.MIXED)
        flat = tuple(np.zeros_like(one) for one in scores)
        alone = np.sqrt(slow_variance(flat, scores)[1])
        z = max(1.95996, slow_half(kernel(scores), self.MIXED) / alone)
        for end in (found.low, found.high):
            spread = 1 + 7 * ((1 - end) / (2 - end) + end / (1 + end))
            error = np.sqrt(end * (1 - end) * spread / 63)
            assert abs(found.value - end) / error == pytest.approx(z, abs=1e-4)

    def test_without_copies_it_is_the_interval_of_independent_items(self):
        before, after = self.scores()
        names = range(9), range(9, 16)
        assert auc(*after, names) == auc(*after)
        assert auc_change(before, after, names) == auc_change(before, after)

    def test_copies_add_nothing_to_what_is_known(self):
        before, after = self.scores()
        copied = [tuple(np.repeat(one, 20) for one in scores) for scores in (before, after)]
        names = np.repeat(range(9), 20), np.repeat(range(9, 16), 20)
        plain, found = auc_change(before, after), auc_change(*copied, names)
        assert found.value == pytest.approx(plain.value)
        assert plain.high - plain.low < found.high - found.low < 1.2 * (plain.high - plain.low)
        one, many = auc(*after), auc(*copied[1], names)
        assert many.low == pytest.approx(one.low, abs=0.05)
        assert many.high == pytest.approx(one.high, abs=0.05)

    def test_perfect_scores_are_as_certain_as_their_groups(self):
        assert auc([1.0] * 50, [0.0] * 50, (list(range(5)) * 10, list(range(5, 10)) * 10)) == (
            replace(auc([1.0] * 5, [0.0] * 5), n=100)
        )

    @pytest.mark.parametrize("names", [("aaaa", "bbcd"), ("bbcd", "aaaa")])
    def test_one_group_does_not_say_how_far_others_would_be(self, names):
        scores = [3.0, 1.0, 4.0, 1.5], [1.0, 2.0, 0.0, 0.5]
        found = auc(*scores, names)
        assert (found.value, found.low, found.high) == (auc(*scores).value, 0, 1)
        change = auc_change(scores, scores[::-1], names)
        assert (change.low, change.high) == (-1, 1)

    def test_both_intervals_hold_what_they_promise_of_few_groups(self):
        drawn, hits, changed = np.random.default_rng(2), 0, 0
        names = np.repeat(range(10), 6), np.repeat(range(10, 22), 5)

        def alike(mean=0.0):
            centres = [drawn.normal(mean, 0.7, count) for count in (10, 12)]
            noise = [drawn.normal(0, 0.7, 60) for _ in centres]
            return tuple(
                np.repeat(one, 60 // len(one)) + more
                for one, more in zip(centres, noise, strict=True)
            )

        for _ in range(200):
            one, other = alike()
            found = auc(one + 1, other, names)
            hits += found.low <= 0.7625 <= found.high  # P(N(1, .98) > N(0, .98))
            first, second = alike(), alike()
            same = [(one + more[0] + 1, other + more[1]) for more in (first, second)]
            no_change = auc_change(*same, names)
            changed += not no_change.low <= 0 <= no_change.high
        assert hits / 200 > 0.9
        assert changed / 200 < 0.1
