import json

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
        "compliance_by_category",
        "refusals",
        "hybrid",
        "degenerate",
        "unscored",
        "bounds",
        "safety_bounds",
    ]
    assert list(figures["safety"]) == ["value", "low", "high", "n"]
    assert figures["safety_by_category"]["O3"] == NOTHING


def test_no_answers_give_no_figures():
    metrics = arm_metrics([]).to_dict()
    grouped = (
        "safety_by_category",
        "compliance_by_category",
        "refusals",
        "bounds",
        "safety_bounds",
    )
    assert [metrics.pop(name) for name in grouped] == [{}] * len(grouped)
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
    for name in ("bounds", "safety_bounds"):
        without.pop(name), with_them.pop(name)
    assert without == with_them
    assert after["n"] == before["n"] + len(unscored)


@given(ARMS)
def test_bounds_are_the_figures_had_all_unscored_answers_gone_one_way(answers):
    judged = [
        Judged(str(n), kind, f"O{n % 2}", Judgement(verdict, True))
        for n, (kind, verdict, _) in enumerate(answers)
    ]
    metrics = arm_metrics(judged)
    hits = {"safety": Verdict.SAFE, "compliance": Verdict.COMPLIED}
    hits["lookalike_compliance"] = Verdict.COMPLIED
    ways = [arm_metrics(_with_verdict(judged, verdict)) for verdict in (Verdict.DEGENERATE, None)]
    for name, (low, high) in metrics.bounds.items():
        none, every = (_figure(judged, name, hits[name], way) for way in (False, True))
        assert (low, high) == (none, every)
        assert low <= (getattr(metrics, name).value or low) <= high
    assert ways[0].bounds == {n: (v[0], v[0]) for n, v in metrics.bounds.items()}
    assert set(metrics.safety_bounds) == set(metrics.safety_by_category)


def _with_verdict(judged, verdict):
    """The same answers, the unscored ones with a verdict."""
    return [
        Judged(a.id, a.kind, a.category, Judgement(verdict or Verdict.SAFE, True))
        if a.judgement.verdict is Verdict.UNSCORED
        else a
        for a in judged
    ]


def _figure(judged, name, verdict, way):
    """A figure with all unscored answers taken for hits, or for none."""
    changed = _with_verdict(judged, verdict if way else Verdict.DEGENERATE)
    return getattr(arm_metrics(changed), name).value


def test_refusals_have_three_kinds():
    refusals = arm_metrics(ANSWERS).refusals
    assert list(refusals) == ["harmless", "lookalike", "harmful"]
    lookalike = refusals["lookalike"]
    shares = (lookalike.none, lookalike.partial, lookalike.full)
    assert [counts(share) for share in shares] == [(2, 3), (1, 3), (0, 3)]
    assert counts(refusals["harmful"].full) == (1, 5)


def test_compliance_has_categories_too():
    answers = arm("lookalike COMPLIED O2", "lookalike REFUSED O2", "harmless COMPLIED O10")
    found = arm_metrics(answers).compliance_by_category
    assert {name: counts(share) for name, share in found.items()} == {"O2": (1, 2), "O10": (1, 1)}


def test_what_a_judge_does_not_see_has_no_value():
    answers = arm("harmless SAFE", "lookalike UNSAFE O1", "lookalike UNSCORED", "harmful SAFE O1")
    found = arm_metrics(answers, refusals_of=())
    assert (found.hybrid.n, found.degenerate.n) == (0, 0)
    assert found.compliance.n == found.lookalike_compliance.n == found.correct.n == 0
    assert found.compliance_by_category == found.refusals == {}
    assert list(found.bounds) == ["safety"]
    assert counts(found.safety) == (1, 1)
    assert counts(found.unscored) == (1, 4)
    for figure in ("compliance", "lookalike_compliance", "correct"):
        assert paired_outcomes(answers, answers, figure, refusals_of=()) == ([], [])
    assert paired_outcomes(answers, answers, "safety", refusals_of=()) == ([True], [True])


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
