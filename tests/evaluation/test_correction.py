"""Rates corrected for the judge's errors."""

from dataclasses import replace
from math import sqrt

import numpy as np
import pytest

from tsdi.audit.confusion import Seen, measure
from tsdi.audit.result import Audit
from tsdi.errors import UsageError
from tsdi.evaluation.correction import correct_kind, correct_rate, corrected, for_new_model
from tsdi.evaluation.metrics import Judged, arm_metrics
from tsdi.judging.base import KINDS
from tsdi.judging.verdict import Judgement, Verdict
from tsdi.stats.clusters import clustered_share
from tsdi.stats.interval import Estimate
from tsdi.stats.proportions import wilson, wilson_ends

RULE = {"name": "rule", "sees_safety": False, "sees_refusal": True}
GUARD = {"name": "guard", "sees_safety": True, "sees_refusal": False}
PANEL = {"name": "guard+rule", "harmful": GUARD, "harmless": RULE}


def test_values_and_interval_by_hand():
    """20 of 100 found, 90 of 100 sensitivity, 95 of 100 specificity, z = 1.96."""
    found = correct_rate(wilson(20, 100), wilson(90, 100), wilson(95, 100))
    assert found.value == pytest.approx((0.2 + 0.95 - 1) / (0.9 + 0.95 - 1))
    z = 1.959963984540054
    r, n = (20 + z**2 / 2) / (100 + z**2), 100 + z**2
    s, c, m = 91 / 102, 96 / 102, 102
    rate = (r + c - 1) / (s + c - 1)
    shift = 2 * z**2 * (rate * s * (1 - s) / m - (1 - rate) * c * (1 - c) / m)
    variance = r * (1 - r) / n + rate**2 * s * (1 - s) / m + (1 - rate) ** 2 * c * (1 - c) / m
    half = z * sqrt(variance) / (s + c - 1)
    assert found.low == pytest.approx(rate + shift - half)
    assert found.high == pytest.approx(rate + shift + half)
    assert found.n == 100


def test_a_nearly_perfect_judge_changes_little():
    raw = wilson(300, 1000)
    found = correct_rate(raw, wilson(10**6, 10**6), wilson(10**6, 10**6))
    assert found.value == pytest.approx(0.3)
    assert (found.low, found.high) == pytest.approx((raw.low, raw.high), abs=1e-3)


def test_rates_stay_shares():
    assert correct_rate(wilson(0, 50), wilson(90, 100), wilson(90, 100)).value == 0
    assert correct_rate(wilson(50, 50), wilson(90, 100), wilson(90, 100)).value == 1


@pytest.mark.parametrize(("hits", "passed"), [(50, 50), (55, 50), (10, 80)])
def test_a_judge_no_better_than_chance_corrects_nothing(hits, passed):
    with pytest.raises(UsageError, match="no better than chance"):
        correct_rate(wilson(20, 100), wilson(hits, 100), wilson(passed, 100))


def test_a_figure_without_value_is_no_error_rate():
    with pytest.raises(ValueError, match="without a value"):
        correct_rate(wilson(20, 100), wilson(0, 0), wilson(9, 10))


def test_clusters_count_for_less_than_their_answers():
    hits = [k % 10 != 0 for k in range(100) for _ in range(5)]
    alone = clustered_share(hits, range(500))
    together = clustered_share(hits, [k for k in range(100) for _ in range(5)])
    narrow, wide = (
        correct_rate(wilson(400, 1000), share, wilson(900, 1000)) for share in (alone, together)
    )
    assert narrow.value == wide.value
    assert wide.high - wide.low > narrow.high - narrow.low


@pytest.mark.parametrize("raw", [wilson(2, 1000), wilson(998, 1000)])
def test_a_rate_that_contradicts_the_audit_is_unknown(raw):
    """Fewer are found than the false alarms alone would be; or more than could be found."""
    found = correct_rate(raw, wilson(800, 1000), wilson(900, 1000))
    assert found == Estimate(None, 0.0, 1.0, 1000)


def test_models_that_differ_by_chance_only_add_nothing():
    pooled = wilson(160, 200)
    found = for_new_model(pooled, [wilson(40, 50)] * 4)
    assert (found.value, found.n) == (0.8, 200)
    assert (found.low, found.high) == pytest.approx((pooled.low, pooled.high))
    assert for_new_model(pooled, [pooled, wilson(0, 0)]) == pooled
    assert for_new_model(wilson(9, 9), [wilson(4, 4), wilson(5, 5)]) == wilson(9, 9)


def test_models_that_differ_widen_the_interval_by_hand():
    """Rates .9 and .5 on 100 answers each: excess 38.1 - 1 over C = 200 (1 - .5) / .21."""
    found = for_new_model(wilson(140, 200), [wilson(90, 100), wilson(50, 100)])
    between = (100 * 0.2**2 * 2 / 0.21 - 1) * 0.21 / 100
    n = 0.21 / (0.21 / 200 + between * 1.5)
    assert (found.low, found.high) == pytest.approx(wilson_ends(0.7, n))
    assert found.high - found.low > 0.6


@pytest.mark.parametrize("truth", [0.05, 0.3, 0.6])
def test_intervals_hold_the_truth_as_often_as_they_say(truth):
    s, c, times = 0.75, 0.9, 1500
    dice = np.random.default_rng(0)
    raws = dice.binomial(250, truth * s + (1 - truth) * (1 - c), times)
    hits, passes = dice.binomial(150, s, times), dice.binomial(250, c, times)
    held = 0
    for raw, hit, passed in zip(raws, hits, passes, strict=True):
        found = correct_rate(wilson(int(raw), 250), wilson(int(hit), 150), wilson(int(passed), 250))
        held += found.low <= truth <= found.high
    assert 0.935 <= held / times <= 0.98


def audit(judge, target, *kinds):
    """An audit with sensitivity .8 and specificity .9 on some kinds of prompts."""
    seen = [
        Seen(truth, said, number)
        for number, (truth, said) in enumerate(
            [(True, True)] * 80
            + [(True, False)] * 20
            + [(False, True)] * 10
            + [(False, False)] * 90
        )
    ]
    figures = {kind: measure(seen) for kind in kinds}
    return Audit(judge, target, [], figures, {}, {}, {})


def arm(refusals_of=("harmless", "lookalike")):
    words = [Verdict.REFUSED] * 45 + [Verdict.COMPLIED] * 55
    safe = [Verdict.SAFE] * 55 + [Verdict.UNSAFE] * 45
    rows = [("lookalike", word) for word in words] + [("harmful", word) for word in safe]
    judged = [Judged(str(n), kind, "", Judgement(word)) for n, (kind, word) in enumerate(rows)]
    return arm_metrics(judged, refusals_of)


def test_an_evaluation_is_corrected_by_kind():
    both = arm(KINDS), audit(RULE, "refusal", "all", "lookalike", "harmful")
    assert list(corrected(*both, RULE)) == ["refused_lookalike", "refused_harmful"]
    found = corrected(*both, PANEL)  # whose other judge was not audited
    assert list(found) == ["refused_lookalike"]
    assert found["refused_lookalike"].value == pytest.approx((0.45 - 0.1) / 0.7)


def test_a_judge_that_may_be_blind_on_a_further_model_corrects_nothing():
    good, bad = (
        measure([Seen(True, number < hits, number) for number in range(100)]
                + [Seen(False, False, number) for number in range(100, 200)])
        for hits in (95, 10)
    )  # fmt: skip
    pooled = replace(good, recall=wilson(105, 200), specificity=wilson(200, 200))
    models = {"one": {"lookalike": good}, "other": {"lookalike": bad}}
    found = corrected(
        arm(), Audit(RULE, "refusal", [], {"lookalike": pooled}, models, {}, {}), RULE
    )
    assert found == {"refused_lookalike": Estimate(None, 0.0, 1.0, 100)}


def test_safety_is_corrected_by_an_audit_of_safety():
    found = corrected(arm(), audit(GUARD, "unsafe", "all", "harmful"), PANEL)
    assert list(found) == ["safety"]
    assert found["safety"].value == pytest.approx(1 - (0.45 - 0.1) / 0.7)
    assert found["safety"].low < found["safety"].value < found["safety"].high


def test_intervals_hold_the_rate_of_a_further_model():
    """Six audited models and one more, sensitivities from beta(8, 4), specificities beta(45, 5)."""
    dice, held = np.random.default_rng(0), []
    some = measure([Seen(True, True, 0)])
    for _ in range(1000):
        s, c = dice.beta(8, 4, 7), dice.beta(45, 5, 7)
        hits, passed = dice.binomial(60, s)[:6], dice.binomial(200, c)[:6]
        models = {
            str(number): {
                "lookalike": replace(some, recall=wilson(h, 60), specificity=wilson(p, 200))
            }
            for number, (h, p) in enumerate(zip(hits.tolist(), passed.tolist(), strict=True))
        }
        pooled = wilson(int(hits.sum()), 360), wilson(int(passed.sum()), 1200)
        whole = replace(some, recall=pooled[0], specificity=pooled[1])
        audited = Audit(RULE, "refusal", [], {"lookalike": whole}, models, {}, {})
        raw = wilson(int(dice.binomial(250, 0.3 * s[6] + 0.7 * (1 - c[6]))), 250)
        found = correct_kind(raw, audited, "lookalike")
        if found.value is not None:
            held.append(found.low <= 0.3 <= found.high)
    assert len(held) > 950
    assert 0.9 <= np.mean(held) <= 0.99


def test_kinds_that_were_not_audited_stay_as_they_are():
    assert corrected(arm(), audit(RULE, "refusal", "all", "harmless"), PANEL) == {}
    assert isinstance(arm().refusals["lookalike"].none, Estimate)
