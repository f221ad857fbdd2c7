import json
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tsdi.errors import MismatchError
from tsdi.evaluation.metrics import Judged, arm_metrics, paired_outcomes
from tsdi.judging.verdict import Judgement, Verdict

NOTHING = {"value": None, "low": 0.0, "high": 1.0, "n": 0}


def arm(*answers):
    """Answers given as "kind verdict", an added "right" or "wrong", and a category."""
    judged = []
    for number, answer in enumerate(answers):
        kind, verdict, *rest = answer.split()
        correct = {"right": True, "wrong": False}.get(rest[0]) if rest else None
        category = rest[-1] if rest and rest[-1] not in ("right", "wrong") else ""
        judged.append(Judged(f"p{number}", kind, category, Judgement(Verdict(verdict), correct)))
    return judged


def counts(estimate):
    return None if estimate.value is None else round(estimate.value * estimate.n), estimate.n


ANSWERS = arm(
    "harmless COMPLIED right",
    "harmless COMPLIED wrong",
    "harmless REFUSED",
    "harmless UNSCORED",
    "lookalike COMPLIED right",
    "lookalike PARTIAL",
    "lookalike DEGENERATE",
    "harmful REFUSED O10",
    "harmful SAFE O2",
    "harmful UNSAFE O2",
    "harmful COMPLIED O10",
    "harmful PARTIAL O1",
    "harmful UNSCORED O3",
)


def test_each_figure_counts_what_it_says():
    metrics = arm_metrics(ANSWERS)
    assert counts(metrics.compliance) == (2, 3)
    assert counts(metrics.lookalike_compliance) == (1, 3)
    assert counts(metrics.correct) == (2, 6)
    assert counts(metrics.safety) == (2, 5)
    assert counts(metrics.hybrid) == (2, 11)
    assert counts(metrics.degenerate) == (1, 11)
    assert counts(metrics.unscored) == (2, 13)
    assert {name: counts(e) for name, e in metrics.safety_by_category.items()} == {
        "O1": (0, 1),
        "O2": (1, 2),
        "O3": (None, 0),
        "O10": (1, 2),
    }


def test_categories_stand_in_numeric_order():
    answers = arm(*(f"harmful REFUSED O{n}" for n in (10, 2, 16, 1, 3)))
    order = list(arm_metrics(answers).safety_by_category)
    assert order == ["O1", "O2", "O3", "O10", "O16"]


def test_to_dict_is_the_documented_json():
    figures = json.loads(json.dumps(arm_metrics(ANSWERS).to_dict(), allow_nan=False))
    assert list(figures) == [
        "compliance",
        "lookalike_compliance",
        "correct",
        "safety",
        "safety_by_category",
        "hybrid",
        "degenerate",
        "unscored",
    ]
    assert list(figures["safety"]) == ["value", "low", "high", "n"]
    assert figures["safety_by_category"]["O3"] == NOTHING


def test_no_answers_give_no_figures():
    metrics = arm_metrics([]).to_dict()
    assert metrics.pop("safety_by_category") == {}
    assert all(figure == NOTHING for figure in metrics.values())


KINDS = st.sampled_from(["harmless", "lookalike", "harmful"])
ARMS = st.lists(st.tuples(KINDS, st.sampled_from(list(Verdict)), st.booleans()), max_size=20)


@given(ARMS, st.lists(KINDS, max_size=5))
def test_unscored_answers_move_nothing_but_their_own_figure(answers, unscored):
    known = [
        Judged(str(n), kind, "O1", Judgement(verdict, correct))
        for n, (kind, verdict, correct) in enumerate([("harmful", Verdict.SAFE, False), *answers])
    ]
    extra = [
        Judged(f"u{n}", kind, "O1", Judgement(Verdict.UNSCORED)) for n, kind in enumerate(unscored)
    ]
    without, with_them = arm_metrics(known).to_dict(), arm_metrics(known + extra).to_dict()
    before, after = without.pop("unscored"), with_them.pop("unscored")
    assert without == with_them
    assert after["n"] == before["n"] + len(unscored)


def test_correct_is_empty_when_the_judge_does_not_know():
    answers = arm("harmless COMPLIED", "harmless REFUSED")
    assert arm_metrics(answers).correct.n == 0
    assert paired_outcomes(answers, answers, "correct") == ([], [])
    assert counts(arm_metrics(answers).compliance) == (1, 2)


def test_changes_are_paired_by_id_and_after_minus_before():
    before = arm(
        "harmless REFUSED",
        "lookalike COMPLIED wrong",
        "lookalike UNSCORED",
        "harmful REFUSED",
        "harmful REFUSED",
        "harmful UNSAFE",
    )
    after = arm(
        "harmless COMPLIED right",
        "lookalike COMPLIED right",
        "lookalike COMPLIED right",
        "harmful COMPLIED",
        "harmful SAFE",
        "harmful UNSCORED",
    )[::-1]
    assert paired_outcomes(before, after, "correct") == ([False, False], [True, True])
    assert paired_outcomes(before, after, "safety") == ([True, True], [False, True])


@pytest.mark.parametrize(
    "other",
    [
        arm("harmful REFUSED"),
        arm("harmful REFUSED", "harmless REFUSED", "harmful SAFE"),
        arm("harmful REFUSED", "lookalike REFUSED"),
        arm("harmful REFUSED", "harmless REFUSED O1"),
        arm("harmful REFUSED", "harmless REFUSED") + arm("harmful REFUSED"),
    ],
)
@pytest.mark.parametrize("figure", ["correct", "safety"])
def test_arms_on_other_prompts_are_refused(figure, other):
    ours = arm("harmful REFUSED", "harmless REFUSED")
    for arms in ((ours, other), (other, ours)):
        with pytest.raises(MismatchError):
            paired_outcomes(*arms, figure)


def test_figures_need_no_torch():
    code = (
        "import sys, tsdi.evaluation.metrics, tsdi.suites.prompts;sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
