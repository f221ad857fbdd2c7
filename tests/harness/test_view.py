"""Run folders as logs of Inspect's: texts, scores and figures are those of the run."""

import json

import pytest
from inspect_ai.log import read_eval_log

from tests.cli.conftest import tsdi
from tests.cli.test_bad_input import _refused
from tests.evaluation.test_evaluate import ByNumber
from tests.evaluation.test_labelled import answers
from tsdi.errors import UsageError
from tsdi.evaluation.evaluate import Judging, judge_responses
from tsdi.harness import view as module
from tsdi.harness.view import view
from tsdi.judging.refusal import REFUSAL_PHRASES

CHAT = [{"role": "system", "content": "be kind"}, {"role": "user", "content": "well?"}]
CUT = {"id": "cut", "kind": "harmful", "messages": CHAT, "response": "One", "finish": "length"}
GONE = {**CUT, "id": "gone", "response": "", "finish": "filter", "reason": "no"}


class Counts(ByNumber):
    """Judges what has no number, too."""

    def judge_answers(self, responses):
        return [self._judgement(int(r.id[1:] if r.id[1:].isdigit() else 1), r.kind)
                for r in responses]  # fmt: skip


@pytest.fixture
def run(tmp_path):
    folder = answers(tmp_path / "run", 30, more=[CUT, GONE])
    judge_responses(Counts(), folder, Judging(), resume=False)
    return folder


def log_of(run, tmp_path):
    (path,) = view([run], tmp_path / "logs")
    assert path == tmp_path / "logs" / "run.eval"
    return read_eval_log(path)


def test_figures_and_categories_are_those_of_evaluate(run, tmp_path):
    log = log_of(run, tmp_path)
    assert log.status == "success"
    truth = json.loads((run / "metrics.json").read_text())["figures"]
    expected = {
        "complied_harmless": truth["compliance"],
        "complied_lookalike": truth["lookalike_compliance"],
        "safe": truth["safety"],
    } | {f"refused_{kind}": shares["full"] for kind, shares in truth["refusals"].items()}
    scores = {score.name: score for score in log.results.scores}
    assert {*scores} == {*expected, "verdict"}
    for name, figure in expected.items():
        found = {key: metric.value for key, metric in scores[name].metrics.items()}
        ours = [found[key] for key in ("share", "low", "high", "answers")]
        assert ours == pytest.approx([figure[key] for key in ("value", "low", "high", "n")]), name
        grouped = {m.name: m.value for m in scores[name].metrics.values() if m.group != "share"}
        assert {key.split()[0] for key in grouped} <= {"O1", "O2"}
    safe = {m.name.split()[0]: m.value for m in scores["safe"].metrics.values()}
    for category, figure in truth["safety_by_category"].items():
        assert not category or safe[category] == pytest.approx(figure["value"])
    counted = {name: metric.value for name, metric in scores["verdict"].metrics.items()}
    assert sum(counted.values()) == 32 - truth["unscored"]["value"] * 32
    assert scores["verdict"].unscored_samples == round(truth["unscored"]["value"] * 32)


def test_samples_are_the_answers(run, tmp_path):
    samples = {sample.id: sample for sample in log_of(run, tmp_path).samples}
    assert len(samples) == 32
    assert samples["p4"].output.completion == "answer 4 of run"
    assert samples["p4"].input == "question 4"
    assert samples["p4"].metadata == {"kind": "lookalike", "category": "O1"}
    assert samples["p4"].scores["complied_lookalike"].value == 1
    assert "safe" not in samples["p4"].scores
    assert samples["p3"].scores["verdict"].explanation.startswith("hm")
    assert [message.role for message in samples["cut"].input] == ["system", "user"]
    assert samples["cut"].output.stop_reason == "max_tokens"
    assert samples["gone"].output.stop_reason == "content_filter"
    assert "no" in samples["gone"].output.error


def test_each_judge_has_its_scores_and_one_that_did_not_finish_none(run, tmp_path, caplog):
    judge_responses(REFUSAL_PHRASES, run, Judging("refusal-phrases"), resume=False)
    names = {score.name for score in log_of(run, tmp_path).results.scores}
    assert {
        "safe by by-number",
        "verdict by by-number",
        "refused_harmful by refusal-phrases",
    } < names
    assert "safe by refusal-phrases" not in names
    (place,) = (run / "judges").iterdir()
    lines = (place / "verdicts.jsonl").read_text().splitlines()
    (place / "verdicts.jsonl").write_text("\n".join(lines[:5]) + "\n")
    assert "safe" in {score.name for score in log_of(run, tmp_path).results.scores}
    assert "No scores by refusal-phrases" in caplog.text


def test_a_run_that_nobody_judged_is_shown_without_scores(tmp_path):
    log = log_of(answers(tmp_path / "run", 5), tmp_path)
    assert len(log.samples) == 5
    assert log.results.scores == []


def test_the_command_writes_over_its_own_logs_alone(run, tmp_path):
    out = tmp_path / "logs"
    for _ in range(2):
        result = tsdi("view", run, "--out", out)
        assert result.exit_code == 0, result.output
        assert "inspect view --log-dir" in " ".join(result.stdout.split())
    (out / "run.eval").write_text("mine")
    _refused(tsdi("view", run, "--out", out), "is not a log of tsdi's")
    _refused(tsdi("view", run, run, "--out", out), "Two runs have the same name")
    _refused(tsdi("view", tmp_path / "none", "--out", out), "There is no run folder")


def test_without_inspect_the_extra_is_named(run, monkeypatch):
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"pip install 'tsdi\[inspect\]'"):
        view([run])
