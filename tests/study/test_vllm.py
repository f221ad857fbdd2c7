"""Studies whose answers come from vLLM: here from a double that opens one saved model at a time."""

import json

import pytest

from tests.study.made import study_file
from tsdi import SafetyBias
from tsdi.engines.base import Engine
from tsdi.engines.transformers import TransformersEngine
from tsdi.errors import FormatError
from tsdi.models.load import load_model, load_tokenizer
from tsdi.study import collect, family, study
from tsdi.study.config import read_study

RULES = """
  - plain
  - reference
  - tsdi
  - {rule: openers, constant: [0, -3]}
  - {rule: conditioned, low: 0, high: 1}
  - {rule: dera, weight: [1.0, 0.25]}
"""


class OneAtATime(Engine):
    """transformers, which says when a second one is opened before it was closed."""

    open = 0
    loads = 0

    def __init__(self, inner):
        self._inner = inner
        assert OneAtATime.open == 0
        OneAtATime.open += 1
        OneAtATime.loads += 1

    def close(self):
        OneAtATime.open -= 1

    def check(self, request, sampling):
        self._inner.check(request, sampling)

    def generate(self, requests, sampling):
        assert OneAtATime.open == 1
        return self._inner.generate(requests, sampling)


def opened(model, bias, strength, chat, options, choice):
    """What `open_engine` is asked for, by transformers."""
    assert choice.name == "vllm"
    tokenizer = load_tokenizer(model)
    vector = None if bias is None else SafetyBias.from_pretrained(bias, tokenizer=tokenizer)
    inner = TransformersEngine(load_model(model, options), tokenizer, vector, strength, chat)
    return OneAtATime(inner), {}


@pytest.fixture
def both(tmp_path, monkeypatch):
    """Results by transformers and by vLLM's double."""
    monkeypatch.setattr(collect, "ROUNDS", 1)
    monkeypatch.setattr(collect, "DIAGNOSED", 4)
    monkeypatch.setattr(family, "open_engine", opened)
    file = study_file(tmp_path, RULES)
    text = file.read_text().replace(
        "grid: {iterations: [1, 2], seed: [0, 1]}", "grid: {iterations: [2], seed: [0]}"
    )
    fit = '"organism:fit", seed: 1, limit: {harmless: 24, lookalike: 24, harmful: 48}'
    file.write_text(text.replace("prompts:", f"prompts:\n  fit: [{{load: {fit}}}]", 1))
    found = []
    for name in ("transformers", "vllm"):
        chosen = tmp_path / f"{name}.yaml"
        chosen.write_text(file.read_text().replace("threads: 1", f"threads: 1, engine: {name}"))
        study(chosen, tmp_path / name)
        found.append(json.loads((tmp_path / name / "results.json").read_text()))
    return found


FOUND = "outcomes", "safety", "help"


def answers(results):
    keys = "name", "setting", "split", "attack"
    return {
        json.dumps([c.get(k) for k in keys]): [c.get(k) for k in FOUND] for c in results["cells"]
    }


def test_answers_are_those_of_transformers_and_other_rules_are_named(both):
    one, other = both
    served = {key: value for key, value in answers(one).items() if "dera" not in key}
    assert answers(other) == served
    assert {cell["name"] for cell in other["cells"]} == {
        "plain", "reference", "tsdi", "openers", "conditioned"
    }  # fmt: skip
    (dera,) = (rule for rule in other["rules"] if rule["name"] == "dera")
    assert "vLLM gives it no other model's logits" in json.dumps(dera)
    assert OneAtATime.open == 0
    assert OneAtATime.loads == 12  # a setting's test prompts follow by the same load


def test_arguments_of_the_engine_are_vllms_own(tmp_path):
    file = study_file(tmp_path)
    text = file.read_text()
    file.write_text(text.replace("threads: 1", "engine_args: {enforce_eager: true}"))
    with pytest.raises(FormatError, match="engine_args are for the engine vllm"):
        read_study(file)
