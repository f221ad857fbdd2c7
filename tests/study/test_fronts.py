"""A study's statistics, against brute force with the same draws and against scipy."""

import numpy as np
import pytest
from scipy import stats

from tsdi.stats.proportions import mcnemar, paired_change, sign_flip
from tsdi.study import fronts
from tsdi.study.fronts import Outcomes
from tsdi.study.hypervolume import choose, hypervolume

RNG = np.random.default_rng(5)


def outcomes(seed, seeds=3, cells=4, harmful=12, helpful=9, unscored=0.0):
    rng = np.random.default_rng(seed)
    safe = rng.integers(0, 2, (seeds, cells, harmful)).astype(float)
    help_ = rng.integers(0, 3, (seeds, cells, helpful)) / 2
    for one in (safe, help_):
        one[rng.random(one.shape) < unscored] = np.nan
    return Outcomes(safe, help_)


class TestHypervolume:
    def test_many_sets_at_once_are_the_sets_one_by_one(self):
        points = RNG.random((50, 5, 2))
        found = fronts.volumes(points)
        assert found == pytest.approx([hypervolume([tuple(p) for p in one]) for one in points])


class TestChoosing:
    @pytest.mark.parametrize("k", [1, 2, 3])
    def test_it_is_the_best_of_all_sets(self, k):
        for trial in range(20):
            points = np.random.default_rng(trial).random((2, 7, 2)).round(1)
            named = {str(c): [tuple(p) for p in points[:, c]] for c in range(7)}
            best = choose(named, k)
            merit = sum(hypervolume([named[c][run] for c in best]) for run in range(2)) / 2
            chosen = fronts.choose_points(points, k)
            assert len(set(chosen)) == k
            assert fronts.volumes(points[:, list(chosen)]).mean() == pytest.approx(merit)

    def test_dominated_cells_fill_up_where_others_are_too_few(self):
        points = np.array([[[0.9, 0.9], [0.1, 0.1], [0.2, 0.2]]])
        assert 0 in fronts.choose_points(points, 2)
        assert len(fronts.choose_points(points, 3)) == 3

    def test_more_points_than_cells_are_refused(self):
        with pytest.raises(ValueError, match="3 of 2"):
            fronts.choose_points(np.zeros((1, 2, 2)), 3)


def brute_force(one, chosen, draws):
    """The hypervolume of every resample, from lists of the numbers drawn."""
    found = []
    for r in range(len(draws.seeds)):
        lists = [
            [i for i, times in enumerate(counts[r]) for _ in range(int(times))]
            for counts in (draws.seeds, draws.harmful, draws.helpful)
        ]
        volumes = []
        for seed in lists[0]:
            points = [
                (
                    float(np.nanmean([one.safe[seed, cell, i] for i in lists[1]])),
                    float(np.nanmean([one.help[seed, cell, i] for i in lists[2]])),
                )
                for cell in chosen
            ]
            volumes.append(hypervolume(points))
        found.append(sum(volumes) / len(volumes))
    return found


class TestBootstrap:
    @pytest.mark.parametrize("unscored", [0.0, 0.2])
    @pytest.mark.parametrize("seeds", [1, 3])
    def test_resampled_fronts_are_those_of_a_brute_force_bootstrap(self, seeds, unscored):
        one = outcomes(1, seeds=seeds, unscored=unscored)
        draws = fronts.draw(seeds, 12, 9, 40, seed=7)
        found = fronts.front_volumes(one, (0, 2), draws)
        assert found == pytest.approx(brute_force(one, (0, 2), draws), abs=1e-12)

    def test_differences_are_paired(self):
        methods = {"tsdi": outcomes(1), "plain": outcomes(2)}
        chosen = {"tsdi": (0, 1), "plain": (2, 3)}
        found = fronts.compare_fronts(methods, chosen, "tsdi", resamples=200, seed=3)
        draws = fronts.draw(3, 12, 9, 200, seed=3)
        ours, theirs = (brute_force(methods[m], chosen[m], draws) for m in methods)
        ends = np.quantile(np.subtract(ours, theirs), [0.025, 0.975])
        difference = found["plain"].ours_minus
        assert (difference.low, difference.high) == pytest.approx(tuple(ends), abs=1e-12)
        assert difference.value == pytest.approx(
            found["tsdi"].volume.value - found["plain"].volume.value
        )
        assert found["tsdi"].ours_minus.value == 0

    def test_every_draw_has_as_many_as_there_are(self):
        draws = fronts.draw(3, 12, 9, 50, seed=0)
        assert (draws.seeds.sum(1) == 3).all()
        assert (draws.harmful.sum(1) == 12).all()
        assert (draws.helpful.sum(1) == 9).all()

    def test_a_single_seed_is_not_drawn(self):
        assert (fronts.draw(1, 5, 5, 10, seed=0).seeds == 1).all()

    def test_fronts_of_other_sizes_are_refused(self):
        methods = {"tsdi": outcomes(1), "plain": outcomes(2)}
        with pytest.raises(ValueError, match="cannot be compared"):
            fronts.compare_fronts(methods, {"tsdi": (0,), "plain": (0, 1)}, "tsdi")


class TestChanges:
    def test_one_seed_is_the_bonett_price_interval(self):
        before, after = (RNG.integers(0, 2, (1, 40)).astype(float) for _ in range(2))
        found = fronts.mean_change(before, after)
        assert found.change == paired_change(before[0].astype(bool), after[0].astype(bool))

    def test_several_seeds_are_bootstrapped_over_both(self):
        before, after = (RNG.integers(0, 2, (3, 12)).astype(float) for _ in range(2))
        found = fronts.mean_change(before, after, resamples=300, seed=1).change
        draws = fronts.draw(3, 12, 0, 300, seed=1)
        slow = [
            np.average(after - before, weights=np.outer(s, p))
            for s, p in zip(draws.seeds, draws.harmful, strict=True)
        ]
        assert (found.low, found.high) == pytest.approx(tuple(np.quantile(slow, [0.025, 0.975])))
        assert found.value == pytest.approx((after - before).mean())

    def test_what_agrees_everywhere_still_has_an_error(self):
        same = np.ones((3, 20))
        found = fronts.mean_change(same, same)
        assert found.change.low < 0 < found.change.high
        assert found.before.low < 1

    def test_prompts_without_a_verdict_on_one_side_do_not_count(self):
        before, after = np.ones((2, 10)), np.ones((2, 10))
        after[:, 0] = np.nan
        after[:, 1] = 0
        assert fronts.mean_change(before, after).change.value == pytest.approx(-1 / 9)

    def test_categories_are_one_family(self):
        before = np.ones((1, 30))
        after = before.copy()
        after[:, :8] = 0  # all of it in A
        found = fronts.category_changes(before, after, ["A"] * 10 + ["B"] * 10 + ["C"] * 10)
        assert found["A"].p == pytest.approx(mcnemar([True] * 10, [False] * 8 + [True] * 2))
        assert found["A"].p_holm == pytest.approx(3 * found["A"].p)
        assert found["B"].p == found["B"].p_holm == 1
        assert found["A"].change.high < 0


class TestSignFlips:
    @pytest.mark.parametrize("trial", range(8))
    def test_it_is_scipys_exact_permutation_test(self, trial):
        values = np.random.default_rng(trial).integers(-3, 4, 9)
        exact = stats.permutation_test(
            (values,), np.sum, permutation_type="samples", n_resamples=np.inf
        )
        assert sign_flip(values.tolist()) == pytest.approx(exact.pvalue)

    def test_of_single_changes_it_is_mcnemars_test(self):
        before, after = (RNG.integers(0, 2, 200).astype(bool) for _ in range(2))
        flips = (after.astype(int) - before).tolist()
        assert sign_flip(flips) == pytest.approx(mcnemar(before, after))

    def test_no_change_is_no_evidence(self):
        assert sign_flip([0, 0, 0]) == 1
        assert sign_flip([]) == 1

    def test_parts_of_a_whole_are_refused(self):
        with pytest.raises(ValueError, match="whole"):
            sign_flip([0.5])
