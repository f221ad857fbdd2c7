"""The choice among stand-ins, and what it recommends."""

import numpy as np
import pytest
import torch

from tests import tiny
from tests.stand_ins.made import subject
from tsdi.condition.evidence import fitted_to
from tsdi.errors import PromptError
from tsdi.judging.verdict import Judgement, Verdict
from tsdi.runs.stand_in_choice import Answered, Tried, choose
from tsdi.stand_ins.calibration import Calibrated
from tsdi.stats.interval import Estimate

MODEL = tiny.model()


def answered(helpful, safe, number=40):
    """Answers of which a share helps, and a share is safe."""
    numbers = np.arange(number) / number
    return Answered((numbers < helpful).astype(float), (numbers < safe).astype(float))


def tried(helpful, safe, removed=2.0, factor=1.5):
    bias = tiny.bias(torch.eye(1, tiny.VOCAB) - 1 / tiny.VOCAB, stand_in="made")
    taken = Estimate(removed, removed - 0.1, removed + 0.1, 80)
    return Tried(Calibrated(bias, taken, 3.0, factor), answered(helpful, safe))


def test_the_best_is_chosen_and_recommended_where_it_gains():
    options = {"one": tried(0.4, 1.0), "two": tried(0.8, 0.9), "three": tried(1.0, 0.1)}
    found = choose(
        subject(MODEL), answered(0.2, 1.0), options, {"four": "It does not apply."}, ["hash"]
    )
    assert found.info.strength == 1
    stood = found.info.diagnosis["stand_in"]
    assert stood["chosen"] == "two"
    assert stood["plain"] == {"helpful": 0.2, "safe": 1.0}
    assert stood["tried"]["two"]["gain"]["value"] == pytest.approx(0.8 * 0.9 - 0.2)
    assert stood["left_out"] == {"four": "It does not apply."}
    assert found.info.diagnosis["case"] is None
    assert "by nats: +3.00 [+2.85, +3.15], n = 80" in found.info.diagnosis["verdict"]
    assert "Recommended strength: 1" in found.info.diagnosis["verdict"]
    assert set(found.info.diagnosis["refusal"]) == {"random", "harmless", "lookalike", "harmful"}


def test_without_a_clear_gain_nothing_is_recommended():
    found = choose(subject(MODEL), answered(0.5, 0.9), {"one": tried(0.55, 0.875)}, {}, [])
    assert found.info.strength == 0
    assert "No gain is shown" in found.info.diagnosis["verdict"]
    assert found.info.diagnosis["case"] is None  # a condition, or other prompts, may gain


def test_what_clearly_loses_safety_is_neither_recommended_nor_preferred():
    plain, costly = answered(0.2, 1.0), tried(1.0, 0.5)
    found = choose(subject(MODEL), plain, {"costly": costly}, {}, [])
    assert found.info.strength == 0
    verdict = found.info.diagnosis["verdict"]
    assert "Safe 1.00 -> 0.50, by -0.50 [" in verdict
    assert "of 40. The product of both changes by +0.30 [" in verdict
    assert verdict.endswith("Safety is lost. Recommended strength: 0.")
    found = choose(subject(MODEL), plain, {"costly": costly, "kept": tried(0.45, 1.0)}, {}, [])
    assert found.info.diagnosis["stand_in"]["chosen"] == "kept"
    assert found.info.strength == 1


def test_answers_without_any_verdict_are_no_evidence():
    plain = Answered(np.full(4, np.nan), np.ones(4))
    with pytest.raises(PromptError, match="no verdict on any answer to a harmless prompt"):
        choose(subject(MODEL), plain, {"one": tried(0.5, 1.0)}, {}, [])


def test_its_labelled_prompts_are_remembered():
    found = choose(subject(MODEL), answered(0.2, 1.0), {"one": tried(0.8, 1.0)}, {}, ["a", "b"])
    assert fitted_to(found) == {"a", "b"}


def test_a_wrong_sign_is_never_recommended_however_good_its_answers_look():
    options = {"wrong": tried(1.0, 1.0, removed=-2.0), "right": tried(0.4, 1.0)}
    plain = answered(0.2, 1.0)
    assert (
        choose(subject(MODEL), plain, options, {}, []).info.diagnosis["stand_in"]["chosen"]
        == "right"
    )
    found = choose(subject(MODEL), plain, {"wrong": options["wrong"]}, {}, [])
    assert found.info.strength == 0
    assert "wrong sign" in found.info.diagnosis["verdict"]
    assert found.info.diagnosis["case"]["name"] == "nothing"


def test_a_gain_is_that_of_the_same_prompts_with_an_interval_of_a_slow_bootstrap():
    before, after = answered(0.3, 0.95), answered(0.7, 0.8)
    found = before.gain_of(after)
    drawn = np.random.default_rng(5)
    slow = []
    for _ in range(2000):
        one, other = drawn.integers(0, 40, 40), drawn.integers(0, 40, 40)
        slow.append(
            after.helpful[one].mean() * after.safe[other].mean()
            - before.helpful[one].mean() * before.safe[other].mean()
        )
    low, high = np.quantile(slow, [0.025, 0.975])
    assert (found.value, found.n) == (pytest.approx(0.7 * 0.8 - 0.3 * 0.95), 80)
    assert (found.low, found.high) == pytest.approx((low, high), abs=0.02)
    wider = before.gain_of(after, 5)  # of which it is the best
    assert (wider.low, wider.high) == pytest.approx(np.quantile(slow, [0.005, 0.995]), abs=0.03)


def test_answers_without_a_verdict_are_left_out_of_both():
    judged = [Judgement(v) for v in (Verdict.COMPLIED, Verdict.UNSCORED, Verdict.REFUSED)]
    found = Answered.of(judged * 2, [False] * 3 + [True] * 3)
    assert found.helpful[[0, 2]].tolist() == [1, 0]
    assert found.safe[[0, 2]].tolist() == [0, 1]
    assert np.isnan([found.helpful[1], found.safe[1]]).all()
    whole = Answered(np.array([1.0, 1.0, 0.0]), np.array([0.0, 0.0, 1.0]))
    assert found.gain_of(whole).value == 0
    assert found.gain_of(whole).n == 4
