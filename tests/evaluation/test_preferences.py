"""Preferences of two runs to figures."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from tsdi.evaluation.preferences import Compared, win_figures
from tsdi.stats.clusters import clustered_mean
from tsdi.stats.interval import Estimate
from tsdi.stats.proportions import wilson

SHARES = st.floats(0, 1)
WINS = st.none() | st.integers(0, 8).map(lambda eighths: eighths / 8)


def compared(second, first, prompt=None, longer=0, identical=False):
    """A run's win shown second and shown first, to a prompt of its own."""
    return Compared(object() if prompt is None else prompt, second, first, longer, identical)


def test_both_orders_are_averaged_and_a_tie_is_half_a_win():
    figures = win_figures([compared(1, 1), compared(1, 0), compared(0.2, 0.3), compared(0.5, 0.5)])
    assert figures.win_rate.value == pytest.approx((1 + 0.5 + 0.25 + 0.5) / 4)
    assert (figures.wins, figures.ties, figures.losses) == (1, 2, 1)


def test_a_judge_that_always_takes_the_first_answer_finds_nobody_better_and_is_found_out():
    figures = win_figures([compared(second=0, first=1) for _ in range(20)])
    assert figures.win_rate.value == 0.5
    assert figures.first_position == wilson(20, 20)
    assert figures.ties == 20


def test_identical_answers_are_ties_and_say_nothing_of_the_order():
    same = [compared(0.5, 0.5, identical=True) for _ in range(3)]
    figures = win_figures([compared(0, 1), compared(0, 1), *same])
    assert (figures.identical, figures.ties, figures.win_rate.n) == (3, 5, 5)
    assert (figures.first_position.value, figures.first_position.n) == (1.0, 2)


def test_a_prompt_with_an_unscored_order_counts_in_the_bounds_only():
    figures = win_figures([compared(1, 1), compared(0, None)])
    assert (figures.win_rate.value, figures.win_rate.n) == (1.0, 1)
    assert figures.unscored == wilson(1, 2)
    assert figures.bounds == (0.5, 1.0)


def test_nothing_scored_gives_no_value():
    figures = win_figures([compared(None, None), compared(1, None)])
    assert figures.win_rate == Estimate(None, 0.0, 1.0, 0)
    assert figures.length_controlled == Estimate(None, 0.0, 1.0, 0)
    assert figures.longer is None
    assert figures.bounds == (0.0, 1.0)
    assert figures.to_dict()["win_rate"] == {"value": None, "low": 0.0, "high": 1.0, "n": 0}


def test_figures_are_valid_json():
    figures = win_figures([compared(1, 0.5, longer=3), compared(0, 1, longer=-9)]).to_dict()
    assert figures["longer"] == -3
    assert set(figures) == {
        *("win_rate", "length_controlled", "wins", "ties", "losses", "first_position"),
        *("identical", "longer", "unscored", "bounds"),
    }


@given(st.lists(st.tuples(WINS, WINS), min_size=1, max_size=30))
def test_swapping_the_runs_mirrors_the_figures(wins):
    figures = win_figures([compared(*pair) for pair in wins])
    swapped = win_figures(
        [compared(*(None if win is None else 1 - win for win in reversed(pair))) for pair in wins]
    )
    assert (figures.wins + figures.ties + figures.losses) == figures.win_rate.n
    assert swapped.bounds == pytest.approx([1 - end for end in reversed(figures.bounds)])
    if figures.win_rate.value is not None:
        assert swapped.win_rate.value == pytest.approx(1 - figures.win_rate.value)
        assert swapped.win_rate.low == pytest.approx(1 - figures.win_rate.high)
        assert swapped.first_position.value == pytest.approx(figures.first_position.value)
        low, high = figures.bounds
        assert low - 1e-9 <= figures.win_rate.value <= high + 1e-9


@given(st.lists(SHARES, min_size=2, max_size=30))
def test_without_clusters_the_interval_is_students(values):
    found = clustered_mean(values, range(len(values)))
    assert found.value == pytest.approx(np.mean(values))
    if np.std(values) > 1e-6:
        low, high = stats.t.interval(0.95, len(values) - 1, np.mean(values), stats.sem(values))
        assert (found.low, found.high) == pytest.approx((max(0, low), min(1, high)))


def test_answers_to_one_prompt_are_one_piece_of_evidence():
    """Ten answers to each of eight prompts that all end alike know no more than one each."""
    values = [0.1, 0.9, 0.4, 0.6, 0.7, 0.3, 0.8, 0.2]
    once = clustered_mean(values, range(8))
    again = clustered_mean(np.repeat(values, 10), np.repeat(range(8), 10))
    assert (again.value, again.low, again.high) == pytest.approx((once.value, once.low, once.high))
    assert again.n == 80


def test_one_prompt_alone_says_nothing_of_others():
    assert clustered_mean([0.3, 0.7], ["p", "p"]) == Estimate(0.5, 0.0, 1.0, 2)


def test_all_won_is_not_known_for_certain():
    assert clustered_mean([1.0] * 10, range(10)) == wilson(10, 10)
    assert clustered_mean([0.0] * 10, range(10)) == wilson(0, 10)


def test_intervals_cover_the_mean_of_clustered_preferences():
    draw, hits = np.random.default_rng(0), 0
    for _ in range(300):
        centres = draw.beta(2, 3, 40)
        values = np.clip(np.repeat(centres, 3) + draw.normal(0, 0.02, 120), 0, 1)
        found = clustered_mean(values, np.repeat(range(40), 3))
        hits += found.low <= 0.4 <= found.high
    assert 0.92 <= hits / 300 <= 0.98
