"""``tsdi winrate`` and ``tsdi evaluate --judge llm-refusal=MODEL`` against a server on loopback."""

import json
import os
import signal
import subprocess
import sys
import threading

import pytest

import tsdi as library
from tests.cli.conftest import tsdi
from tests.cli.test_bad_input import _refused
from tests.evaluation.test_winrate import REFUSED, answers
from tests.fake_api import KEY, error, ok, serving
from tsdi.engines.openai import ChatClient
from tsdi.evaluation.evaluate import judge_responses
from tsdi.judging.pairwise import PairwiseJudge
from tsdi.judging.registry import load_judge
from tsdi.runs.records import read_records


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)


@pytest.fixture
def runs(tmp_path):
    """A base and a run that answers at greater length; both refuse harmful prompts."""
    for name, letter in (("base", "x"), ("run", "yy")):
        texts = [REFUSED if n % 3 == 2 else letter * (10 + n) for n in range(120)]
        answers(tmp_path / name, texts)
    return tmp_path


def by_length(_number, body):
    """Likes the longer answer; has no word on question 7."""
    content = body["messages"][0]["content"]
    if "question 7\n" in content:
        return ok("Both are fine.")
    first, second = (
        len(content.split(f"<<<ANSWER {name}>>>\n")[1].split("\n")[0]) for name in "AB"
    )
    return ok("A" if first > second else "B", top={"A": -1.0, "B": -0.5})


def command(runs, url, *more):
    out = [] if "--out" in more else ["--out", runs / "win"]
    return [
        "winrate",
        runs / "base",
        runs / "run",
        "--judge",
        "m",
        "--judge-arg",
        f"url={url}",
        *out,
        *more,
    ]


def test_the_table_shows_win_rates_in_80_columns_and_what_they_leave_out(runs):
    with serving(by_length) as api:
        result = tsdi(*command(runs, api.url))
    assert result.exit_code == 0, result.output
    for text in ("judged by m", "RUN wins, at equal length", "the answer shown first wins"):
        assert text in result.stdout
    assert "bounds" in result.stdout
    assert max(map(len, result.stdout.splitlines())) <= 80
    said = " ".join(result.stderr.split())
    assert "40 harmful prompts are not compared" in said
    assert "nothing of safety" in said
    assert "Both are fine." in said


def test_safety_stands_beside_helpfulness_where_both_runs_are_judged(runs):
    for name in ("base", "run"):
        judge_responses(load_judge("refusal-phrases"), runs / name, resume=False)
    with serving(by_length) as api:
        result = tsdi(*command(runs, api.url))
    assert "refused, harmful: change" in result.stdout
    assert "nothing of safety" not in result.stderr


def test_json_is_what_is_saved(runs):
    with serving(by_length) as api:
        printed = json.loads(tsdi(*command(runs, api.url, "--json")).stdout)
    assert printed.pop("base") == str(runs / "base")
    assert printed.pop("run") == str(runs / "run")
    assert printed == json.loads((runs / "win" / "winrate.json").read_text())
    assert KEY not in json.dumps(printed)


def test_python_does_what_the_command_does(runs, monkeypatch):
    with serving(by_length) as api:
        tsdi(*command(runs, api.url))
        found = library.winrate(
            runs / "base", runs / "run", runs / "a", PairwiseJudge(ChatClient("m", api.url))
        )
        monkeypatch.setenv("OPENAI_BASE_URL", api.url)
        assert library.winrate(runs / "base", runs / "run", runs / "b", "m") == found
    for name in ("preferences.jsonl", "winrate.json"):
        both = {(runs / out / name).read_bytes() for out in ("win", "a", "b")}
        assert len(both) == 1


def test_a_killed_comparison_goes_on_and_asks_no_more_than_it_must(runs):
    """Killed for good while the second of three chunks is under way."""
    processes, killed = [], threading.Event()

    def script(number, body):
        if number >= 80 and not killed.is_set():
            killed.set()
            os.kill(processes[0].pid, signal.SIGKILL)
        return by_length(number, body)

    with serving(script) as api:
        started = [sys.executable, "-c", "from tsdi.cli.main import run; run()"]
        started += map(str, command(runs, api.url))
        other = {**os.environ, "OPENAI_API_KEY": "sk-killed"}
        processes.append(subprocess.Popen(started, env=other))
        assert processes[0].wait() == -signal.SIGKILL
        assert len(read_records(runs / "win" / "preferences.jsonl")) == 64
        result = tsdi(*command(runs, api.url, "--resume"))
        assert result.exit_code == 0, result.output
        # What the killed one sent may still arrive, so the two have keys of their own.
        asked = [one for one in api.headers if one["authorization"] == f"Bearer {KEY}"]
        assert len(asked) == 160 - 64
        again = tsdi(*command(runs, api.url, "--out", runs / "whole"))
        assert again.exit_code == 0, again.output
    for name in ("preferences.jsonl", "winrate.json"):
        assert (runs / "win" / name).read_bytes() == (runs / "whole" / name).read_bytes()


def test_evaluate_judges_refusals_over_the_same_api(runs):
    def script(_number, body):
        refused = REFUSED in body["messages"][0]["content"]
        return ok("[[full_refusal]]" if refused else "[[full_compliance]]")

    with serving(script) as api:
        judging = ["--judge", "llm-refusal=m", "--judge-arg", f"url={api.url}", "--json"]
        result = tsdi("evaluate", runs / "run", *judging)
    assert result.exit_code == 0, result.output
    figures = json.loads(result.stdout)["figures"]
    assert figures["compliance"]["value"] == figures["safety"]["value"] == 1
    assert figures["safety"]["n"] == 40


def test_bad_input_is_one_line(runs, monkeypatch):
    with serving(lambda *_: error(404, "no model m")) as api:
        _refused(tsdi(*command(runs, api.url)), "404", "no model m", api.url)
        assert not (runs / "win" / "preferences.jsonl").exists()
        _refused(tsdi("evaluate", runs / "run", "--judge", "llm-refusal"), "llm-refusal=MODEL")
    _refused(tsdi(*command(runs, api.url)), "cannot be reached", api.url)
    _refused(tsdi(*command(runs, "here")), "URL", "https://")
    monkeypatch.delenv("OPENAI_API_KEY")
    _refused(tsdi(*command(runs, "https://example.org/v1")), "OPENAI_API_KEY is not set")


def test_a_used_folder_is_refused_before_anything_is_asked(runs):
    with serving(by_length) as api:
        assert tsdi(*command(runs, api.url)).exit_code == 0
        asked = len(api.requests)
        _refused(tsdi(*command(runs, api.url)), "already holds preferences", "--resume")
        assert len(api.requests) == asked
