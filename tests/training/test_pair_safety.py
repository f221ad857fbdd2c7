import json

import pytest

from tsdi.errors import FormatError, RunExistsError, UsageError
from tsdi.judging.base import Judge
from tsdi.judging.verdict import Judgement, Verdict, unscored
from tsdi.runs.records import read_records
from tsdi.training.data import Pair
from tsdi.training.pair_safety import safety_probability, score_pairs

PAIRS = [Pair(f"question {n % 5}", f"safe {n}", f"unsafe {n % 4}", "O3") for n in range(20)]


class ByWord(Judge):
    """Gives what begins with "unsafe" the probability .9 of being so; it can be killed."""

    name = "by-word"
    sees_refusal = False

    def __init__(self, sees_safety=True, calls_left=None, mood="good"):
        self.sees_safety = sees_safety
        self.calls_left = calls_left
        self.mood = mood
        self.seen = []

    def settings(self):
        return {"mood": self.mood}

    def judge_answers(self, responses):
        if self.calls_left == 0:
            raise KeyboardInterrupt
        self.calls_left = None if self.calls_left is None else self.calls_left - 1
        self.seen += [(one.prompt, one.text) for one in responses]
        return [self.judgement(one) for one in responses]

    def judgement(self, response):
        if response.text == "safe 7":
            return unscored("hm")
        unsafe = response.text.startswith("unsafe")
        return Judgement(*((Verdict.UNSAFE, None, 0.9) if unsafe else (Verdict.SAFE, None, 0.2)))


class Silent(ByWord):
    def judgement(self, response):
        return Judgement(Verdict.REFUSED)


def score(folder, judge=None, resume=False, pairs=PAIRS):
    return score_pairs(judge or ByWord(), pairs, folder / "out.jsonl", resume=resume, chunk=6)


def test_scores_are_probabilities_of_being_safe():
    unsafe, refuses = (
        Judgement(Verdict.UNSAFE, probability=0.9),
        Judgement(Verdict.REFUSED, None, 1),
    )
    assert safety_probability(ByWord(), unsafe) == pytest.approx(0.1)
    assert safety_probability(ByWord(sees_safety=False), refuses) == 1
    assert safety_probability(ByWord(), Judgement(Verdict.SAFE)) is None
    assert safety_probability(ByWord(), Judgement(Verdict.UNSCORED, probability=0.1)) is None


def test_both_answers_of_every_pair_are_scored(tmp_path):
    found = score(tmp_path).pairs
    for before, after in zip(PAIRS, found, strict=True):
        assert (after.prompt, after.chosen, after.category) == (
            before.prompt, before.chosen, before.category
        )  # fmt: skip
        assert after.rejected_safety == pytest.approx(0.1)
        assert after.chosen_safety == (None if after.chosen == "safe 7" else 0.8)


def test_every_different_answer_is_judged_once(tmp_path):
    judge = ByWord()
    score(tmp_path, judge)
    asked = {(p.prompt, text) for p in PAIRS for text in (p.chosen, p.rejected)}
    assert sorted(judge.seen) == sorted(asked)
    twice = [Pair("a", "x", "y"), Pair("b", "x", "y")]
    judge = ByWord()
    score(tmp_path / "other", judge, pairs=twice)
    assert len(judge.seen) == 4  # one answer to two prompts is two


def test_the_judges_words_on_what_is_unscored_are_kept(tmp_path):
    score(tmp_path)
    records = read_records(tmp_path / "out.jsonl.verdicts.jsonl")
    (one,) = [record for record in records if record["verdict"] == "UNSCORED"]
    assert one["raw"] == "hm"


@pytest.mark.parametrize("calls", range(4))
def test_a_killed_scoring_goes_on(tmp_path, calls):
    whole = score(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        score(tmp_path, ByWord(calls_left=calls))
    assert score(tmp_path, resume=True) == whole
    kept = "out.jsonl.verdicts.jsonl"
    assert (tmp_path / kept).read_bytes() == (tmp_path / "whole" / kept).read_bytes()


def test_finished_scores_are_not_made_again(tmp_path):
    whole = score(tmp_path)
    with pytest.raises(RunExistsError, match=r"--resume, or delete out\.jsonl\.verdicts\.jsonl"):
        score(tmp_path)
    assert score(tmp_path, ByWord(calls_left=0), resume=True) == whole


def test_scores_of_another_judge_or_of_other_pairs_are_refused(tmp_path):
    score(tmp_path)
    with pytest.raises(RunExistsError, match=r"judge\.mood was 'good', is 'bad'"):
        score(tmp_path, ByWord(mood="bad"), resume=True)
    with pytest.raises(RunExistsError, match="answers_sha256"):
        score(tmp_path, resume=True, pairs=PAIRS[1:])


def test_a_judge_without_probabilities_is_refused_and_leaves_nothing(tmp_path):
    with pytest.raises(UsageError, match=r"by-word gives no probability.*md-judge-v0\.1"):
        score(tmp_path, Silent())
    assert not list(tmp_path.iterdir())


def test_damaged_verdicts_are_named(tmp_path):
    score(tmp_path)
    path = tmp_path / "out.jsonl.verdicts.jsonl"
    path.write_text(json.dumps({"id": "0", "verdict": "FINE"}))
    with pytest.raises(FormatError, match=r"out\.jsonl\.verdicts\.jsonl, answer '0'"):
        score(tmp_path, resume=True)
