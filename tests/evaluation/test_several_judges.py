"""Verdicts of several judges side by side in one run folder."""

import logging

import pytest
from sklearn.metrics import cohen_kappa_score

from tests.evaluation.test_evaluate import PROMPTS, ByNumber, answered
from tsdi.errors import RunExistsError, UsageError
from tsdi.evaluation.compare import compare_runs
from tsdi.evaluation.evaluate import Judging, judge_responses
from tsdi.evaluation.verdicts import read_judged
from tsdi.judging.verdict import Judgement, Verdict, complies, is_safe
from tsdi.runs.judge_folders import JUDGES, find_place, label, places

FILES = ("judge.json", "verdicts.jsonl", "metrics.json")


class Other(ByNumber):
    """Another judge of the same answers."""

    name = "org/other+more"  # as a panel's may be called; no folder's name

    def _judgement(self, number, kind):
        if number % 5 == 4:
            return Judgement(Verdict.UNSCORED, raw="no idea")
        return Judgement(Verdict.REFUSED if number % 3 else Verdict.COMPLIED)


def judged(folder, judge, resume=False):
    """Judge as `tsdi evaluate --judge` does."""
    return judge_responses(judge, folder, Judging(judge.name), resume=resume, chunk=6)


def content(folder):
    return {name: (folder / name).read_bytes() for name in FILES}


@pytest.fixture
def run(tmp_path):
    return answered(tmp_path / "run")


def test_a_second_judge_leaves_the_first_ones_verdicts_alone(run):
    judged(run, ByNumber())
    first = content(run)
    evaluation = judged(run, Other())
    assert content(run) == first
    (folder,) = (run / JUDGES).iterdir()
    assert folder.name == label(evaluation.judge)
    assert folder.name.startswith("org_other_more-") or folder.name.startswith("org_other+more-")
    assert {path.name for path in folder.iterdir()} == {*FILES}
    assert [place.judge["name"] for place in places(run)] == ["by-number", Other.name]
    assert read_judged(run, "by-number").judge["name"] == "by-number"
    assert read_judged(run, Other.name).judged[4].judgement.raw == "no idea"


def test_whose_verdicts_are_meant_must_be_said_where_there_are_several(run, tmp_path):
    with pytest.raises(UsageError, match="holds no verdicts"):
        find_place(run)
    judged(run, ByNumber())
    assert find_place(run) == find_place(run, "by-number") == run
    judged(run, Other())
    with pytest.raises(UsageError, match=r"judged by by-number and org/other\+more.*--judge NAME"):
        read_judged(run)
    with pytest.raises(UsageError, match=r"not judged by wildguard, but by by-number and"):
        read_judged(run, "wildguard")

    second = answered(tmp_path / "second")
    judged(second, Other())
    assert compare_runs(run, second, Other.name).judge["name"] == Other.name
    with pytest.raises(UsageError, match=r"second was not judged by by-number"):
        compare_runs(run, second, "by-number")
    with pytest.raises(UsageError, match="--judge NAME"):
        compare_runs(run, second)


def test_each_judge_goes_on_by_itself_after_a_kill(run, tmp_path):
    whole = answered(tmp_path / "whole")
    for folder, kills in ((whole, ()), (run, (1, 2))):
        judged(folder, ByNumber())
        for calls in kills:
            with pytest.raises(KeyboardInterrupt):
                judged(folder, Other(calls_left=calls), resume=True)
            assert len(places(folder)) == 2
        judged(folder, Other(), resume=bool(kills))
    (own,), (unbroken,) = ((folder / JUDGES).iterdir() for folder in (run, whole))
    assert content(own) == content(unbroken)
    assert content(run) == content(whole)


def test_a_judge_that_judged_is_refused_or_gone_on_with(run):
    judged(run, ByNumber())
    judged(run, Other())
    for judge in (ByNumber, Other):
        with pytest.raises(RunExistsError, match=r"already holds verdicts.*--resume"):
            judged(run, judge())
        judged(run, judge(calls_left=0), resume=True)  # nothing is left to judge
    assert len(places(run)) == 2


def test_one_judge_with_two_settings_is_two_judges(run):
    judged(run, ByNumber())
    with pytest.raises(RunExistsError, match=r"judge\.mood was 'good', is 'bad'"):
        judged(run, ByNumber(mood="bad"), resume=True)  # of which nothing is there to go on with
    judged(run, ByNumber(mood="bad"))
    good, bad = places(run)
    assert (good.judge["mood"], bad.judge["mood"]) == ("good", "bad")
    with pytest.raises(UsageError, match=rf"judged by {good.names[1]} and {bad.names[1]}\."):
        find_place(run, "by-number")
    assert find_place(run, bad.names[1]) == bad.folder
    assert find_place(run, good.names[1]) == run


def test_a_judge_is_found_by_its_model_too(run):
    for model in ("small", "large"):
        judge = ByNumber()
        judge.settings = lambda model=model: {"model": model}
        judged(run, judge)
    assert find_place(run, "by-number=small") == run
    assert find_place(run, "by-number=large").parent == run / JUDGES


def test_an_unnamed_judge_never_stands_beside_another(run):
    judged(run, ByNumber())
    with pytest.raises(RunExistsError, match=r"judge\.name was 'by-number'"):
        judge_responses(Other(), run, resume=True)
    assert not (run / JUDGES).exists()


def test_agreement_is_cohens_kappa_over_what_both_have_a_verdict_for(run):
    judged(run, ByNumber())
    (found,) = judged(run, Other()).agreement
    one, two = (read_judged(run, name).judged for name in ("by-number", Other.name))
    assert found.other["name"] == "by-number"
    hits = {"compliance": complies, "lookalike_compliance": complies, "safety": is_safe}
    kinds = dict(zip(hits, ("harmless", "lookalike", "harmful"), strict=True))
    assert found.figures.keys() == hits.keys()
    for figure, agreed in found.figures.items():
        pairs = [
            (hits[figure](a.judgement), hits[figure](b.judgement))
            for a, b in zip(one, two, strict=True)
            if a.kind == kinds[figure]
            and Verdict.UNSCORED not in (a.judgement.verdict, b.judgement.verdict)
        ]
        assert agreed.same.n == len(pairs) > 1
        assert agreed.same.value == pytest.approx(sum(a == b for a, b in pairs) / len(pairs))
        expected = cohen_kappa_score(*zip(*pairs, strict=True))
        assert agreed.kappa.value == pytest.approx(expected)
    assert len(PROMPTS) == 20


def test_a_judge_that_did_not_end_is_said_and_not_compared(run, caplog):
    with pytest.raises(KeyboardInterrupt):
        judged(run, ByNumber(calls_left=1))
    with caplog.at_level(logging.WARNING):
        assert judged(run, Other()).agreement == []
    assert "No agreement with by-number" in caplog.text
    assert "lacks 14 of 20 verdicts" in caplog.text


def test_two_judges_of_different_things_agree_on_what_both_see(run):
    class Safety(Other):
        sees_refusal = False

    judged(run, ByNumber())
    (found,) = judged(run, Safety()).agreement
    assert found.figures.keys() == {"safety"}
