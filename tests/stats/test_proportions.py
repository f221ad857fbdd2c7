import json
import random
from math import comb

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from tsdi.stats.clusters import clustered_kappa, clustered_share
from tsdi.stats.interval import Estimate
from tsdi.stats.proportions import holm, mcnemar, paired_change, wilson

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


@given(OUTCOMES)
def test_mcnemar_is_the_binomial_test_of_what_changed(outcomes):
    before, after = zip(*outcomes, strict=True)
    gained = sum(a > b for b, a in outcomes)
    lost = sum(a < b for b, a in outcomes)
    changed = gained + lost
    # By hand: all outcomes of `changed` fair coins that are as far from the middle or further.
    far = [k for k in range(changed + 1) if abs(2 * k - changed) >= abs(gained - lost)]
    assert mcnemar(before, after) == pytest.approx(sum(comb(changed, k) for k in far) / 2**changed)
    assert mcnemar(before, after) == mcnemar(after, before)


def test_mcnemar_of_nothing_and_of_arms_that_do_not_match():
    assert mcnemar([], []) == mcnemar([True], [True]) == 1.0
    with pytest.raises(ValueError, match="zip"):
        mcnemar([True], [])


P_VALUES = st.lists(st.floats(0, 1), max_size=12)


@given(P_VALUES)
def test_holm_is_the_slow_definition(p_values):
    def adjusted(p):
        """The largest of (rank-dependent count) x (p-value) among the values up to p."""
        upto = sorted(q for q in p_values if q <= p)
        return min(1.0, max((len(p_values) - i) * q for i, q in enumerate(upto)))

    assert holm(p_values) == pytest.approx([adjusted(p) for p in p_values])


@given(P_VALUES, st.floats(0.001, 0.2))
def test_holm_rejects_what_the_step_down_procedure_rejects(p_values, alpha):
    rejected = set()
    for rank, place in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        if (len(p_values) - rank) * p_values[place] > alpha:
            break
        rejected.add(place)
    assert {place for place, p in enumerate(holm(p_values)) if p <= alpha} == rejected


def test_holm_by_hand():
    # From R: p.adjust(c(.01, .04, .03, .005), "holm") is .03 .06 .06 .02
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([]) == []


@pytest.mark.parametrize("wrong", [-0.1, 1.1, float("nan")])
def test_holm_refuses_what_is_no_p_value(wrong):
    with pytest.raises(ValueError, match="p-values"):
        holm([0.5, wrong])


def test_a_share_without_clusters_is_wilsons():
    hits = [True] * 30 + [False] * 70
    assert clustered_share(hits, range(100)) == wilson(30, 100)
    assert clustered_share([], []) == wilson(0, 0)
    assert clustered_share([True] * 9, [0] * 9) == wilson(9, 9)


def test_five_copies_of_an_answer_count_as_one():
    hits = [True] * 30 + [False] * 70
    found = clustered_share([h for h in hits for _ in range(5)], [n // 5 for n in range(500)])
    alone = wilson(30, 100)
    assert (found.value, found.n) == (0.3, 500)
    assert (found.low, found.high) == pytest.approx((alone.low, alone.high), abs=1e-3)


def test_one_cluster_says_nothing_of_others():
    found = clustered_share([True, False], ["same", "same"])
    assert (found.value, found.low, found.high) == (0.5, 0.0, 1.0)


def test_intervals_of_clustered_shares_hold_the_truth():
    dice, held = np.random.default_rng(0), 0
    names = [n // 5 for n in range(300)]
    for _ in range(600):
        hits = dice.random(300) < np.repeat(dice.beta(1, 2, 60), 5)
        found = clustered_share(list(hits), names)
        held += found.low <= 1 / 3 <= found.high
    assert 0.925 <= held / 600 <= 0.98


def raters(both, first, second, neither):
    cells = [(True, True)] * both + [(True, False)] * first + [(False, True)] * second
    pairs = cells + [(False, False)] * neither
    return [one for one, _ in pairs], [other for _, other in pairs]


def test_kappa_by_hand():
    """20, 5, 10 and 15 of 50: agreement .7, by chance .5."""
    one, other = raters(20, 5, 10, 15)
    assert clustered_kappa(one, other, range(50)).value == pytest.approx(0.4)
    assert clustered_kappa(one, [not x for x in one], range(50)).value == pytest.approx(-1)


def asymptotic_error(both, first, second, neither):
    """Standard error of kappa, Fleiss, Cohen and Everitt (1969), Psychological Bulletin 72."""
    p = np.array([[neither, second], [first, both]]) / (both + first + second + neither)
    rows, columns = p.sum(1), p.sum(0)
    chance = rows @ columns
    agree = np.trace(p)
    kappa = (agree - chance) / (1 - chance)
    a = sum(p[i, i] * (1 - (rows[i] + columns[i]) * (1 - kappa)) ** 2 for i in (0, 1))
    b = (1 - kappa) ** 2 * sum(
        p[i, j] * (columns[i] + rows[j]) ** 2 for i in (0, 1) for j in (0, 1) if i != j
    )
    c = (kappa - chance * (1 - kappa)) ** 2
    return np.sqrt((a + b - c) / (1 - chance) ** 2 / (both + first + second + neither))


@pytest.mark.parametrize("cells", [(80, 20, 10, 190), (200, 60, 60, 80), (40, 5, 5, 350)])
def test_kappas_interval_is_that_of_its_asymptotic_variance(cells):
    one, other = raters(*cells)
    found = clustered_kappa(one, other, range(len(one)))
    width = 2 * 1.96 * asymptotic_error(*cells)
    assert found.high - found.low == pytest.approx(width, rel=0.07)


def test_kappa_counts_clusters_not_answers():
    one, other = raters(20, 5, 10, 15)
    alone = clustered_kappa(one, other, range(50))
    copies = clustered_kappa(one * 4, other * 4, [*range(50)] * 4)
    assert copies.value == pytest.approx(alone.value)
    assert copies.high - copies.low == pytest.approx(alone.high - alone.low, rel=0.1)


def test_kappa_where_there_is_little_to_go_by():
    assert clustered_kappa([True] * 5, [True] * 5, range(5)) == Estimate(None, -1.0, 1.0, 5)
    assert clustered_kappa([], [], []) == Estimate(None, -1.0, 1.0, 0)
    perfect = clustered_kappa([True, False] * 5, [True, False] * 5, range(10))
    assert perfect.value == perfect.high == 1
    assert 0.2 < perfect.low < 0.9  # ten answers do not prove it
