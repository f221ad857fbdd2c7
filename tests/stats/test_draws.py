"""Draws: every item's chance is the same, and every stratum has its share."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tsdi.stats.draws import shared_out, systematic


@given(st.dictionaries(st.text(max_size=2), st.integers(0, 30), min_size=1), st.integers(0, 60))
def test_draws_are_shared_out_as_equally_as_sizes_allow(sizes, n):
    found = shared_out(sizes, n)
    assert found.keys() == sizes.keys()
    assert sum(found.values()) == min(n, sum(sizes.values()))
    for name, count in found.items():
        assert count <= sizes[name]
        assert count == sizes[name] or count >= max(found.values()) - 1


@given(st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from("xyz")), min_size=1), st.data())
def test_every_stratum_has_its_share_but_for_less_than_one(strata, data):
    n = data.draw(st.integers(1, len(strata)))
    drawn = systematic(strata, n, np.random.default_rng(data.draw(st.integers(0, 99))))
    assert len(drawn) == len({*drawn}) == n
    for depth in (1, 2):
        sizes = Counter(one[:depth] for one in strata)
        counts = Counter(strata[place][:depth] for place in drawn)
        for stratum, size in sizes.items():
            assert abs(counts[stratum] - n * size / len(strata)) < 1 + 1e-9


def test_every_item_has_the_same_chance():
    """Also where strata are of one item, and the step is no whole number."""
    strata = [("a",)] * 7 + [("b",), ("c",), ("d",)] + [("e",)] * 3
    counts = Counter(
        place
        for seed in range(4000)
        for place in systematic(strata, 5, np.random.default_rng(seed))
    )
    for place in range(13):
        assert counts[place] / 4000 == pytest.approx(5 / 13, abs=0.03)
