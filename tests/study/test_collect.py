"""What a finished study measures beside answers."""

import numpy as np
import pytest
from scipy.stats import mannwhitneyu

from tsdi.study.collect import area_under_roc


def test_the_area_under_the_roc_is_scipys():
    rng = np.random.default_rng(0)
    higher, lower = rng.integers(0, 9, 40) / 2 + 1, rng.integers(0, 9, 30) / 2  # with ties
    pairs = len(higher) * len(lower)
    expected = mannwhitneyu(higher, lower).statistic / pairs
    assert area_under_roc(higher, lower) == pytest.approx(expected)
    assert area_under_roc(np.array([1.0]), np.array([1.0])) == 0.5
