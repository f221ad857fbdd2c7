"""Figures in 80 columns."""

import math

from tsdi.stats.interval import Estimate, compact_text


def test_a_figure_without_a_known_interval_stands_alone():
    assert compact_text(Estimate(0.92, -math.inf, math.inf, 1), signed=True) == "+.92"
    assert compact_text(Estimate(0.92, 0.9, 0.94, 500)) == ".92 [.90 .94]"
