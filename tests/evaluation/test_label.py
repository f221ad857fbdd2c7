"""Labels of one's own: what is drawn and shown, what a killed session leaves, two labellers."""

import json
from collections import Counter
from itertools import pairwise

import pytest

from tests.evaluation.test_evaluate import ByNumber
from tests.evaluation.test_labelled import answers
from tests.locks import at_work
from tsdi.audit.audit import audit
from tsdi.audit.labels import LabelFormat, read_labels
from tsdi.errors import MismatchError, PromptError, RunExistsError, UsageError
from tsdi.evaluation.compare import compare_runs
from tsdi.evaluation.evaluate import Judging, judge_responses
from tsdi.evaluation.label import CHOICES, Step, decide, label
from tsdi.judging.refusal import XSTEST_STRINGS
from tsdi.judging.verdict import Verdict
from tsdi.runs.records import read_records

GOOD = {"harmless": Verdict.COMPLIED, "lookalike": Verdict.COMPLIED, "harmful": Verdict.SAFE}


class Labeller:
    """Labels by a rule, and keeps what it was shown; it may go back, stop, or be killed."""

    def __init__(self, *steps, rule=None, stop_after=None):
        self.shown = []
        self.steps = list(steps)
        self.rule = rule or (lambda question: question.choices[0])
        self.left = stop_after

    def __call__(self, question):
        self.shown.append(question)
        if self.left is not None:
            if not self.left:
                return Step.STOP
            self.left -= 1
        return self.steps.pop(0) if self.steps else self.rule(question)


def judged(folder, **made):
    answers(folder, **made)
    judge_responses(ByNumber(), folder, Judging(), resume=False)
    return folder


@pytest.fixture
def run(tmp_path):
    return judged(tmp_path / "run")


def labels_of(run, name="labels.jsonl"):
    return {one["id"]: one["label"] for one in read_records(run / name)}


def test_labels_are_of_all_kinds_and_can_be_read_by_evaluate_and_audit(run):
    who = Labeller(rule=lambda q: Verdict.SAFE if Verdict.SAFE in q.choices else Verdict.COMPLIED)
    found = label([run], who, 30)
    assert (found.labelled, found.drawn, found.files) == (30, 30, [run / "labels.jsonl"])
    rows = read_labels(found.files)
    assert Counter(one.response.kind for one in rows) == dict.fromkeys(GOOD, 10)
    assert {one.weight for one in rows} == {2.0}
    assert {one.model for one in rows} == {"run"}
    evaluation = judge_responses(ByNumber(), run, Judging(labels=found.files), resume=True)
    assert evaluation.labelled.figures["safety"].n == 10
    with pytest.raises(PromptError, match="--target refusal, --target unsafe"):
        audit("refusal-phrases", found.files)
    refusals = audit("refusal-phrases", found.files, label_format=LabelFormat(target="refusal"))
    assert refusals.audit.kinds.keys() == {"all", "harmless", "lookalike"}
    assert len(read_labels(found.files, LabelFormat(target="unsafe"))) == 10


def test_a_question_says_nothing_of_judge_run_and_category(run):
    who = Labeller()
    label([run], who, 12)
    question = who.shown[0]
    assert question.answer.startswith("answer ")
    words = json.dumps([vars(one) for one in who.shown], default=str)
    for secret in ("O1", "O2", "by-number", "UNSCORED", str(run)):
        assert secret not in words.replace("O1 of run", "")
    assert [one.number for one in who.shown] == list(range(1, 13))
    assert {one.total for one in who.shown} == {12}
    assert {one.choices for one in who.shown} == {*CHOICES.values()}


def test_thoughts_are_not_shown_and_answers_that_are_none_are_not_drawn(tmp_path):
    chat = [{"role": "user", "content": "question 60"}]
    more = {"kind": "harmful", "messages": chat}
    thought = {**more, "id": "t", "response": "<think>a plan</think>No."}
    none = {**more, "id": "n", "response": "", "finish": "filter"}
    run = answers(tmp_path / "run", 3, more=[thought, none])
    lines = (run / "responses.jsonl").read_text().replace('"t"', '"p60"').replace('"n"', '"p61"')
    (run / "responses.jsonl").write_text(lines)
    judge_responses(ByNumber(), run, Judging(), resume=False)
    who = Labeller()
    assert label([run], who, 99).drawn == 4
    assert "No." in {one.answer for one in who.shown}


def test_the_seed_decides_draw_and_order(run):
    drawn = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        who = Labeller()
        label([run], who, 12, labeller=name, seed=seed)
        drawn.append([one.answer for one in who.shown])
    assert drawn[0] == drawn[1] != drawn[2]
    assert {path.name for path in run.glob("labels-*.jsonl")} == {
        f"labels-{name}.jsonl" for name in "abc"
    }


@pytest.mark.parametrize("after", [0, 1, 5, 11])
def test_a_stopped_session_goes_on_to_the_same_end(run, after):
    whole = Labeller()
    label([run], whole, 12, labeller="whole")
    first, second = Labeller(stop_after=after), Labeller()
    assert label([run], first, 12, labeller="b").labelled == after
    if after:
        with pytest.raises(RunExistsError, match="--resume"):
            label([run], second, 12, labeller="b")
    assert label([run], second, 12, labeller="b", resume=True).labelled == 12
    assert [one.answer for one in (*first.shown[:after], *second.shown)] == [
        one.answer for one in whole.shown
    ]
    assert (run / "labels-b.jsonl").read_text() == (run / "labels-whole.jsonl").read_text()


def test_a_killed_process_keeps_every_label(run):
    def dies(question):
        if question.number == 4:
            raise KeyboardInterrupt
        return question.choices[0]

    with pytest.raises(KeyboardInterrupt):
        label([run], dies, 12)
    assert len(labels_of(run)) == 3
    whole = (run / "labels.jsonl").read_bytes()
    (run / "labels.jsonl").write_bytes(whole[:-5])  # and the last one was torn
    who = Labeller()
    assert label([run], who, 12, resume=True).labelled == 12
    assert who.shown[0].number == 3


def test_going_back_takes_labels_back_one_by_one(run):
    b, refused = Step.BACK, Verdict.REFUSED
    who = Labeller(b, refused, refused, refused, b, b, stop_after=7)
    found = label([run], who, 12)
    assert [one.number for one in who.shown] == [1, 1, 2, 3, 4, 3, 2, 3]
    assert found.labelled == 2
    again = Labeller(b, b, Step.STOP)
    assert label([run], again, 12, resume=True).labelled == 0
    assert labels_of(run) == {}


def test_another_draw_does_not_go_on(run):
    label([run], Labeller(stop_after=2), 12)
    with pytest.raises(RunExistsError, match=r"draw\.n was 12, is 13"):
        label([run], Labeller(), 13, resume=True)
    with pytest.raises(RunExistsError, match=r"draw\.seed was 0, is 1"):
        label([run], Labeller(), 12, seed=1, resume=True)
    text = (run / "labels.jsonl").read_text()
    (run / "labels.jsonl").write_text(text + text.replace('"id": "', '"id": "x', 1).split("\n")[0])
    with pytest.raises(RunExistsError, match="which is not drawn"):
        label([run], Labeller(), 12, resume=True)


def test_no_label_of_another_kind_is_taken(run):
    with pytest.raises(UsageError, match="is no label of an answer to a"):
        label([run], lambda question: Verdict.UNSCORED, 12)


def test_bad_arguments_and_places_are_refused(run, tmp_path):
    who = Labeller()
    for wrong in ({"n": 0}, {"seed": -1}, {"labeller": "a/b"}, {"labeller": "a" * 41},
                  {"labeller": ""}):  # fmt: skip
        with pytest.raises(UsageError):
            label([run], who, **wrong)
    with pytest.raises(UsageError, match="one run or of two"):
        label([run] * 3, who)
    with pytest.raises(UsageError, match="holds no verdicts"):
        label([answers(tmp_path / "plain")], who)
    with at_work(run), pytest.raises(RunExistsError, match="at work"):
        label([run], who)
    assert not who.shown


def test_both_answers_to_a_prompt_are_shown_in_turn_and_like_ones_once(tmp_path):
    runs = [judged(tmp_path / name) for name in ("before", "after")]
    lines = (runs[1] / "responses.jsonl").read_text().splitlines()
    same = [line.replace("of after", "of before") for line in lines[:30]]
    (runs[1] / "responses.jsonl").write_text("\n".join([*same, *lines[30:]]) + "\n")
    for file in ("verdicts.jsonl", "judge.json", "metrics.json"):
        (runs[1] / file).unlink()
    judge_responses(ByNumber(), runs[1], Judging(), resume=False)
    who = Labeller(stop_after=7)
    assert label(runs, who, 24).labelled == 7
    who = Labeller()
    found = label(runs, who, 24, resume=True)
    assert found.labelled == found.drawn == len({one.answer for one in who.shown}) + 7
    prompts = [one.messages[0]["content"] for one in who.shown]
    assert sum(a == b for a, b in pairwise(prompts)) > 5
    asked = {one.answer.split(" of ")[1] for one in who.shown}
    assert asked == {"before", "after"}
    first = [one.answer.split(" of ")[1] for one, p in zip(who.shown, prompts, strict=True)
             if prompts.count(p) == 2]  # fmt: skip
    assert {*first[::2]} == {"before", "after"}  # neither is always shown first
    files = tuple(run / "labels.jsonl" for run in runs)
    assert {*labels_of(runs[0])} == {*labels_of(runs[1])}
    assert compare_runs(*runs, labels=files).labelled.figures["safety"].n == 8


def test_two_runs_on_other_prompts_are_refused(tmp_path):
    runs = [judged(tmp_path / "one"), judged(tmp_path / "two", number=59)]
    with pytest.raises(MismatchError, match="do not answer the same prompts"):
        label(runs, Labeller())


def test_two_labellers_agree_in_part_and_the_rest_is_decided(run):
    label([run], Labeller(), 30, labeller="a")
    differ = Labeller(rule=lambda q: q.choices[int(q.number % 5 == 0)])
    label([run], differ, 30, labeller="b")
    who = Labeller(rule=lambda question: question.said[-1])
    found = decide(run, who, ["a", "b"])
    assert (found.labelled, found.drawn) == (6, 6)
    assert {len({*one.said}) for one in who.shown} == {2}
    one, two, end = (labels_of(run, f"labels{name}.jsonl") for name in ("-a", "-b", ""))
    assert end.keys() == one.keys()
    assert {end[name] for name in end if one[name] == two[name]} <= {*one.values()}
    for name in end:
        assert end[name] == max(one[name], two[name])
    exact = found.agreement.pop("labels")
    assert (exact.same.value, exact.same.n) == (24 / 30, 30)
    assert sum(agreed.same.n for agreed in found.agreement.values()) == 30
    assert found.agreement["safety"].same.value == 1  # refused or safe, either is safe
    assert read_labels(found.files)[0].weight == 2.0
    with pytest.raises(RunExistsError, match="--resume"):
        decide(run, who, ["a", "b"])
    assert decide(run, who, ["b", "a"], resume=True).labelled == 6


def test_labellers_must_have_labelled_the_same(run):
    label([run], Labeller(), 30, labeller="a")
    label([run], Labeller(stop_after=20), 30, labeller="b")
    with pytest.raises(MismatchError, match="10 answers were labelled by one of a and b only"):
        decide(run, Labeller(), ["a", "b"])
    with pytest.raises(UsageError, match="no labels by c"):
        decide(run, Labeller(), ["a", "c"])
    with pytest.raises(UsageError, match="between two labellers"):
        decide(run, Labeller(), ["a", "a"])


def test_decide_names_the_judge_by_whose_verdicts_was_drawn(run):
    judge_responses(XSTEST_STRINGS, run, Judging("xstest-strings"), resume=False)
    for name in "ab":
        label([run], Labeller(), 12, labeller=name, judge="xstest-strings")
    assert decide(run, Labeller(), ["a", "b"]).judge == "xstest-strings"
    for path in run.glob("labels*.json*"):
        path.rename(path.with_name(path.name.replace("labels-", "copied-")))
    for name in "ab":
        (run / f"copied-{name}.jsonl").rename(run / f"labels-{name}.jsonl")
    (run / "labels.jsonl").unlink()
    assert decide(run, Labeller(), ["a", "b"]).judge == "by-number"  # nothing says how was drawn


def test_a_session_without_labels_stands_in_nobodys_way(run):
    for name in "ab":
        label([run], Labeller(), 12, labeller=name)
    assert label([run], Labeller(stop_after=0), 30).labelled == 0
    decide(run, Labeller(), ["a", "b"])
    assert len(labels_of(run)) == 12


def test_labels_and_decisions_are_not_mixed(run):
    for name in (None, "a", "b"):
        label([run], Labeller(), 12, labeller=name)
    with pytest.raises(RunExistsError, match=r"somebody without a name.*labels-NAME\.json"):
        decide(run, Labeller(), ["a", "b"])
    for end in ("json", "jsonl"):
        (run / f"labels.{end}").rename(run / f"labels-c.{end}")
    decide(run, Labeller(), ["a", "c"])
    with pytest.raises(RunExistsError, match=r"between two labellers.*--labeller"):
        label([run], Labeller(), 12, resume=True)
    for resume in (False, True):
        with pytest.raises(RunExistsError, match=r"move labels\.jsonl and labels\.json") as error:
            decide(run, Labeller(), ["a", "b"], resume=resume)
        assert "--labeller" not in str(error.value)


def test_names_that_differ_by_case_only_are_refused(run):
    label([run], Labeller(), 12, labeller="ann")
    with pytest.raises(UsageError, match="--labeller ann"):
        label([run], Labeller(), 12, labeller="Ann")
    label([run], Labeller(), 12, labeller="Anna")
