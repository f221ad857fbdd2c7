"""The length-controlled win rate against another fit, and on data with a known effect of length."""

import numpy as np
import pytest
from scipy.special import expit
from sklearn.linear_model import LogisticRegression

from tsdi.evaluation.length_control import length_controlled
from tsdi.stats.interval import Estimate


def simulated(seed, model=0.3, length=1.5, prompts=300, shift=80):
    """Wins and losses whose log-odds are the model's, plus more for a longer answer."""
    draw = np.random.default_rng(seed)
    longer = draw.normal(shift, 200, prompts).round()
    chances = expit(model + length * np.tanh(longer / longer.std(ddof=1)))
    return (draw.random(prompts) < chances).astype(float), longer


def test_it_is_the_maximum_of_the_likelihood_as_another_fit_finds_it():
    """Scikit-learn takes classes: each prompt as a win and a loss, weighted by its preference."""
    draw = np.random.default_rng(0)
    longer = draw.normal(30, 100, 200)
    wins = np.clip(expit(longer / 100 + draw.normal(0, 1, 200)), 0.01, 0.99)
    feature = np.tanh(longer / longer.std(ddof=1))[:, None]
    fit = LogisticRegression(C=1e12, tol=1e-12, max_iter=10_000).fit(
        np.concatenate([feature, feature]),
        np.repeat([1, 0], 200),
        sample_weight=np.concatenate([wins, 1 - wins]),
    )
    found = length_controlled(wins, longer, range(200))
    assert found.value == pytest.approx(expit(fit.intercept_[0]), abs=1e-6)


def test_a_known_effect_of_length_is_taken_out():
    found = [length_controlled(*simulated(seed), range(300)) for seed in range(200)]
    raw = np.mean([simulated(seed)[0].mean() for seed in range(200)])
    truth = expit(0.3)
    assert np.mean([one.value for one in found]) == pytest.approx(truth, abs=0.01)
    assert raw > truth + 0.05
    covered = np.mean([one.low <= truth <= one.high for one in found])
    assert 0.91 <= covered <= 0.985


def test_without_an_effect_of_length_nothing_changes_much():
    wins, longer = simulated(0, length=0.0, prompts=3000)
    found = length_controlled(wins, longer, range(3000))
    assert found.value == pytest.approx(wins.mean(), abs=0.01)


def test_swapping_the_models_mirrors_it():
    wins, longer = simulated(1)
    found = length_controlled(wins, longer, range(300))
    swapped = length_controlled(1 - wins, -longer, range(300))
    assert (swapped.value, swapped.low, swapped.high) == pytest.approx(
        (1 - found.value, 1 - found.high, 1 - found.low), abs=1e-6
    )


def test_a_model_ties_with_itself():
    found = length_controlled([0.5] * 10, [0] * 10, range(10))
    assert (found.value, found.low, found.high) == (0.5, 0.5, 0.5)


def test_without_differences_in_length_it_is_the_win_rate():
    wins = [1, 0, 1, 1, 0.5]
    assert length_controlled(wins, [0] * 5, range(5)).value == pytest.approx(0.7)


def test_answers_to_one_prompt_are_one_piece_of_evidence():
    wins, longer = simulated(2, prompts=100)
    once = length_controlled(wins, longer, range(100))
    again = length_controlled(np.repeat(wins, 4), np.repeat(longer, 4), np.repeat(range(100), 4))
    assert again.value == pytest.approx(once.value, abs=2e-3)  # the spread counts n - 1
    assert again.high - again.low == pytest.approx(once.high - once.low, rel=0.02)


def test_the_standard_error_is_the_jackknifes():
    wins, longer = simulated(3, shift=0)
    found = length_controlled(wins, longer, range(300))
    rest = [np.delete(np.arange(300), place) for place in range(300)]
    logits = [_logit(length_controlled(wins[r], longer[r], r).value) for r in rest]
    jackknife = np.sqrt(299 / 300 * np.sum((logits - np.mean(logits)) ** 2))
    half = (_logit(found.high) - _logit(found.low)) / 2
    assert half / 1.968 == pytest.approx(jackknife, rel=0.05)  # t with 298 degrees of freedom


def _logit(share):
    return np.log(share / (1 - share))


@pytest.mark.parametrize(
    ("wins", "longer"),
    [
        ([1, 0], [5, -5]),  # too few
        ([1, 0, 1, 0], [7, 7, 7, 7]),  # model and length are one
        ([1, 1, 0, 0], [5, 9, -5, -9]),  # length explains all
        ([1, 1, 1, 1], [5, 9, -5, -9]),  # so would the model
        ([], []),
    ],
)
def test_where_nothing_tells_length_and_model_apart_there_is_no_value(wins, longer):
    found = length_controlled(wins, longer, range(len(wins)))
    assert found == Estimate(None, 0.0, 1.0, len(wins))


def test_one_number_each_per_prompt():
    with pytest.raises(ValueError, match="per prompt"):
        length_controlled([1, 0], [3], [1, 2])
