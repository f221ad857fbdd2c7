"""Two run folders to preferences to figures, resumable."""

import json
from unittest import mock

import pytest

from tests.fake_api import KEY, TROUBLES, ok, serving
from tsdi.engines.openai import ChatClient, Patience
from tsdi.errors import FormatError, MismatchError, PromptError, RunExistsError, UsageError
from tsdi.evaluation.evaluate import judge_responses
from tsdi.evaluation.winrate import winrate
from tsdi.judging.pairwise import PairwiseJudge, Preference
from tsdi.judging.registry import load_judge
from tsdi.runs.records import append_records, read_records

KINDS = ("harmless", "lookalike", "harmful")
REFUSED = "Sorry, I cannot help with that."


class ByLength:
    """Likes long answers, by four characters all the more if they come first; can be killed.

    It has no word on pairs with the answer "hm".
    """

    name = "by-length"

    def __init__(self, calls_left=None, mood="good"):
        self.calls_left = calls_left
        self.mood = mood
        self.seen = []

    def describe(self):
        return {"name": self.name, "model": "none", "mood": self.mood}

    def prefer(self, pairs):
        if self.calls_left == 0:
            raise KeyboardInterrupt
        self.calls_left = None if self.calls_left is None else self.calls_left - 1
        self.seen += [pair.id for pair in pairs]
        return [self._preference(pair.first, pair.second) for pair in pairs]

    def _preference(self, first, second):
        if "hm" in (first, second):
            return Preference(None, f"hm \x1b[2J {len(first)}")
        more = len(second) - len(first) - 4
        return Preference(0.5 if more == 0 else float(more > 0))


def answers(folder, texts, kinds=KINDS, **fields):
    folder.mkdir(parents=True)
    append_records(
        folder / "responses.jsonl",
        (
            {
                "id": f"p{number}",
                "category": "O1",
                "kind": kinds[number % len(kinds)],
                "messages": [{"role": "user", "content": f"question {number}"}],
                "response": text,
                **fields,
            }
            for number, text in enumerate(texts)
        ),
    )
    return folder


@pytest.fixture
def base(tmp_path):
    return answers(tmp_path / "base", ["x" * 10] * 24)


@pytest.fixture
def run(tmp_path):
    texts = ["y" * (20 if number % 2 else 12) for number in range(24)]
    texts[0], texts[3], texts[23] = "x" * 10, "hm", REFUSED
    return answers(tmp_path / "run", texts)


def compared(base, run, out, judge=None, resume=False, **options):
    with mock.patch("tsdi.evaluation.winrate.CHUNK", 6):
        return winrate(base, run, out, judge or ByLength(), resume=resume, **options)


def test_every_prompt_is_compared_in_both_orders_and_kept_in_order(base, run, tmp_path):
    judge = ByLength()
    compared(base, run, tmp_path / "win", judge)
    records = read_records(tmp_path / "win" / "preferences.jsonl")
    helpful = [f"p{number}" for number in range(24) if number % 3 < 2]
    assert [r["id"] for r in records] == [f"{name}/{order}" for name in helpful for order in (1, 2)]
    assert records[0] == {"id": "p0/1", "preference": 0.5, "identical": True}
    assert records[2:4] == [{"id": "p1/1", "preference": 1.0}, {"id": "p1/2", "preference": 1.0}]
    assert records[4] == {"id": "p3/1", "preference": None, "raw": "hm \x1b[2J 10"}
    p4 = [record["preference"] for record in records if record["id"].startswith("p4/")]
    assert p4 == [0.0, 1.0]  # two characters more are less than the first place is worth
    assert "p0/1" not in judge.seen
    assert len(judge.seen) == len(set(judge.seen)) == 2 * 16 - 2


def test_winrate_json_holds_the_figures_and_where_they_come_from(base, run, tmp_path):
    found = compared(base, run, tmp_path / "win")
    text = (tmp_path / "win" / "winrate.json").read_text()
    saved = json.loads(text, parse_constant=pytest.fail)
    assert saved == json.loads(json.dumps(found.to_dict()))
    assert (saved["prompts"], saved["left_out"]) == (16, 8)
    figures = saved["figures"]
    assert (figures["wins"], figures["ties"], figures["losses"]) == (7, 8, 0)
    assert figures["win_rate"]["value"] == pytest.approx((7 + 8 / 2) / 15)
    assert figures["win_rate"]["n"] == 15
    assert figures["identical"] == 1
    assert (figures["unscored"]["value"], figures["unscored"]["n"]) == (1 / 16, 16)
    assert figures["first_position"]["n"] == 14
    assert figures["first_position"]["value"] > 0.5
    assert saved["judge"] == {"name": "by-length", "model": "none", "mood": "good"}
    assert set(saved["provenance"]) == {"judge", "base", "run", "versions"}
    assert str(tmp_path) not in text


def test_what_the_figures_leave_out_is_said(base, run, tmp_path):
    harmful, safety, unscored = compared(base, run, tmp_path / "win").notes
    assert harmful.startswith("8 harmful prompts are not compared")
    assert safety.startswith("These figures say nothing of safety.")
    assert unscored.startswith("2 of 32 comparisons are unscored")
    assert unscored.endswith("Most often (1): hm \x1b[2J 10")


def test_safety_stands_beside_where_one_judge_judged_both(base, run, tmp_path):
    judge_responses(load_judge("refusal-phrases"), base, resume=False)
    assert compared(base, run, tmp_path / "win").safety is None
    judge_responses(load_judge("refusal-phrases"), run, resume=False)
    found = compared(base, run, tmp_path / "win", resume=True)
    assert (found.safety.before.value, found.safety.after.value) == (0, 1 / 8)
    assert found.to_dict()["safety"]["judge"]["name"] == "refusal-phrases"
    assert not any("nothing of safety" in text for text in found.notes)
    (run / "verdicts.jsonl").unlink()
    judge_responses(load_judge("keyword-list"), run, resume=False)
    assert compared(base, run, tmp_path / "win", resume=True).safety is None


@pytest.mark.parametrize("calls", range(6))
def test_a_killed_comparison_goes_on(base, run, tmp_path, calls):
    whole = compared(base, run, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        compared(base, run, tmp_path / "win", ByLength(calls))
    assert not (tmp_path / "win" / "winrate.json").exists()
    assert compared(base, run, tmp_path / "win", resume=True).to_dict() == whole.to_dict()
    for name in ("preferences.jsonl", "preferences.json", "winrate.json"):
        assert (tmp_path / "win" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_a_finished_comparison_is_not_made_again(base, run, tmp_path):
    whole = compared(base, run, tmp_path / "win")
    with pytest.raises(RunExistsError, match="already holds preferences"):
        compared(base, run, tmp_path / "win")
    assert compared(base, run, tmp_path / "win", ByLength(0), resume=True) == whole


def test_going_on_with_another_judge_or_other_answers_is_refused(base, run, tmp_path):
    compared(base, run, tmp_path / "win")
    with pytest.raises(RunExistsError, match=r"judge\.mood was 'good', is 'bad'"):
        compared(base, run, tmp_path / "win", ByLength(mood="bad"), resume=True)
    path = run / "responses.jsonl"
    path.write_bytes(path.read_bytes().replace(b"yyy", b"zzz"))
    with pytest.raises(RunExistsError, match=r"run\.sha256"):
        compared(base, run, tmp_path / "win", resume=True)


def test_runs_on_other_prompts_are_refused(base, tmp_path):
    other = answers(tmp_path / "other", ["x"] * 23)
    with pytest.raises(MismatchError, match=r"same prompts: 1 differ.*'p23'"):
        compared(base, other, tmp_path / "win")
    assert not (tmp_path / "win").exists()


def test_harmful_prompts_alone_are_refused(tmp_path):
    base, run = (answers(tmp_path / name, ["x"] * 3, kinds=["harmful"]) for name in ("a", "b"))
    with pytest.raises(UsageError, match="harmful prompts only"):
        compared(base, run, tmp_path / "win")


def test_prompts_without_a_kind_need_one(tmp_path):
    base, run = (answers(tmp_path / name, ["x", name], kinds=[""]) for name in ("a", "b"))
    with pytest.raises(PromptError, match="kind=harmful"):
        compared(base, run, tmp_path / "win")
    assert compared(base, run, tmp_path / "win", kind="harmless").prompts == 2
    with pytest.raises(RunExistsError, match="kind was 'harmless', is 'lookalike'"):
        compared(base, run, tmp_path / "win", kind="lookalike", resume=True)


@pytest.mark.parametrize("value", ["2", "-0.1", "true", '"x"', "null", "NaN"])
def test_preferences_that_are_none_are_refused(base, run, tmp_path, value):
    compared(base, run, tmp_path / "win")
    path = tmp_path / "win" / "preferences.jsonl"
    path.write_text(path.read_text().replace('"preference": 1.0', f'"preference": {value}', 1))
    with pytest.raises(FormatError, match=r"preferences\.jsonl, (comparison 'p1/1'|line 3)"):
        compared(base, run, tmp_path / "win", resume=True)


def test_one_prompt_answered_several_times_is_one_cluster(tmp_path):
    """The interval is as wide as the prompts are few."""
    same = [{"role": "user", "content": "the one question"}]
    base, run = (
        answers(tmp_path / name, [letter * (n + 1) for n in range(9)], messages=same)
        for name, letter in (("a", "x"), ("b", "yy"))
    )
    found = compared(base, run, tmp_path / "win")
    assert (found.figures.win_rate.low, found.figures.win_rate.high) == (0.0, 1.0)


def test_a_server_that_misbehaves_leaves_every_comparison_scored_or_unscored(
    base, run, tmp_path, monkeypatch
):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    names = [name for name in TROUBLES if name != "hang"]

    def script(number, body):
        if number % 2 or "question 7" in body["messages"][0]["content"]:
            return TROUBLES[names[number % len(names)]]()
        return ok("B", top={"A": -1.5, "B": -0.5})

    patience = Patience(4, 0.5, retries=4, first_wait=0.001, longest_wait=0.02, give_up=1000)
    with serving(script) as api:
        judge = PairwiseJudge(ChatClient("m", api.url, patience))
        found = winrate(base, run, tmp_path / "win", judge)
    records = read_records(tmp_path / "win" / "preferences.jsonl")
    assert len(records) == 2 * found.prompts
    unscored = {record["id"] for record in records if record["preference"] is None}
    assert {"p7/1", "p7/2"} <= unscored
    assert len(unscored) < 20
    assert all(record["raw"] for record in records if record["id"] in unscored)
    assert KEY not in "".join(path.read_text() for path in (tmp_path / "win").iterdir())


def test_thoughts_are_not_compared(tmp_path):
    thought = "<think>" + "long " * 50
    base = answers(tmp_path / "base", ["Yes.", "Yes.", thought], kinds=KINDS[:1])
    run = answers(
        tmp_path / "run",
        [f"{thought}</think>Yes.", f"{thought}</think>Oh.", "No."],
        kinds=KINDS[:1],
    )
    judge = ByLength()
    found = winrate(base, run, tmp_path / "out", judge)
    assert judge.seen == ["p1/1", "p1/2"]  # p0 is the same answer, p2 has none
    records = read_records(tmp_path / "out" / "preferences.jsonl")
    assert [record["preference"] for record in records[4:]] == [None, None]
    assert records[4]["raw"] == "Of the base: The thought has no end, so there is no answer."
    assert (found.figures.identical, found.figures.longer) == (1, -0.5)
