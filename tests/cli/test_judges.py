import json
import shutil
from dataclasses import asdict
from importlib import import_module

import pytest

import tsdi as library
from tests.cli.conftest import tsdi
from tests.cli.test_bad_input import _refused
from tests.evaluation.test_evaluate import answered
from tsdi.cli.options import read_judge
from tsdi.engines.choice import EngineChoice
from tsdi.judging.base import JudgeOptions
from tsdi.judging.registry import ARGUMENTS, JUDGES, without


def test_every_judge_is_listed_in_80_columns():
    result = tsdi("list", "judges")
    assert result.exit_code == 0, result.output
    assert all(name in result.stdout for name in JUDGES)
    assert max(map(len, result.stdout.splitlines())) <= 80
    shown = json.loads(tsdi("list", "judges", "--json").stdout)["judges"]
    known = {name: asdict(one) for name, one in library.judges().items()}
    assert shown == json.loads(json.dumps(known))
    assert list(shown) == list(JUDGES)


def test_the_list_says_which_judge_takes_which_argument():
    shown = tsdi("list", "judges").stdout.partition("--judge-arg")[2]
    labels = next(line for line in shown.splitlines() if "labels" in line)
    assert "classifier, answer-classifier" in labels
    assert all(name in shown for name in ARGUMENTS)


ALL = ["labels=a=SAFE,b=UNSAFE", "policy=p.md", "template=t.txt", "url=http://127.0.0.1:8000/v1"]


def test_every_argument_of_a_judge_reaches_it():
    own = {"policy": "p.md", "template": "t.txt", "url": "http://127.0.0.1:8000/v1"}
    assert read_judge(ALL, "auto", None, True) == JudgeOptions(
        labels="a=SAFE,b=UNSAFE", trust_remote_code=True, **own
    )
    of_engine = ["engine=vllm", "engine.max_model_len=4096", "engine.dtype=half"]
    args = {"max_model_len": 4096, "dtype": "half"}
    assert read_judge(of_engine, "float32", "cuda:1") == JudgeOptions(
        dtype="float32", device_map="cuda:1", engine=EngineChoice("vllm", args=args)
    )


@pytest.mark.parametrize(
    ("argument", "words"),
    [
        ("polcy=p.md", ["'polcy'", "did you mean 'policy'", "engine.NAME"]),
        ("model=m", ["'model'", "url, engine, labels"]),
        ("labels", ["'labels'", "no argument"]),
        ("labels=", ["'labels='", "no argument"]),
        ("engine.=4", ["'engine.=4'", "no argument"]),
        ("engine.x.y=4", ["'engine.x.y=4'", "no argument"]),
        ("engine=openai", ["transformers or vllm"]),
        ("engine.max_model_len=4096", ["transformers has no argument 'max_model_len'"]),
    ],
)
def test_an_argument_that_no_judge_has_is_one_line(tmp_path, argument, words):
    run = answered(tmp_path / "run")
    _refused(tsdi("evaluate", run, "--judge", "wildguard", "--judge-arg", argument), *words)


def test_an_argument_given_twice_is_refused(tmp_path):
    run, twice = answered(tmp_path / "run"), ("--judge-arg", "policy=p.md")
    _refused(tsdi("evaluate", run, "--judge", "question=m", *twice, *twice), "a second one")


def test_arguments_of_one_judge_are_kept_from_others():
    given = JudgeOptions(
        None, "u", "float32", None, True, "a=SAFE", "p.md", "t.txt", EngineChoice("vllm")
    )
    assert without(given) == JudgeOptions(dtype="float32", trust_remote_code=True)


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
    assert "OTHER_RUN --judge keyword-list" in " ".join(second.stdout.split())
    assert "counted alike" in second.stdout
    assert max(map(len, second.stdout.splitlines())) <= 80
    shown = json.loads(
        tsdi("evaluate", run, "--judge", "keyword-list", "--resume", "--json").stdout
    )
    assert shown["agreement"][0]["other"]["name"] == "refusal-phrases"

    other = shutil.copytree(run, tmp_path / "other")
    unnamed = tsdi("compare", run, other)
    assert unnamed.exit_code == 2
    assert "refusal-phrases and keyword-list" in unnamed.stderr
    assert "--judge NAME" in unnamed.stderr
    named = tsdi("compare", run, other, "--judge", "keyword-list")
    assert named.exit_code == 0, named.output
    assert "judged by keyword-list" in named.stdout
