import json
from dataclasses import replace

import pytest

from tests.evaluation.test_evaluate import PROMPTS, ByNumber, answered, judged
from tests.evaluation.test_metrics import arm
from tsdi.errors import MismatchError, UsageError
from tsdi.evaluation.compare import compare_arms, compare_runs
from tsdi.evaluation.metrics import arm_metrics
from tsdi.judging.verdict import Judgement, Verdict
from tsdi.stats.proportions import holm, mcnemar, paired_change


class Kinder(ByNumber):
    """The same judge to look at, with another view of one category."""

    def judge_answers(self, responses):
        judgements = super().judge_answers(responses)
        return [
            Judgement(Verdict.COMPLIED) if r.kind == "harmful" and r.category == "O0" else j
            for r, j in zip(responses, judgements, strict=True)
        ]


@pytest.fixture
def runs(tmp_path):
    before, after = answered(tmp_path / "before"), answered(tmp_path / "after")
    judged(before)
    judged(after, Kinder())
    return before, after


def lists(*pairs):
    """Two arms from (how many, before, after, category)."""
    rows = [row for count, *row in pairs for _ in range(count)]
    return (
        arm(*(f"harmful {before} {category}" for before, _, category in rows)),
        arm(*(f"harmful {after} {category}" for _, after, category in rows)),
    )


def test_figures_are_those_of_the_single_statistics():
    before, after = lists(
        (20, "REFUSED", "COMPLIED", "O3"),
        (3, "COMPLIED", "REFUSED", "O3"),
        (9, "REFUSED", "REFUSED", "O1"),
        (6, "REFUSED", "COMPLIED", "O10"),
        (14, "REFUSED", "REFUSED", "O10"),
    )
    found = compare_arms(before, after)
    o3 = [True] * 20 + [False] * 3, [False] * 20 + [True] * 3
    assert found.categories["O3"].p == mcnemar(*o3)
    assert found.categories["O3"].change == paired_change(*o3)
    assert list(found.categories) == ["O1", "O3", "O10"]
    p_values = [change.p for change in found.categories.values()]
    assert [change.p_holm for change in found.categories.values()] == holm(p_values)
    assert found.overall["safety"].before == arm_metrics(before).safety
    assert found.overall["safety"].after == arm_metrics(after).safety
    assert found.overall["safety"].p_holm is None


def test_losses_are_significant_in_the_family_or_only_by_themselves():
    before, after = lists(
        (20, "REFUSED", "COMPLIED", "O1"),
        (5, "REFUSED", "COMPLIED", "O2"),  # p = .0625, its interval is below zero
        (12, "COMPLIED", "SAFE", "O3"),  # a gain is no loss
        (5, "REFUSED", "REFUSED", "O4"),
    )
    found = compare_arms(before, after)
    assert (found.lost, found.maybe_lost) == (["O1"], ["O2"])
    assert found.categories["O2"].change.high < 0
    back = compare_arms(after, before)
    assert (back.lost, back.maybe_lost) == (["O3"], [])


def test_the_same_arm_twice_has_changed_nothing():
    answers = arm("harmful REFUSED O1", "harmless COMPLIED right", "lookalike PARTIAL")
    found = compare_arms(answers, answers)
    assert all(change.change.value == 0 for change in found.overall.values())
    assert all(change.p == 1 for change in [*found.overall.values(), *found.categories.values()])
    assert not found.lost
    assert not found.maybe_lost


def test_unscored_pairs_are_counted_nowhere():
    before = arm("harmful REFUSED O1", "harmful UNSCORED O1", "harmful REFUSED O2", "harmless SAFE")
    after = arm("harmful SAFE O1", "harmful UNSAFE O1", "harmful UNSCORED O2", "harmless UNSCORED")
    found = compare_arms(before, after)
    assert found.overall["safety"].change.n == 1
    assert found.overall["safety"].before.n == found.overall["safety"].after.n == 1
    assert found.overall["compliance"].change.value is None
    assert list(found.categories) == ["O1"]  # O2 has no pair, and is not in the family


def test_runs_are_compared_from_disk(runs):
    found = compare_runs(*runs)
    change = found.categories["O0"]
    assert change.after.value == 0 < change.before.value
    assert found.categories["O1"].change.value == 0
    assert found.judge["name"] == "by-number"
    printed = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert (printed["family"], printed["family_size"]) == ("safety by category", 3)
    assert set(printed["overall"]) == {"compliance", "lookalike_compliance", "correct", "safety"}
    assert set(printed["categories"]["O0"]) == {"before", "after", "change", "p", "p_holm"}


@pytest.mark.parametrize(
    ("changed", "first"),
    [
        ({"messages": ({"role": "user", "content": "question 7"},)}, "p4"),
        ({"id": "p99"}, "p4"),
        ({"kind": "harmless"}, "p4"),
        ({"category": "O9"}, "p4"),
    ],
)
def test_runs_on_other_prompts_are_refused(tmp_path, runs, changed, first):
    prompts = [*PROMPTS[:4], replace(PROMPTS[4], **changed), *PROMPTS[5:]]
    other = answered(tmp_path / "other", prompts)
    judged(other)
    for pair in ((runs[0], other), (other, runs[0])):
        with pytest.raises(MismatchError, match=f"same prompts.* the first is '{first}'"):
            compare_runs(*pair)


def test_runs_of_two_judges_are_refused(tmp_path, runs):
    other = answered(tmp_path / "other")
    judged(other, ByNumber(mood="bad"))
    with pytest.raises(MismatchError, match=r"by-number.*'good'.*'bad'.*one judge"):
        compare_runs(runs[0], other)


def test_a_run_without_verdicts_is_named(tmp_path, runs):
    with pytest.raises(UsageError, match=r"other holds no verdicts"):
        compare_runs(runs[0], answered(tmp_path / "other"))


def test_unscored_answers_are_counted_beside_what_is_compared():
    before = arm("harmful REFUSED", "harmful UNSCORED", "harmful UNSCORED", "harmless COMPLIED")
    after = arm("harmful UNSCORED", "harmful UNSCORED", "harmful SAFE", "harmless COMPLIED")
    found = compare_arms(before, after)
    assert found.unscored == (2, 2, 3)
    assert found.to_dict()["unscored"] == {"before": 2, "after": 2, "either": 3}
    assert found.overall["safety"].before.n == 0
