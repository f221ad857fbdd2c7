import numpy as np
import pytest
from scipy.stats import binom, binomtest

from tsdi.errors import UsageError
from tsdi.stats.proportions import mcnemar, wilson
from tsdi.stats.sample_size import mcnemar_power, prompts_for_change, prompts_for_interval


def slow_power(n, lost, gained, alpha):
    """The sum over all tables, each with its own test."""
    total = 0.0
    for changed in range(1, n + 1):
        weight = binom.pmf(changed, n, lost + gained)
        for losses in range(changed + 1):
            if binomtest(losses, changed).pvalue <= alpha:
                total += weight * binom.pmf(losses, changed, lost / (lost + gained))
    return total


@pytest.mark.parametrize("alpha", [0.05, 0.05 / 16])
@pytest.mark.parametrize(("lost", "gained"), [(0.3, 0.0), (0.3, 0.1), (0.2, 0.2), (0.0, 0.5)])
def test_power_is_the_sum_over_all_tables(lost, gained, alpha):
    for n in (5, 17):
        assert mcnemar_power(n, lost, gained, alpha) == pytest.approx(
            slow_power(n, lost, gained, alpha), abs=1e-9
        )


def test_power_is_how_often_simulated_runs_are_significant():
    rng = np.random.default_rng(0)
    found = 0
    for _ in range(600):
        draw = rng.random(120)
        before = draw < 0.12  # lost
        after = (draw >= 0.12) & (draw < 0.15)  # gained
        found += mcnemar(before.tolist(), after.tolist()) <= 0.05
    assert found / 600 == pytest.approx(mcnemar_power(120, 0.12, 0.03), abs=0.06)


@pytest.mark.parametrize(("change", "against"), [(0.05, 0.0), (0.05, 0.02), (0.2, 0.1), (1.0, 0.0)])
def test_so_many_prompts_have_the_power_and_one_less_has_not(change, against):
    n = prompts_for_change(change, against)
    assert mcnemar_power(n, change + against, against) >= 0.8
    assert mcnemar_power(n - 1, change + against, against) < 0.8


def test_five_points_that_all_go_one_way_need_six_changes():
    # Fewer than six changes are never significant: 2 * 0.5 ** 5 > 0.05.
    n = prompts_for_change(0.05)
    assert binom.sf(5, n, 0.05) >= 0.8 > binom.sf(5, n - 1, 0.05)


@pytest.mark.parametrize(("share", "half"), [(0.5, 0.05), (0.95, 0.05), (1.0, 0.01), (0.02, 0.01)])
def test_so_many_prompts_have_the_interval(share, half):
    n = prompts_for_interval(share, half)
    found = wilson(round(share * n), n)
    assert found.high - found.low <= 2 * half
    assert n > 1


@pytest.mark.parametrize(
    "arguments", [(0.0, 0.0), (-0.1, 0.0), (0.6, 0.3), (0.5, -0.1), (1e-6, 0.0)]
)
def test_questions_without_an_answer_are_named(arguments):
    with pytest.raises(UsageError):
        prompts_for_change(*arguments)


@pytest.mark.parametrize("arguments", [(1.2, 0.05), (0.5, 0.0), (0.5, 1.0)])
def test_intervals_that_are_none_are_named(arguments):
    with pytest.raises(UsageError):
        prompts_for_interval(*arguments)
