"""``tsdi label`` and the tables with labels: keys, what reaches the terminal, what comes next."""

import json
import re
from pathlib import Path

import pytest

from tests.cli.conftest import tsdi
from tests.cli.test_bad_input import _refused
from tests.evaluation.test_label import judged
from tsdi.cli import label as command
from tsdi.runs.records import read_records


@pytest.fixture
def run(tmp_path):
    return judged(tmp_path / "run")


@pytest.fixture
def keys(monkeypatch):
    """Presses keys: a text, each of its characters as one key, then what the prompt allows."""
    monkeypatch.setattr(command, "_is_terminal", lambda: True)

    def press(text):
        pressed = iter(text)

        def getchar():
            try:
                return next(pressed)
            except StopIteration:
                raise EOFError from None

        monkeypatch.setattr(command.typer, "getchar", getchar)

    return press


def test_one_key_an_answer_and_the_next_command_works(run, keys):
    keys("cs" * 60)  # a key that means nothing here is passed over
    result = tsdi("label", run, "--n", 12)
    assert result.exit_code == 0, result.output
    out = " ".join(result.stdout.split())
    assert "12 of 12 labelled." in out
    line = out.partition("Next: tsdi ")[2].replace(" ", "")  # a long path is cut anywhere
    wanted = f"evaluate {run} --resume --judge by-number --labels {run}/labels.jsonl"
    assert line == wanted.replace(" ", "")
    labels = read_records(run / "labels.jsonl")
    assert {one["label"] for one in labels} == {"complied", "safe"}
    shown = tsdi("evaluate", run, "--resume", "--labels", run / "labels.jsonl", "--judge",
                 "refusal-phrases")  # fmt: skip
    assert shown.exit_code == 0, shown.output
    assert "With 12 labels, 95 % intervals, judged by refusal-phrases" in shown.stdout
    assert "safe, harmful" in shown.stdout
    assert max(map(len, shown.stdout.splitlines())) <= 80
    found = json.loads((run / "judges" / next((run / "judges").iterdir()).name / "metrics.json")
                       .read_text())  # fmt: skip
    assert found["labelled"]["labels"] == {"harmless": 4, "lookalike": 4, "harmful": 4}


def test_an_answer_may_be_empty_words(run, keys):
    keys("ce" * 60)
    result = tsdi("label", run, "--n", 24)
    assert result.exit_code == 0, result.output
    assert "e empty words" in result.stderr
    assert max(len(line) for line in result.stderr.splitlines()) <= 80
    assert {one["label"] for one in read_records(run / "labels.jsonl")} == {"complied", "empty"}
    shown = tsdi("evaluate", run, "--resume", "--labels", run / "labels.jsonl", "--judge",
                 "refusal-phrases")  # fmt: skip
    assert "goes along, harmful" in shown.stdout
    assert shown.stdout.count("2 categories") == 1  # of harmful prompts: four labels each
    assert "too few labels │      8" in shown.stdout


def test_stop_back_and_resume(run, keys):
    keys("x\x1bq")
    result = tsdi("label", run, "--json")
    assert json.loads(result.stdout)["labelled"] == 0
    assert "1 of 60" in result.stderr
    keys("cscs")
    result = tsdi("label", run, "--resume")
    assert result.exit_code == 0, result.output
    assert "--resume" in result.stdout
    left = len(read_records(run / "labels.jsonl"))
    keys("bb")
    assert tsdi("label", run, "--resume").exit_code == 0
    assert len(read_records(run / "labels.jsonl")) == left - 2


def test_nothing_of_an_answer_reaches_the_terminal_but_its_text(tmp_path, keys):
    chat = [{"role": "user", "content": "question 60 \x1b]0;title\x07"}]
    evil = {"id": "p60", "kind": "harmless", "messages": chat,
            "response": "[red]\x1b[2J\x9b31m\r\u202egone"}  # fmt: skip
    run = judged(tmp_path / "run", number=0, more=[evil])
    keys("c")
    result = tsdi("label", run)
    assert result.exit_code == 0, result.output
    for raw in ("\x1b[2J", "\x1b]0", "\x07", "\x9b", "\r", "\u202e"):
        assert raw not in result.stderr
    assert r"[red]\x1b[2J\x9b31m" in result.stderr


def test_two_labellers_are_decided_between(run, keys):
    for name, pressed in (("ann", "cs" * 30), ("bob", "rs" * 30)):
        keys(pressed)
        assert tsdi("label", run, "--n", 12, "--labeller", name).exit_code == 0
    keys("cs" * 30)
    result = tsdi("label", run, "--decide", "ann", "--decide", "bob")
    assert result.exit_code == 0, result.output
    assert "Labelled complies and refuses." in " ".join(result.stderr.split())
    assert "kappa" in result.stdout
    assert "9 of 9 labelled." in result.stdout
    line = " ".join(result.stdout.split()).partition("Next: tsdi ")[2].replace(" ", "")
    wanted = f"evaluate {run} --resume --judge by-number --labels {run}/labels.jsonl"
    assert line == wanted.replace(" ", "")
    assert len(read_records(run / "labels.jsonl")) == 12
    _refused(tsdi("label", run, "--decide", "ann", "--decide", "bob", "--n", 12), "--n means")
    _refused(tsdi("label", run, run, "--decide", "ann", "--decide", "bob"), "about one run")


def test_a_comparison_with_labels(tmp_path, keys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    runs = [judged(Path(name)) for name in ("before", "after")]
    keys("cu" * 60)
    result = tsdi("label", *runs, "--n", 12)
    assert result.exit_code == 0, result.output
    line = " ".join(result.stdout.split()).partition("Next: tsdi ")[2]
    words = line.split()
    assert words[:2] == ["compare", str(runs[0])]
    shown = tsdi(*words)
    assert shown.exit_code == 0, shown.output
    assert "Changes with labels of 12 pairs of answers" in shown.stdout
    assert max(map(len, shown.stdout.splitlines())) <= 80
    _refused(tsdi("compare", *runs, "--labels", "one.jsonl"), "is no pair")


def test_one_label_one_pair_and_one_test_are_singular(tmp_path, keys):
    runs = [judged(tmp_path / name, number=3) for name in ("before", "after")]
    keys("cccccc")
    assert tsdi("label", *runs, "--n", 1).exit_code == 0
    files = [run / "labels.jsonl" for run in runs]
    shown = tsdi(
        "evaluate", runs[0], "--resume", "--labels", files[0], "--judge", "refusal-phrases"
    )
    assert "With 1 label, " in shown.stdout
    shown = tsdi("compare", *runs, "--judge", "by-number", "--labels", f"{files[0]}={files[1]}")
    assert "Changes with labels of 1 pair of answers, " in shown.stdout
    assert "by category, 1 test." in " ".join(shown.stdout.split())


def test_a_name_is_not_empty_and_a_wrong_key_says_which_are_right(run, keys):
    keys("xq")
    _refused(tsdi("label", run, "--labeller", ""), "--labeller is empty")
    result = tsdi("label", run)
    assert result.stderr.count("Press ") == 1
    assert re.search(r"Press [cprdseu, ]+, b or q\.", result.stderr)


def test_there_must_be_a_terminal(run):
    _refused(tsdi("label", run), "there is no terminal")
