"""Prediction-powered means: the package of their authors, the intervals they become, coverage."""

import numpy as np
import ppi_py
import pytest
from statsmodels.stats.proportion import proportion_confint

from tsdi.stats.interval import Estimate
from tsdi.stats.prediction_powered import Item, powered_change, powered_share
from tsdi.stats.proportions import paired_change


def share_items(truths, words, labelled):
    """Items of a judge that says yes or no, of which some are labelled."""
    return [
        Item(bool(word), float(word), float(truth) if place in labelled else None)
        for place, (truth, word) in enumerate(zip(truths, words, strict=True))
    ]


def drawn(seed, n, labels, right=0.9, share=0.4):
    dice = np.random.default_rng(seed)
    truths = dice.random(n) < share
    words = np.where(dice.random(n) < right, truths, ~truths)
    return truths, words, set(dice.permutation(n)[:labels].tolist())


def split(truths, words, labelled):
    """Labels with the judge's words on the same items, and its words on the others, as floats."""
    known = np.isin(np.arange(len(truths)), sorted(labelled))
    return truths[known].astype(float), words[known].astype(float), words[~known].astype(float)


@pytest.mark.parametrize("right", [0.95, 0.7, 0.5])
def test_the_value_is_that_of_the_package_of_the_authors_at_the_best_power(right):
    """Ours is over all items, theirs over the unlabelled: power times N / (N - n)."""
    truths, words, labelled = drawn(1, 400, 100, right)
    ours = powered_share(share_items(truths, words, labelled))
    y, f, g = split(truths, words, labelled)
    power = y[f == 1].mean() - y[f == 0].mean()
    theirs = ppi_py.ppi_mean_pointestimate(y, f, g, lam=power * 300 / 400)
    assert ours.value == pytest.approx(float(np.squeeze(theirs)), abs=1e-12)
    assert ours.n == 100


def test_with_many_labels_interval_and_power_are_those_of_the_package_too():
    truths, words, labelled = drawn(3, 40_000, 10_000)
    ours = powered_share(share_items(truths, words, labelled))
    low, high = ppi_py.ppi_mean_ci(*split(truths, words, labelled), alpha=0.05)
    assert (ours.low, ours.high) == pytest.approx((low.item(), high.item()), abs=2e-4)
    assert high - low < 0.8 * 2 * 1.96 * np.sqrt(0.24 / 10_000)  # what labels alone say


def test_the_change_of_two_answers_is_that_of_the_package_with_many_labels():
    dice = np.random.default_rng(4)
    before = dice.random(40_000) < 0.5
    after = np.where(dice.random(40_000) < 0.2, ~before, before)
    words = [np.where(dice.random(40_000) < 0.9, arm, ~arm) for arm in (before, after)]
    truth = after.astype(float) - before
    labelled = dice.permutation(40_000) < 10_000
    items = [
        Item((b, a), float(a) - float(b), t if known else None)
        for b, a, t, known in zip(*words, truth, labelled, strict=True)
    ]
    ours = powered_change(items)
    # The best guess of the change by the judge's two words, from the labelled pairs.
    cells = 2 * words[0] + words[1]
    means = np.array([truth[labelled & (cells == cell)].mean() for cell in range(4)])[cells]
    low, high = ppi_py.ppi_mean_ci(truth[labelled], means[labelled], means[~labelled], alpha=0.05)
    assert (ours.low, ours.high) == pytest.approx((low.item(), high.item()), abs=4e-4)


def test_by_hand_with_an_unequal_share_of_labels_in_each_stratum():
    """Judge's yes on 30 of 100 items; 4 of 5 labels there are hits, 1 of 10 of the others.

    One of the five stands for twice as many items as the others do: 36 / 8 labels of one weight.
    """
    items = [Item("yes", 1, 1.0)] * 4 + [Item("yes", 1, 0.0, 2.0)] + [Item("yes", 1)] * 25
    items += [Item("no", 0, 1.0)] + [Item("no", 0, 0.0)] * 9 + [Item("no", 0)] * 60
    found = powered_share(items)
    assert found.value == pytest.approx(0.3 * 4 / 6 + 0.7 * 0.1)
    z2 = 1.959963984540054**2
    centres, variances = [], []
    for share, mean, n in ((0.3, 4 / 6, 36 / 8), (0.7, 0.1, 10)):
        p = (mean * n + share * z2 / 2) / (n + share * z2)
        centres.append(share * p)
        variances.append(share**2 * p * (1 - p) / (n + share * z2))
    centre = sum(centres)
    between = 0.3 * (centres[0] / 0.3 - centre) ** 2 + 0.7 * (centres[1] / 0.7 - centre) ** 2
    half = np.sqrt(z2 * (between / 100 + sum(variances)))
    assert (found.low, found.high) == pytest.approx((centre - half, centre + half))


def test_a_judge_that_always_says_one_thing_leaves_the_labels_alone():
    truths = [True] * 7 + [False] * 13 + [True] * 80
    found = powered_share(share_items(truths, [True] * 100, set(range(20))))
    assert found.value == 7 / 20
    theirs = proportion_confint(7, 20, method="agresti_coull")
    assert (found.low, found.high) == pytest.approx(theirs)
    before = [True] * 5 + [False] * 15
    after = [False] * 3 + [True] * 10 + [False] * 7
    pairs = [Item("same", 0, float(a) - float(b)) for b, a in zip(before, after, strict=True)]
    found, plain = powered_change([*pairs, *[Item("same", 0)] * 80]), paired_change(before, after)
    assert found.value == plain.value
    assert (found.low, found.high) == pytest.approx((plain.low, plain.high))


def test_weights_undo_a_draw_that_took_more_of_what_is_unsafe():
    """9 of 10 hits are labelled, and 1 of 10 of the rest; only weights say so."""
    dice = np.random.default_rng(5)
    truths = np.arange(2000) < 600
    chance = np.where(truths, 0.9, 0.1)
    chosen = dice.random(2000) < chance
    made = [
        Item("same", 1, float(t) if c else None, weight)
        for t, c, weight in zip(truths, chosen, 1 / chance, strict=True)
    ]
    found = powered_share(made)
    assert found.value == pytest.approx(0.3, abs=0.03)
    blind = powered_share([Item(i.word, i.guess, i.truth) for i in made])
    assert blind.value > 0.7
    doubled = powered_share([Item(i.word, i.guess, i.truth, 2 * i.weight) for i in made])
    assert doubled.low == pytest.approx(found.low)
    assert found.high - found.low > blind.high - blind.low  # unequal weights are worth less


def test_a_word_without_labels_counts_as_said_and_could_be_anything():
    items = [Item("no", 0, 0.0)] * 40 + [Item("no", 0)] * 40 + [Item("yes", 1)] * 20
    found = powered_share(items)
    assert found.value == pytest.approx(0.2)
    assert found.low < 0.03
    assert found.high > 0.25
    assert powered_share([Item("yes", 1)]) == Estimate(None, 0.0, 1.0, 0)
    assert powered_change([]) == Estimate(None, -1.0, 1.0, 0)


@pytest.mark.parametrize(("right", "share"), [(0.97, 0.05), (0.97, 0.5), (0.5, 0.3), (0.0, 0.1)])
def test_intervals_hold_the_truth_however_good_the_judge_is(right, share):
    held = []
    for seed in range(300):
        found = powered_share(share_items(*drawn(seed, 250, 40, right, share)))
        held.append(found.low <= share <= found.high)
    assert np.mean(held) > 0.92
