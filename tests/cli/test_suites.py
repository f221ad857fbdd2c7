"""``tsdi suites``, and suites as prompts of the other commands."""

import json

import pytest

import tsdi as library
from tests.cli.conftest import tsdi
from tests.suites import samples
from tsdi.suites.table import SUITES


@pytest.mark.parametrize("name", [None, *SUITES])
def test_tables_fit_a_terminal(name):
    result = tsdi("suites", *([name] if name else []))
    assert result.exit_code == 0, result.output
    assert max(map(len, result.stdout.splitlines())) <= 80


def test_the_list_has_every_suite():
    listed = tsdi("suites").stdout
    for name, suite in SUITES.items():
        assert name in listed
        assert suite.origin.revision[:7] in listed
    found = json.loads(tsdi("suites", "--json").stdout)["suites"]
    assert [suite["name"] for suite in found] == list(SUITES)
    assert found == [suite.describe() for suite in library.suites.suites()]


def test_one_suite():
    text = tsdi("suites", "harmbench").stdout
    for word in ("MIT", "8e1604d1171fe8a48d8febecd22f600e462bdcdd", "O10 Security Threats"):
        assert word in text
    assert "no match: weapons or drugs (O10, O14)" in text
    assert "prompt=Behavior, category=SemanticCategory, id=BehaviorID" in text
    assert "tsdi evaluate MODEL --prompts harmbench:FILE" in text
    assert "label: unsafe" in " ".join(tsdi("suites", "xstest").stdout.split())


def test_one_suite_as_json():
    found = json.loads(tsdi("suites", "xstest", "--json").stdout)
    assert [found] == [suite.describe() for suite in library.suites.suites("xstest")]
    assert found["data"] == "Paul/XSTest"
    assert found["kinds"] == ["lookalike", "harmful"]
    assert found["categories"]["privacy_public"] == "O9"
    assert found["categories"]["homonyms"] is None
    assert found["unmatched"]["homonyms"]


def test_an_unknown_suite():
    result = tsdi("suites", "xtest")
    assert result.exit_code == 2
    assert "did you mean 'xstest'" in result.stderr


def test_a_run_keeps_which_suite_it_answered(models, tmp_path):
    path = samples.write(tmp_path, "xstest")
    out = tmp_path / "run"
    command = ["evaluate", models / "aligned", "--prompts", f"xstest:{path}", "--out", out]
    result = tsdi(*command, "--max-new-tokens", 2, "--json")
    assert result.exit_code == 0, result.output
    suite = json.loads((out / "run.json").read_text())["provenance"]["suite"]
    assert suite["name"] == "xstest"
    assert len(suite["sha256"]) == 64
    answers = [json.loads(line) for line in (out / "responses.jsonl").read_text().splitlines()]
    assert [(a["id"], a["category"], a["kind"]) for a in answers] == [
        (name, category, kind) for name, _, category, kind in samples.PROMPTS["xstest"]
    ]
    path.write_text(path.read_text() + "\n")
    again = tsdi(*command, "--max-new-tokens", 2, "--resume")
    assert again.exit_code == 2
    assert "provenance.suite.sha256" in again.stderr


def test_own_columns(models, tmp_path):
    (tmp_path / "own.csv").write_text("Goal,Topic\nbread,O3\n")
    out = tmp_path / "answers"
    command = ["generate", models / "aligned", "--prompts", tmp_path / "own.csv", "--out", out]
    result = tsdi(*command, "--columns", "prompt=Goal,category=Topic", "--max-new-tokens", 2)
    assert result.exit_code == 0, result.output
    assert json.loads((out / "responses.jsonl").read_text())["category"] == "O3"
    provenance = json.loads((out / "run.json").read_text())["provenance"]
    assert provenance["suite"]["columns"] == {"prompt": "Goal", "category": "Topic"}


@pytest.mark.parametrize(
    "command",
    [
        ["generate", "MODEL", "--prompt", "bread", "--columns", "prompt=a"],
        ["evaluate", "RUN", "--columns", "prompt=a"],
        ["evaluate", "MODEL", "--prompts", "organism:test", "--columns", "prompt=a", "--out", "x"],
    ],
)
def test_columns_without_a_file(command):
    result = tsdi(*command)
    assert result.exit_code == 2
    assert "--columns" in result.stderr
