"""Hypervolume against a slow reference, and the choice of settings."""

import numpy as np
import pytest

from tsdi.study.hypervolume import choose, hypervolume


def covered(points: list[tuple[float, float]], cells: int = 400) -> float:
    """The area by counting the cells of a fine grid that a point dominates."""
    centres = (np.arange(cells) + 0.5) / cells
    x, y = np.meshgrid(centres, centres)
    return float(np.any([(x < a) & (y < b) for a, b in points], axis=0).mean())


@pytest.mark.parametrize("seed", range(20))
def test_hypervolume_is_the_area_that_a_grid_of_cells_counts(seed: int) -> None:
    rng = np.random.default_rng(seed)
    points = [(float(a), float(b)) for a, b in rng.random((rng.integers(1, 7), 2))]
    assert hypervolume(points) == pytest.approx(covered(points), abs=0.01)


def test_hypervolume_of_corner_cases() -> None:
    assert hypervolume([]) == 0
    assert hypervolume([(1.0, 1.0)]) == 1
    assert hypervolume([(0.5, 0.5)] * 3) == 0.25
    assert hypervolume([(0.5, 0.8), (0.5, 0.4)]) == pytest.approx(0.4)
    assert hypervolume([(1.0, 0.0), (0.0, 1.0)]) == 0


def test_the_chosen_settings_complement_each_other_over_all_runs() -> None:
    candidates = {
        "safe": [(1.0, 0.2), (1.0, 0.2)],
        "middle": [(0.6, 0.6), (0.6, 0.6)],
        "nearly safe": [(0.9, 0.25), (0.9, 0.25)],
        "lucky once": [(0.9, 0.9), (0.0, 0.0)],
    }
    assert choose(candidates, 1) == ("lucky once",)
    assert choose({k: v for k, v in candidates.items() if k != "lucky once"}, 2) == (
        "middle",
        "safe",
    )


def test_more_settings_than_there_are_cannot_be_chosen() -> None:
    with pytest.raises(ValueError, match="2 of 1"):
        choose({"only": [(0.5, 0.5)]}, 2)
