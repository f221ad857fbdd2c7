"""Hypervolume against a slow reference, and the choice of settings."""

from itertools import combinations

import numpy as np
import pytest

from tsdi.study.fronts import choose_points, hypervolume


def covered(points: np.ndarray, cells: int = 400) -> float:
    """The area by counting the cells of a fine grid that a point dominates."""
    centres = (np.arange(cells) + 0.5) / cells
    x, y = np.meshgrid(centres, centres)
    return float(np.any([(x < a) & (y < b) for a, b in points], axis=0).mean())


@pytest.mark.parametrize("seed", range(20))
def test_hypervolume_is_the_area_that_a_grid_of_cells_counts(seed: int) -> None:
    rng = np.random.default_rng(seed)
    points = rng.random((rng.integers(1, 7), 2))
    assert hypervolume(points) == pytest.approx(covered(points), abs=0.01)


@pytest.mark.parametrize(
    ("points", "area"),
    [
        ([(1.0, 1.0)], 1),
        ([(0.5, 0.5)] * 3, 0.25),
        ([(0.5, 0.8), (0.5, 0.4)], 0.4),
        ([(1.0, 0.0), (0.0, 1.0)], 0),
    ],
)
def test_hypervolume_of_corner_cases(points, area) -> None:
    assert hypervolume(np.array(points)) == pytest.approx(area)


def test_no_points_dominate_nothing() -> None:
    assert hypervolume(np.zeros((0, 2))) == 0


def test_many_sets_at_once_are_the_sets_one_by_one():
    points = np.random.default_rng(5).random((50, 5, 2))
    assert hypervolume(points) == pytest.approx([hypervolume(one) for one in points])


@pytest.mark.parametrize("k", [1, 2, 3])
def test_the_chosen_points_are_the_best_of_all_sets(k):
    for trial in range(20):
        points = np.random.default_rng(trial).random((2, 7, 2)).round(1)
        best = max(hypervolume(points[:, list(some)]).mean() for some in combinations(range(7), k))
        chosen = choose_points(points, k)
        assert len(set(chosen)) == k
        assert hypervolume(points[:, list(chosen)]).mean() == pytest.approx(best)


def test_the_chosen_points_complement_each_other_over_all_runs() -> None:
    safe, middle, nearly, lucky = (
        [(1.0, 0.2), (1.0, 0.2)],
        [(0.6, 0.6), (0.6, 0.6)],
        [(0.9, 0.25), (0.9, 0.25)],
        [(0.9, 0.9), (0.0, 0.0)],
    )
    points = np.array([safe, middle, nearly, lucky]).transpose(1, 0, 2)
    assert choose_points(points, 1) == (3,)
    assert choose_points(points[:, :3], 2) == (0, 1)


def test_dominated_cells_fill_up_where_others_are_too_few():
    points = np.array([[[0.9, 0.9], [0.1, 0.1], [0.2, 0.2]]])
    assert 0 in choose_points(points, 2)
    assert len(choose_points(points, 3)) == 3


def test_more_points_than_there_are_cells_are_refused() -> None:
    with pytest.raises(ValueError, match="2 of 1"):
        choose_points(np.zeros((1, 1, 2)), 2)
