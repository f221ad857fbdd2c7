"""A bias with a condition, by name: what answers, what is recorded, and what refuses it."""

import json
import logging

import pytest
import torch

import tsdi
from tests import tiny
from tsdi.engines.base import Request, Sampling
from tsdi.engines.open import open_engine
from tsdi.engines.transformers import TransformersEngine
from tsdi.engines.vllm_settings import server_flags
from tsdi.errors import UsageError

REQUESTS = [Request.from_text(text) for text in ("bread", "the old mill and the fields")]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("condition")
    tiny.model().save_pretrained(folder / "model")
    tiny.tokenizer().save_pretrained(folder / "model")
    made = tiny.bias(strength=0.5, error=torch.zeros(3, tiny.VOCAB))
    made.with_condition(tiny.condition()).save_pretrained(folder / "bias")
    return folder


def opened(folder, strength=None):
    return open_engine(str(folder / "model"), str(folder / "bias"), strength)


def answers(engine):
    return [one.token_ids for one in engine.generate(REQUESTS, Sampling(max_new_tokens=6))]


def test_without_a_strength_each_prompt_has_its_own(folder, caplog):
    with caplog.at_level(logging.INFO):
        engine, used = opened(folder)
    assert "Strength by prompt, -0.5 where it is harmful to 1.5 where it is not" in caplog.text
    assert (used["strength"], used["condition_sha256"]) == (None, tiny.condition().sha256)
    bias = tiny.bias(error=torch.zeros(3, tiny.VOCAB)).with_condition(tiny.condition())
    expected = TransformersEngine(tiny.model(), tiny.tokenizer(), bias)
    assert answers(engine) == answers(expected)


def test_a_strength_that_is_named_is_that_of_all_prompts(folder):
    engine, used = opened(folder, 1.0)
    assert used["strength"] == 1.0
    assert "condition_sha256" not in used
    expected = TransformersEngine(tiny.model(), tiny.tokenizer(), tiny.bias(), 1.0)
    assert answers(engine) == answers(expected)


def test_an_answer_says_which_strength_the_condition_set(folder):
    engine, _ = opened(folder)
    condition = engine._bias.condition
    named = [*REQUESTS, Request(REQUESTS[0].messages, 0.0)]
    plain = TransformersEngine(tiny.model(), tiny.tokenizer())
    logits = plain.generate(REQUESTS, Sampling(max_new_tokens=1, keep_logits=True))
    expected = [float(condition.strength(one.logits[:1])) for one in logits]
    found = [one.strength for one in engine.generate(named, Sampling(max_new_tokens=3))]
    assert found[:2] == pytest.approx(expected, abs=1e-4)
    assert expected[0] != pytest.approx(expected[1])
    assert found[2] is None
    streamed = engine.stream(
        engine.encode(REQUESTS[1]), Sampling(max_new_tokens=3), lambda _: False
    )
    assert streamed.strength == pytest.approx(expected[1], abs=1e-4)


def test_nobody_says_a_strength_that_no_condition_set(folder):
    engine, _ = opened(folder, 1.0)
    assert [one.strength for one in engine.generate(REQUESTS, Sampling(3))] == [None, None]


def test_answers_on_disk_keep_the_strength(folder, tmp_path):
    asked = tmp_path / "asked.txt"
    asked.write_text("bread\nthe old mill and the fields\n")
    names = str(folder / "model"), str(asked), tmp_path / "run"
    answering = tsdi.Answering(sampling=Sampling(max_new_tokens=3))
    tsdi.generate(*names, bias=str(folder / "bias"), answering=answering)
    kept = (tmp_path / "run" / "responses.jsonl").read_text()
    rows = [json.loads(line) for line in kept.splitlines()]
    engine, _ = opened(folder)
    expected = [one.strength for one in engine.generate(REQUESTS, Sampling(3))]
    assert [row["strength"] for row in rows] == pytest.approx(expected, abs=1e-4)


def test_a_condition_has_a_hash_of_all_that_decides(folder):
    one = tiny.condition()
    for changes in ({"low": 0.0}, {"intercept": 0.2}, {"width": 2.0}, {"weights": -one.weights}):
        assert tiny.condition(**changes).sha256 != one.sha256
    assert tiny.condition(evidence={"verdict": "x"}).sha256 == one.sha256


def test_servers_of_vllm_are_told_no_strength():
    flags = " ".join(server_flags("bias", None, {}))
    assert '{"tsdi": {"bias": "bias"}}' in flags


def test_static_forms_and_lm_eval_want_a_strength(folder, tmp_path):
    model, bias = folder / "model", folder / "bias"
    with pytest.raises(UsageError, match=r"depends on the prompt .* --strength 1"):
        tsdi.export.export(bias, model, tmp_path / "out", to="transformers")
    tsdi.export.export(bias, model, tmp_path / "out", to="transformers", strength=1.0)
