import json
from dataclasses import asdict
from importlib import import_module

import tsdi as library
from tests.cli.conftest import tsdi
from tests.evaluation.test_evaluate import answered
from tsdi.judging.registry import JUDGES


def test_every_judge_is_listed_in_80_columns():
    result = tsdi("judges")
    assert result.exit_code == 0, result.output
    assert all(name in result.stdout for name in JUDGES)
    assert max(map(len, result.stdout.splitlines())) <= 80
    shown = json.loads(tsdi("judges", "--json").stdout)
    known = {name: asdict(one) for name, one in library.judges().items()}
    assert shown == json.loads(json.dumps(known))
    assert list(shown) == list(JUDGES)


def test_every_judge_has_an_opener():
    for known in JUDGES.values():
        module, _, name = known.opener.partition(":")
        assert hasattr(import_module(module), name)


def test_two_judges_of_one_run(tmp_path):
    run = answered(tmp_path / "run")
    first = tsdi("evaluate", run, "--judge", "refusal-phrases")
    assert first.exit_code == 0, first.output
    assert "Agreement" not in first.stdout
    second = tsdi("evaluate", run, "--judge", "keyword-list")
    assert second.exit_code == 0, second.output
    assert "Agreement of keyword-list with" in second.stdout
    assert "counted alike" in second.stdout
    assert max(map(len, second.stdout.splitlines())) <= 80
    shown = json.loads(
        tsdi("evaluate", run, "--judge", "keyword-list", "--resume", "--json").stdout
    )
    assert shown["agreement"][0]["other"]["name"] == "refusal-phrases"

    unnamed = tsdi("compare", run, run)
    assert unnamed.exit_code == 2
    assert "refusal-phrases and keyword-list" in unnamed.stderr
    assert "--judge NAME" in unnamed.stderr
    named = tsdi("compare", run, run, "--judge", "keyword-list")
    assert named.exit_code == 0, named.output
    assert "judged by keyword-list" in named.stdout
