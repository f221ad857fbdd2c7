import json
import math
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from tsdi.stats.interval import Estimate, as_json, interval_text
from tsdi.stats.seeds import mean_interval

NUMBERS = st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=12).filter(
    lambda values: max(values) - min(values) > 1e-3
)


@given(NUMBERS, st.sampled_from([0.8, 0.95, 0.99]))
def test_mean_interval_is_scipys(values, confidence):
    mean = math.fsum(values) / len(values)
    low, high = stats.t.interval(confidence, len(values) - 1, loc=mean, scale=stats.sem(values))
    found = mean_interval(values, confidence)
    assert (found.value, found.low, found.high) == pytest.approx((mean, low, high), abs=1e-9)
    assert found.n == len(values)


def test_one_number_has_no_ends_and_none_has_no_value():
    assert mean_interval([2.5]) == Estimate(2.5, -math.inf, math.inf, 1)
    assert mean_interval([]) == Estimate(None, -math.inf, math.inf, 0)


@pytest.mark.parametrize(
    ("estimate", "data", "text"),
    [
        (Estimate(0.5, 0.25, 1.0, 4), [0.5, 0.25, 1.0, 4], "+0.50 [+0.25, +1.00], n = 4"),
        (Estimate(0.5, -math.inf, math.inf, 1), [0.5, None, None, 1], "+0.50, n = 1"),
        (Estimate(None, 0.0, 1.0, 0), [None, 0.0, 1.0, 0], "unknown, n = 0"),
    ],
)
def test_an_estimate_is_valid_json_and_comes_back(estimate, data, text):
    written = json.loads(json.dumps(estimate.to_dict(), allow_nan=False))
    assert written == dict(zip(["value", "low", "high", "n"], data, strict=True))
    assert Estimate.from_dict(written) == estimate
    assert str(estimate) == text


def test_nested_estimates_are_valid_json_too():
    @dataclass
    class Holder:
        share: Estimate
        by_kind: dict[str, Estimate]

    single = mean_interval([1.0])
    found = as_json(Holder(single, {"random": single}))
    assert found == {"share": single.to_dict(), "by_kind": {"random": single.to_dict()}}


def test_an_interval_as_text():
    found = Estimate(0.8125, 0.5, 1.0, 16)
    assert interval_text(found) == "0.812 [0.500, 1.000]"
    assert interval_text(found, 0, percent=True) == "81 % [50, 100]"
    assert interval_text(Estimate(1234.56, -math.inf, math.inf, 1), 4, significant=True) == "1235"
