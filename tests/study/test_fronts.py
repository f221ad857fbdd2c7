"""A study's statistics, against brute force and against scipy."""

import numpy as np
import pytest
from scipy import stats

from tsdi.stats.proportions import mcnemar, paired_change, wilson
from tsdi.stats.seeds import mean_interval
from tsdi.study import fronts
from tsdi.study.fronts import Outcomes, hypervolume

RNG = np.random.default_rng(5)


def outcomes(seed, seeds=3, cells=4, harmful=12, helpful=9, unscored=0.0):
    rng = np.random.default_rng(seed)
    safe = rng.integers(0, 2, (seeds, cells, harmful)).astype(float)
    help_ = rng.integers(0, 3, (seeds, cells, helpful)) / 2
    for one in (safe, help_):
        one[rng.random(one.shape) < unscored] = np.nan
    return Outcomes(safe, help_)


def brute_force(one, chosen, counts):
    """The hypervolume of every seed, from lists of the prompts drawn."""
    harmful, helpful = (
        [i for i, times in enumerate(row) for _ in range(int(times))] for row in counts
    )
    return [
        float(
            hypervolume(
                np.array(
                    [
                        (
                            np.nanmean([one.safe[seed, cell, i] for i in harmful]),
                            np.nanmean([one.help[seed, cell, i] for i in helpful]),
                        )
                        for cell in chosen
                    ]
                )
            )
        )
        for seed in range(len(one.safe))
    ]


def both_fronts(seeds):
    methods = {"tsdi": outcomes(1, seeds=seeds), "plain": outcomes(2, seeds=seeds)}
    return methods, {"tsdi": (0, 1), "plain": (2, 3)}


def by_seed(methods, chosen, counts=None):
    counts = counts or (np.ones(12), np.ones(9))
    ours, theirs = (brute_force(methods[m], chosen[m], counts) for m in methods)
    return np.subtract(ours, theirs)


class TestFronts:
    @pytest.mark.parametrize("unscored", [0.0, 0.2])
    @pytest.mark.parametrize("seeds", [1, 3])
    def test_resampled_fronts_are_those_of_a_brute_force_bootstrap(self, seeds, unscored):
        one = outcomes(1, seeds=seeds, unscored=unscored)
        draws = fronts.draw(12, 9, 40, seed=7)
        found = fronts.front_volumes(one, (0, 2), draws)
        slow = [
            brute_force(one, (0, 2), counts)
            for counts in zip(draws.harmful, draws.helpful, strict=True)
        ]
        assert found == pytest.approx(np.array(slow), abs=1e-12)

    @pytest.mark.parametrize("seeds", [2, 3, 7])
    def test_a_few_seeds_give_scipys_t_interval_of_the_paired_differences(self, seeds):
        methods, chosen = both_fronts(seeds)
        found = fronts.compare_fronts(methods, chosen, "tsdi")["plain"].ours_minus
        test = stats.ttest_1samp(by_seed(methods, chosen), 0).confidence_interval(0.95)
        ends = np.clip([test.low, test.high], -1, 1)  # no difference of areas lies beyond
        assert (found.low, found.high) == pytest.approx(tuple(ends))
        assert found.n == seeds

    def test_many_seeds_add_what_the_prompts_add(self):
        methods, chosen = both_fronts(8)
        found = fronts.compare_fronts(methods, chosen, "tsdi", resamples=300, seed=3)
        difference = found["plain"].ours_minus
        values = by_seed(methods, chosen)
        draws = fronts.draw(12, 9, 300, seed=3)
        drawn = [
            by_seed(methods, chosen, counts).mean()
            for counts in zip(draws.harmful, draws.helpful, strict=True)
        ]
        own, added = np.var(values, ddof=1) / 8, np.var(drawn)
        half = stats.t.ppf(0.975, 7 * ((own + added) / own) ** 2) * np.sqrt(own + added)
        assert difference.high - difference.value == pytest.approx(half)
        assert difference.value == pytest.approx(values.mean())
        assert found["tsdi"].ours_minus.value == 0

    def test_a_single_seed_is_bootstrapped_over_prompts(self):
        methods, chosen = both_fronts(1)
        found = fronts.compare_fronts(methods, chosen, "tsdi", resamples=200, seed=3)
        draws = fronts.draw(12, 9, 200, seed=3)
        drawn = [
            by_seed(methods, chosen, counts)[0]
            for counts in zip(draws.harmful, draws.helpful, strict=True)
        ]
        difference = found["plain"].ours_minus
        assert (difference.low, difference.high) == pytest.approx(
            tuple(np.quantile(drawn, [0.025, 0.975]))
        )

    def test_every_draw_has_as_many_as_there_are(self):
        draws = fronts.draw(12, 9, 50, seed=0)
        assert (draws.harmful.sum(1) == 12).all()
        assert (draws.helpful.sum(1) == 9).all()

    def test_fronts_of_other_sizes_are_refused(self):
        methods = {"tsdi": outcomes(1), "plain": outcomes(2)}
        with pytest.raises(ValueError, match="cannot be compared"):
            fronts.compare_fronts(methods, {"tsdi": (0,), "plain": (0, 1)}, "tsdi")


class TestChanges:
    def test_one_seed_is_the_bonett_price_interval(self):
        before, after = (RNG.integers(0, 2, (1, 40)).astype(float) for _ in range(2))
        found = fronts.mean_change(before, after)
        assert found.change == paired_change(before[0].astype(bool), after[0].astype(bool))
        assert found.before == wilson(int(before.sum()), 40)
        assert found.p == pytest.approx(mcnemar(before[0] > 0, after[0] > 0))

    def test_a_few_seeds_are_scipys_paired_t_test(self):
        before, after = (RNG.integers(0, 2, (3, 40)).astype(float) for _ in range(2))
        found = fronts.mean_change(before, after)
        test = stats.ttest_rel(after.mean(1), before.mean(1)).confidence_interval(0.95)
        assert (found.change.low, found.change.high) == pytest.approx((test.low, test.high))
        assert found.change.value == pytest.approx((after - before).mean())
        assert found.after.value == pytest.approx(after.mean())

    def test_several_seeds_have_no_p_value_over_prompts(self):
        after = np.ones((3, 20))
        after[0] = 0  # one training went wrong: no evidence of other trainings, on any prompt
        found = fronts.category_changes(np.ones((3, 20)), after, ["A"] * 20)["A"]
        assert (found.p, found.p_holm, found.fell) == (None, None, False)

    def test_many_seeds_have_wider_intervals_for_the_prompts(self):
        before, after = (RNG.integers(0, 2, (9, 40)).astype(float) for _ in range(2))
        found = fronts.mean_change(before, after).change
        alone = mean_interval((after - before).mean(1).tolist())
        assert found.low < alone.low
        assert found.high > alone.high

    def test_what_agrees_everywhere_still_has_an_error(self):
        same = np.ones((3, 20))
        found = fronts.mean_change(same, same)
        assert found.change.low < 0 < found.change.high
        assert found.before.low < 1

    def test_seeds_with_one_share_still_have_an_error(self):
        before = np.ones((3, 20))
        after = before.copy()
        after[[0, 1, 2], [4, 5, 6]] = 0  # another prompt of each seed
        found = fronts.mean_change(before, after)
        assert found.change.value == pytest.approx(-0.05)
        assert found.change.low < -0.05 < found.change.high

    def test_prompts_without_a_verdict_on_one_side_do_not_count(self):
        before, after = np.ones((2, 10)), np.ones((2, 10))
        after[:, 0] = np.nan
        after[:, 1] = 0
        assert fronts.mean_change(before, after).change.value == pytest.approx(-1 / 9)

    def test_nothing_with_a_verdict_is_no_change(self):
        nothing = np.full((3, 4), np.nan)
        found = fronts.mean_change(nothing, np.ones((3, 4)))
        assert (found.change.value, found.change.n, found.before.value) == (None, 0, None)

    def test_categories_are_one_family(self):
        before = np.ones((1, 30))
        after = before.copy()
        after[:, :8] = 0  # all of it in A
        found = fronts.category_changes(before, after, ["A"] * 10 + ["B"] * 10 + ["C"] * 10)
        assert found["A"].p == pytest.approx(mcnemar([True] * 10, [False] * 8 + [True] * 2))
        assert found["A"].p_holm == pytest.approx(3 * found["A"].p)
        assert found["B"].p == found["B"].p_holm == 1
        assert found["A"].change.high < 0
