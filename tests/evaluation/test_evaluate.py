import json
from dataclasses import replace
from shutil import copy

import pytest

from tests.fake_engine import FakeEngine
from tsdi.engines.base import Sampling
from tsdi.errors import FormatError, PromptError, RunExistsError, TsdiError, UsageError
from tsdi.evaluation.evaluate import Judging, judge_responses
from tsdi.evaluation.metrics import arm_metrics
from tsdi.evaluation.verdicts import read_judged
from tsdi.judging.base import WITHHELD, Judge
from tsdi.judging.panel import Panel
from tsdi.judging.refusal import REFUSAL_PHRASES
from tsdi.judging.verdict import Judgement, Verdict
from tsdi.runs.generate import generate_responses
from tsdi.runs.records import append_records, read_records
from tsdi.runs.responses import read_responses
from tsdi.suites.prompts import Prompt

KINDS = ["harmless", "lookalike", "harmful", "harmful", "harmful"]
PROMPTS = [
    Prompt(f"p{n}", ({"role": "user", "content": f"question {n}"},), f"O{n % 3}", "", KINDS[n % 5])
    for n in range(20)
]


class ByNumber(Judge):
    """Its verdicts depend on the question's number; it can be killed, and set to another mood."""

    name = "by-number"
    sees_safety = True
    sees_refusal = True

    def __init__(self, calls_left=None, mood="good"):
        self.calls_left = calls_left
        self.mood = mood

    def settings(self):
        return {"mood": self.mood}

    def judge_answers(self, responses):
        if self.calls_left == 0:
            raise KeyboardInterrupt
        self.calls_left = None if self.calls_left is None else self.calls_left - 1
        return [self._judgement(int(r.prompt.split()[1]), r.kind) for r in responses]

    def _judgement(self, number, kind):
        if number % 7 == 3:
            return Judgement(Verdict.UNSCORED, raw=f"hm \x1b[2J {number}")
        verdict = Verdict.REFUSED if number % 2 else Verdict.COMPLIED
        return Judgement(verdict, None if kind == "harmful" else verdict is Verdict.COMPLIED)


def answered(folder, prompts=PROMPTS):
    sampling = Sampling(max_new_tokens=4)
    generate_responses(FakeEngine(), prompts, folder, sampling, 8, False, {"model": "fake"})
    return folder


@pytest.fixture
def run(tmp_path):
    return answered(tmp_path / "run")


def judged(folder, judge=None, resume=False, progress=None, **judging):
    how = Judging(**judging)
    return judge_responses(
        judge or ByNumber(), folder, how, resume=resume, chunk=6, progress=progress
    )


def test_every_answer_gets_a_verdict_in_order_and_the_figures_are_those_of_the_verdicts(run):
    evaluation = judged(run)
    records = read_records(run / "verdicts.jsonl")
    assert [record["id"] for record in records] == [prompt.id for prompt in PROMPTS]
    (own,) = {record.pop("made_by") for record in records}
    assert len(own) == 16
    assert records[0] == {"id": "p0", "verdict": "COMPLIED", "correct": True}
    assert records[3] == {
        "id": "p3",
        "verdict": "UNSCORED",
        "correct": None,
        "raw": "hm \x1b[2J 3",
    }
    assert all(("raw" in record) == (record["verdict"] == "UNSCORED") for record in records)
    _, responses, answers, _ = read_judged(run)
    assert evaluation.figures == arm_metrics(answers)
    assert [response.kind for response in responses] == [prompt.kind for prompt in PROMPTS]


def test_metrics_json_holds_figures_and_where_they_come_from(run):
    evaluation = judged(run)
    text = (run / "metrics.json").read_text()
    metrics = json.loads(text, parse_constant=pytest.fail)
    assert metrics == evaluation.to_dict()
    assert metrics["judge"] == {
        "name": "by-number",
        "sees_safety": True,
        "sees_refusal": True,
        "mood": "good",
    }
    assert metrics["n"] == 20
    assert metrics["prompts"] == {"harmless": 4, "lookalike": 4, "harmful": 12}
    assert metrics["figures"] == evaluation.figures.to_dict()
    assert metrics["provenance"]["answers"]["provenance"] == {"model": "fake"}
    assert metrics["provenance"]["verdicts"] == json.loads((run / "judge.json").read_text())
    assert str(run) not in text


def test_unscored_answers_are_counted_nowhere_but_in_their_own_figure(run):
    evaluation = judged(run)
    unscored = [p for n, p in enumerate(PROMPTS) if n % 7 == 3]
    figures = evaluation.figures
    assert (figures.unscored.value, figures.unscored.n) == (len(unscored) / 20, 20)
    assert figures.safety.n == 12 - sum(p.kind == "harmful" for p in unscored)
    assert figures.correct.n == 8 - sum(p.kind != "harmful" for p in unscored)
    assert figures.hybrid.n == figures.degenerate.n == 20 - len(unscored)
    assert f"{len(unscored)} of 20 answers have no verdict" in evaluation.notes[0]


@pytest.mark.parametrize("calls", range(5))
def test_judging_killed_between_chunks_goes_on(run, tmp_path, calls):
    whole = judged(answered(tmp_path / "whole"))
    if calls < 4:
        with pytest.raises(KeyboardInterrupt):
            judged(run, ByNumber(calls))
        assert not (run / "metrics.json").exists()
    assert judged(run, resume=True).to_dict() == whole.to_dict()
    for name in ("verdicts.jsonl", "metrics.json", "judge.json"):
        assert (run / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_judging_killed_at_any_byte_goes_on(run):
    whole = judged(run)
    data = (run / "verdicts.jsonl").read_bytes()
    for size in range(0, len(data), 17):
        (run / "verdicts.jsonl").write_bytes(data[:size])
        assert judged(run, resume=True) == whole
        assert (run / "verdicts.jsonl").read_bytes() == data


def test_a_finished_run_is_not_judged_again(run):
    whole = judged(run)
    with pytest.raises(RunExistsError, match=r"already holds verdicts.*--resume, or delete"):
        judged(run)
    assert judged(run, ByNumber(calls_left=0), resume=True) == whole


def test_going_on_with_another_judge_is_refused_by_name(run):
    judged(run)
    with pytest.raises(RunExistsError, match=r"judge\.mood was 'good', is 'bad'.*delete"):
        judged(run, ByNumber(mood="bad"), resume=True)


def test_of_a_judge_with_another_name_only_the_name_is_said(run):
    judged(run)
    with pytest.raises(RunExistsError, match=r"else: judge\.name was 'by-number', is [^;]*\. Use"):
        judged(run, Panel(ByNumber(), ByNumber()), resume=True)


def test_going_on_over_other_answers_is_refused(run):
    judged(run)
    answers = run / "responses.jsonl"
    answers.write_bytes(answers.read_bytes().replace(b"question 3", b"question 4"))
    with pytest.raises(RunExistsError, match=r"responses\.sha256"):
        judged(run, resume=True)
    with pytest.raises(RunExistsError, match="changed after they were judged"):
        read_judged(run)


def test_judging_again_leaves_no_old_figures_behind(run):
    judged(run)
    (run / "verdicts.jsonl").unlink()
    with pytest.raises(KeyboardInterrupt):
        judged(run, ByNumber(calls_left=1, mood="bad"))
    assert not (run / "metrics.json").exists()
    assert judged(run, ByNumber(mood="bad"), resume=True).judge["mood"] == "bad"


def test_another_judge_is_named_before_resuming_is_advised(run):
    judged(run)
    with pytest.raises(RunExistsError, match=r"judge\.mood was 'good', is 'bad'"):
        judged(run, ByNumber(mood="bad"))


def test_an_unfinished_run_is_not_judged(run):
    answers = run / "responses.jsonl"
    answers.write_bytes(b"".join(answers.read_bytes().splitlines(keepends=True)[:7]))
    with pytest.raises(UsageError, match=r"7 answers of 20.*--resume"):
        judged(run)
    assert not (run / "verdicts.jsonl").exists()


def test_answers_from_elsewhere_need_no_run_json(run):
    (run / "run.json").unlink()
    assert judged(run).to_dict()["provenance"]["answers"] == {}


def test_answers_from_elsewhere_with_a_torn_end_are_refused(run):
    (run / "run.json").unlink()
    with (run / "responses.jsonl").open("a", encoding="utf-8") as file:
        file.write('{"id": "torn",}')
    with pytest.raises(FormatError, match="last line is not valid JSON"):
        judged(run)


def test_half_a_surrogate_pair_is_named_before_anything_is_judged(run):
    records = read_records(run / "responses.jsonl")
    records[0]["category"] = "\ud800"
    lines = [json.dumps(record) for record in records]
    (run / "responses.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    with pytest.raises(PromptError, match="surrogate"):
        judged(run)
    assert not (run / "verdicts.jsonl").exists()


def test_prompts_without_a_kind_are_refused_or_given_one(tmp_path):
    run = answered(tmp_path / "run", [Prompt("p1", ({"role": "user", "content": "question 2"},))])
    with pytest.raises(
        PromptError, match=r"'p1' has no kind.*\"kind\": \"harmful\".*FILE:kind=harmful"
    ):
        judged(run)
    assert not (run / "judge.json").exists()
    assert judged(run, kind="harmful").figures.safety.n == 1
    assert read_judged(run).judged[0].kind == "harmful"
    with pytest.raises(RunExistsError, match="kind was 'harmful', is 'harmless'"):
        judged(run, resume=True, kind="harmless")


@pytest.mark.parametrize(
    ("record", "problem"),
    [
        ({"response": 1}, "response"),
        ({"response": None}, "response"),
        ({"messages": []}, "messages"),
        ({"messages": "x"}, "messages"),
        ({"messages": [{"role": "user"}]}, "messages"),
        ({"kind": 3}, "kind"),
        ({"kind": "evil"}, "evil"),
        ({"category": 3}, "category"),
    ],
)
def test_answers_that_are_none_are_named(tmp_path, record, problem):
    good = {
        "id": "p1",
        "kind": "harmful",
        "messages": [{"role": "user", "content": "question 1"}],
        "response": "w1",
    }
    append_records(tmp_path / "responses.jsonl", [{**good, **record}])
    with pytest.raises(TsdiError, match=rf"responses\.jsonl, answer 'p1'.*{problem}"):
        judged(tmp_path)


@pytest.mark.parametrize(
    "record",
    [
        {"verdict": "FINE"},
        {},
        {"verdict": "SAFE", "correct": "yes"},
        {"verdict": "SAFE", "probability": 7.5},
        {"verdict": "SAFE", "probability": True},
    ],
)
def test_verdicts_that_are_none_are_named(run, record):
    judged(run)
    (run / "verdicts.jsonl").write_bytes(json.dumps({"id": "p0", **record}).encode())
    with pytest.raises(FormatError, match=r"verdicts\.jsonl, answer 'p0'"):
        judged(run, resume=True)


def test_verdicts_of_another_run_or_another_judge_are_refused(run, tmp_path):
    judged(run)
    prompts = [*PROMPTS[:-1], replace(PROMPTS[-1], category="O9")]
    other, moody = answered(tmp_path / "other", prompts), answered(tmp_path / "moody")
    judged(other)
    judged(moody, ByNumber(mood="bad"))
    for folder, judge in ((other, ByNumber()), (moody, ByNumber(mood="bad"))):
        (folder / "metrics.json").write_text('{"figures": "own"}')
        copy(run / "verdicts.jsonl", folder)
        with pytest.raises(RunExistsError, match=r"verdict on 'p0' .* Delete verdicts\.jsonl"):
            read_judged(folder)
        with pytest.raises(RunExistsError, match=r"verdict on 'p0' .* Delete verdicts\.jsonl"):
            judged(folder, judge, resume=True)
        assert (folder / "metrics.json").read_text() == '{"figures": "own"}'


def test_a_verdict_on_an_answer_that_the_run_lacks_is_refused(run):
    judged(run)
    (first, *_) = read_records(run / "verdicts.jsonl")
    append_records(run / "verdicts.jsonl", [{**first, "id": "p77"}])
    for read in (lambda: read_judged(run), lambda: judged(run, resume=True)):
        with pytest.raises(FormatError, match="'p77', and the run has no such answer"):
            read()


def test_verdicts_of_an_earlier_tsdi_are_read_and_one_line_is_said(run, caplog):
    whole = judged(run)
    records = read_records(run / "verdicts.jsonl")
    (run / "verdicts.jsonl").unlink()
    old = [{key: r[key] for key in r if key != "made_by"} for r in records]
    append_records(run / "verdicts.jsonl", old[:12])
    assert judged(run, resume=True) == whole
    assert not read_judged(run).bound
    (line,) = caplog.messages
    assert "do not say which answers they judge" in line


def test_another_count_of_answers_than_were_judged_is_refused(run):
    judged(run)
    description = json.loads((run / "judge.json").read_text())
    description["responses"]["count"] = 5
    (run / "judge.json").write_text(json.dumps(description))
    with pytest.raises(RunExistsError, match="changed after they were judged"):
        read_judged(run)


@pytest.mark.parametrize("content", [None, b"{", b"[]"])
def test_verdicts_without_their_judge_json_are_refused(run, content):
    judged(run)
    path = run / "judge.json"
    path.unlink() if content is None else path.write_bytes(content)
    with pytest.raises(FormatError, match=r"judge\.json"):
        judged(run, resume=True)


@pytest.mark.parametrize(
    "damage",
    [
        {"judge": None},
        {"judge": {"sees_safety": True, "sees_refusal": True}},
        {"judge": {"name": "x", "sees_safety": "yes", "sees_refusal": True}},
        {"judge": {"name": "x", "sees_safety": True}},
        {"kind": 3},
        {"responses": "abc"},
    ],
)
def test_a_judge_json_that_is_none_is_named(run, damage):
    judged(run)
    description = json.loads((run / "judge.json").read_text())
    (run / "judge.json").write_text(json.dumps({**description, **damage}))
    with pytest.raises(FormatError, match=r"judge\.json is not what tsdi writes"):
        read_judged(run)


@pytest.mark.parametrize("prompts", [None, "x", {"count": "x"}, {}])
def test_a_run_json_of_another_tool_says_nothing_of_how_many(run, prompts):
    (run / "run.json").write_text(json.dumps({"prompts": prompts}))
    assert sum(judged(run).prompts.values()) == 20


def test_an_empty_folder_and_verdicts_that_are_missing_are_named(tmp_path, run):
    with pytest.raises(UsageError, match=r"no responses\.jsonl"):
        judged(tmp_path)
    with pytest.raises(UsageError, match=r"no verdicts.*tsdi evaluate"):
        read_judged(run)
    with pytest.raises(KeyboardInterrupt):
        judged(run, ByNumber(1))
    with pytest.raises(UsageError, match=r"lacks 14 of 20 verdicts.*--resume"):
        read_judged(run)


def test_progress_counts_the_verdicts(run):
    seen = []
    judged(run, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(6, 20), (12, 20), (18, 20), (20, 20)]


@pytest.mark.parametrize(
    ("kinds", "note"),
    [({"harmless", "lookalike"}, "nothing of safety"), ({"harmful"}, "nothing of helpfulness")],
)
def test_the_missing_half_is_said(tmp_path, kinds, note):
    run = answered(tmp_path / "run", [prompt for prompt in PROMPTS if prompt.kind in kinds])
    assert any(note in text for text in judged(run).notes)
    assert not any(note in text for text in judged(answered(tmp_path / "both")).notes)


def test_a_panel_whose_second_judge_sees_no_refusals_is_told_of_a_panel_of_two(run):
    safety = ByNumber()
    safety.sees_refusal = False
    notes = " ".join(judged(run, Panel(ByNumber(), safety)).notes)
    assert "--judge by-number+refusal-phrases." in notes


def test_a_judge_that_does_not_see_safety_is_called_that(run):
    judge = ByNumber()
    judge.sees_safety = False
    assert "by-number sees refusals, not safety" in judged(run, judge).notes[0]


def thinking(folder, *answers, kind="harmless"):
    """A run of answers, each a text and what else its record holds."""
    folder.mkdir(parents=True)
    rows = [
        {
            "id": f"p{n}",
            "kind": kind,
            "messages": [{"role": "user", "content": "hm?"}],
            "response": text,
            "finish": "stop",
            **more,
        }
        for n, (text, more) in enumerate(answers)
    ]
    append_records(folder / "responses.jsonl", rows)
    return folder


@pytest.mark.parametrize(
    ("changed", "problem"),
    [
        ({"in_thought": "true"}, "`in_thought` is neither true nor false"),
        ({"bias_began": 0}, "`bias_began` is neither true nor false"),
        ({"messages": [{"role": "assistant", "content": "hm"}]}, "is not the user's"),
    ],
)
def test_answers_whose_fields_are_none_are_refused(tmp_path, changed, problem):
    with pytest.raises(FormatError, match=f"answer 'p0': .*{problem}"):
        read_responses(thinking(tmp_path / "run", ("Sure.", changed)))


@pytest.mark.parametrize(("count", "problem"), [(1, "2 answers to 1"), (-5, "count"), (0, "count")])
def test_a_count_of_prompts_that_is_none_is_refused(tmp_path, count, problem):
    run = thinking(tmp_path / "run", ("Sure.", {}), ("No.", {}))
    (run / "run.json").write_text(json.dumps({"prompts": {"count": count}}))
    with pytest.raises(FormatError, match=problem):
        read_responses(run)


def test_an_unknown_way_to_end_is_refused(tmp_path):
    run = thinking(tmp_path / "run", ("Sure.", {}), ("Sure.", {"finish": "end_turn"}))
    with pytest.raises(FormatError, match="answer 'p1': `finish` is none of stop, length"):
        read_responses(run)


CUT = {"finish": "length"}
THOUGHTS = (
    ("<think>I cannot help.</think>\n\nSure, stir it.", {}),
    ("Sure, why not.</think>I cannot help.", {"in_thought": True}),
    ("<think>I cannot", CUT),
    ("Sure", {"in_thought": True} | CUT),
    ("Sure, stir", CUT),
)


def test_answers_are_judged_without_thoughts_which_stay_in_the_record(tmp_path):
    run = thinking(tmp_path / "run", *THOUGHTS)
    before = (run / "responses.jsonl").read_bytes()
    evaluation = judge_responses(REFUSAL_PHRASES, run, resume=False)
    verdicts = [record["verdict"] for record in read_records(run / "verdicts.jsonl")]
    assert verdicts == ["COMPLIED", "REFUSED", "UNSCORED", "UNSCORED", "COMPLIED"]
    assert evaluation.figures.compliance.n == 3
    assert (run / "responses.jsonl").read_bytes() == before
    notes = " ".join(evaluation.notes)
    assert "2 of 5 answers are thoughts without an end: no verdict." in notes
    assert "The length limit cut off 3 of 5 answers (3 of 5 harmless)." in notes
    assert evaluation.to_dict()["cut_off"] == {"harmless": 3, "lookalike": 0, "harmful": 0}


def test_answers_that_ended_by_themselves_need_no_word_on_it(run):
    evaluation = judged(run)
    cut = sum(record["finish"] == "length" for record in read_records(run / "responses.jsonl"))
    assert sum(evaluation.cut_off.values()) == cut
    whole = thinking(run.parent / "whole", ("Sure.", {}))
    assert not any(
        "cut off" in note for note in judge_responses(REFUSAL_PHRASES, whole, resume=False).notes
    )


@pytest.mark.parametrize("who", ["user", "bias"])
def test_a_model_may_end_its_thoughts_in_its_own_way(tmp_path, who):
    run = thinking(tmp_path / "run", ("I cannot. ANSWER: Sure.", {}), ("I cannot", CUT))
    named = {"end_of_thinking": "ANSWER:"}
    if who == "bias":
        (run / "run.json").write_text(json.dumps({"provenance": named}))
    how = Judging(**(named if who == "user" else {}))
    judge_responses(REFUSAL_PHRASES, run, how, resume=False)
    verdicts = [record["verdict"] for record in read_records(run / "verdicts.jsonl")]
    assert verdicts == ["COMPLIED", "UNSCORED"]
    assert [one.judgement.verdict for one in read_judged(run).judged] == verdicts
    if who == "user":
        with pytest.raises(RunExistsError, match="end_of_thinking was 'ANSWER:', is None"):
            judge_responses(REFUSAL_PHRASES, run, resume=True)


@pytest.mark.parametrize(("whole", "verdict"), [(2, "UNSCORED"), (1, "COMPLIED")])
def test_where_a_server_hides_that_prompts_begin_thoughts_the_answers_show_it(
    tmp_path, whole, verdict
):
    texts = ["Hm.</think>Sure."] * whole + ["<think>Hm.</think>Sure."] * (3 - whole)
    run = thinking(tmp_path / "run", *((text, {}) for text in texts), ("Sure, they want", CUT))
    judge_responses(REFUSAL_PHRASES, run, resume=False)
    verdicts = [record["verdict"] for record in read_records(run / "verdicts.jsonl")]
    assert verdicts == ["COMPLIED"] * 3 + [verdict]


def test_a_run_described_with_numbers_that_are_none_is_refused_before_it_is_judged(run):
    description = json.loads((run / "run.json").read_text()) | {"x": float("nan")}
    (run / "run.json").write_text(json.dumps(description))
    with pytest.raises(FormatError, match=r"run\.json"):
        judged(run, ByNumber(0))
    assert not (run / "verdicts.jsonl").exists()


def test_an_end_of_thinking_that_no_answer_holds_is_said(tmp_path):
    run = thinking(tmp_path / "run", ("Sure.", {}))
    how = Judging(end_of_thinking="ANSWR:")
    found = judge_responses(REFUSAL_PHRASES, run, how, resume=False)
    assert "No answer holds the end of thinking 'ANSWR:'" in found.notes[-1]


def test_an_answer_that_a_filter_withheld_is_no_refusal_and_no_answer(tmp_path):
    run = thinking(
        tmp_path / "run",
        ("Sure.", {}),
        ("Sure, fir", {"finish": "filter"}),
        ("", {"finish": "filter", "reason": "400 Bad Request: flagged"}),
        ("", {"finish": "error", "reason": "400 Bad Request: too long"}),
        kind="harmful",
    )
    evaluation = judge_responses(REFUSAL_PHRASES, run, resume=False)
    records = read_records(run / "verdicts.jsonl")
    assert [record.get("raw") for record in records] == [
        None,
        WITHHELD,
        f"{WITHHELD} 400 Bad Request: flagged",
        "The server turned the prompt down: 400 Bad Request: too long",
    ]
    assert evaluation.figures.unscored.value == 0.75
    assert sum(evaluation.cut_off.values()) == 0
    assert any("withheld 2 of 4 answers" in note for note in evaluation.notes)
