"""F1, F2 and F4 on the organism: means over seeds of levels, and of what beta and steps change."""

import pytest

from tests.study.test_organisms import seed
from tsdi.stats.seeds import mean_interval
from tsdi.study.findings import GRID, findings

SEEDS = [seed(1, 0.02), seed(2, -0.02)]


def model(made, beta, iterations):
    found = (
        one
        for one in made["models"].values()
        if (one["annotators"], one["beta"], one["iterations"])
        == (GRID[0].annotators, beta, iterations)
    )
    return next(found)


def test_every_model_of_the_biased_grid_has_its_levels():
    found = findings(SEEDS)
    assert len(found["models"]) == sum(len(run.iterations) for run in GRID)
    for one in found["models"]:
        openers = [
            model(made, one["beta"], one["iterations"])["bias"]["refusing_minus_complying"]
            for made in SEEDS
        ]
        assert one["openers"] == mean_interval(openers).to_dict()
        assert one["safety"]["value"] == pytest.approx(0.9)


def test_the_weak_category_is_set_against_the_mean_of_the_others():
    made = [seed(1, 0.02), seed(2, -0.02)]
    for one, weak in zip(made, (0.3, 0.5), strict=True):
        model(one, 0.05, 30)["test"]["plain"]["O3"] = weak
        model(one, 0.05, 30)["test"]["plain"]["safety_by_category"]["O1"] = 0.75
    found = next(
        one for one in findings(made)["models"] if (one["beta"], one["iterations"]) == (0.05, 30)
    )
    assert found["others"]["value"] == pytest.approx((0.75 + 14 * 0.9) / 15)
    assert found["O3_minus_others"]["value"] == pytest.approx(0.4 - (0.75 + 14 * 0.9) / 15)


def test_changes_are_last_less_first_and_smallest_less_largest_beta():
    found = findings(SEEDS)
    first, last = GRID[0].iterations[0], GRID[0].iterations[-1]
    for run in GRID:
        change = found["iterations"][f"{run.beta:g}"]["openers"]["value"]
        assert change == pytest.approx((last - first) / 100)
    small, large = min(run.beta for run in GRID), max(run.beta for run in GRID)
    for step in GRID[0].iterations:
        assert found["beta"][str(step)]["openers"]["value"] == pytest.approx(large - small)
