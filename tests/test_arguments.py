"""What functions are called with is checked at their door, in one line that says what is wanted."""

from functools import partial
from pathlib import Path

import pytest

import tsdi
from tests.fake_engine import FakeEngine
from tsdi.arguments import as_list, as_name
from tsdi.decoding.rule import check_strength
from tsdi.errors import ModelError, TsdiError, UsageError
from tsdi.export.forms import StaticForm
from tsdi.runs.generate import generate_responses
from tsdi.suites.load import load_prompts
from tsdi.suites.prompts import Prompt

NO_COUNT = [0, -1, True, 1.5, "2", None]
NOWHERE = Path("nowhere/model")


@pytest.mark.parametrize("value", NO_COUNT)
@pytest.mark.parametrize(
    ("options", "name"),
    [
        (tsdi.Sampling, "max_new_tokens"),
        (tsdi.Answering, "batch_size"),
        (tsdi.Loading, "batch_size"),
        (tsdi.Search, "trials"),
        (tsdi.Search, "batch_size"),
        (partial(StaticForm, "x"), "top"),
        *((tsdi.Estimation, n) for n in ("steps", "prompts", "prompt_tokens", "groups", "ngram")),
    ],
)
def test_counts_are_whole_numbers_from_1_on(options, name, value):
    if value is None and name == "max_new_tokens":
        return  # is what the model has room for
    with pytest.raises(
        UsageError, match=rf"{name} must be a whole number from 1 on, not {value!r}"
    ):
        options(**{name: value})


@pytest.mark.parametrize("value", [1.5, True, "1", None])
@pytest.mark.parametrize("options", [tsdi.Sampling, tsdi.Estimation, tsdi.Search])
def test_seeds_are_whole_numbers(options, value):
    with pytest.raises(UsageError, match=f"seed must be a whole number.*{value}"):
        options(seed=value)


@pytest.mark.parametrize("value", [True, "0.5", float("nan")])
def test_a_temperature_is_a_number(value):
    with pytest.raises(UsageError, match=r"temperature is .*greedy"):
        tsdi.Sampling(temperature=value)


@pytest.mark.parametrize("value", [10**400, -(10**400), True, "1"])
def test_a_strength_is_a_number(value):
    with pytest.raises(UsageError, match="The strength is"):
        check_strength(value)
    with pytest.raises(UsageError, match="The strength is"):
        tsdi.Answering(strength=value)


@pytest.mark.parametrize("name", ["steps", "tokens"])
def test_show_takes_counts(name):
    with pytest.raises(UsageError, match=f"{name} must be a whole number from 1 on, not -1"):
        tsdi.show("nowhere", **{name: -1})


@pytest.mark.parametrize("value", NO_COUNT)
def test_no_folder_is_left_by_numbers_that_are_none(tmp_path, value):
    prompt = Prompt("p", ({"role": "user", "content": "hi"},), "", "", "harmless")
    with pytest.raises(UsageError, match="batch_size"):
        generate_responses(
            FakeEngine(), [prompt], tmp_path / "run", tsdi.Sampling(), value, False, {}
        )
    with pytest.raises(UsageError, match="workers"):
        tsdi.Cluster("local", value)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "call",
    [
        lambda out: tsdi.estimate(NOWHERE, "organism/reference", out),
        lambda out: tsdi.estimate("organism/reference", NOWHERE, out),
        lambda out: tsdi.generate(NOWHERE, "organism:test", out),
        lambda out: tsdi.generate("organism/aligned", "organism:test", out, bias=NOWHERE),
        lambda out: tsdi.evaluate(NOWHERE, "organism:test", out),
        lambda out: tsdi.evaluate("organism/aligned", "organism:test", out, bias=NOWHERE),
        lambda out: tsdi.evaluate("organism/aligned", NOWHERE.with_suffix(".csv"), out),
        lambda out: tsdi.evaluate(NOWHERE),
        lambda out: tsdi.show(NOWHERE),
        lambda out: tsdi.load_model(NOWHERE),
        lambda out: tsdi.load_tokenizer(NOWHERE),
        lambda out: tsdi.export.export(NOWHERE, "organism/aligned", out, "transformers"),
        lambda out: tsdi.export.export("nowhere/model", NOWHERE, out, "transformers"),
        lambda out: tsdi.answer(NOWHERE, "hi"),
    ],
)
def test_a_path_is_taken_wherever_a_name_is(tmp_path, monkeypatch, call):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(TsdiError, match="nowhere/model"):
        call(tmp_path / "out")


def test_a_path_names_a_model_that_is_there(tmp_path):
    from tsdi.models.shipped import folder

    place = folder("aligned")
    assert tsdi.load_tokenizer(place).get_vocab() == tsdi.load_tokenizer(str(place)).get_vocab()
    with pytest.raises(ModelError, match="no model"):
        tsdi.load_model(tmp_path)


@pytest.mark.parametrize("value", [None, 3, ["hi"], "", b"x"])
def test_what_is_no_name_is_told(value):
    with pytest.raises(UsageError, match="prompts is"):
        as_name("prompts", value)
    with pytest.raises(UsageError, match="prompts is"):
        load_prompts(value, 0)


@pytest.mark.parametrize("value", ["tuned", b"x", None, 3])
def test_one_text_is_no_list(value):
    with pytest.raises(UsageError, match="Give a list"):
        as_list("only", value)


def test_lists_are_not_taken_apart(tmp_path):
    with pytest.raises(UsageError, match=r"labels is 'p/bom\.csv'"):
        tsdi.audit.audit("refusal-phrases", "p/bom.csv")
    with pytest.raises(UsageError, match="against is 'organism'"):
        tsdi.audit.audit("refusal-phrases", ["p/bom.csv"], against="organism")
    with pytest.raises(UsageError, match="only is 'tuned'"):
        tsdi.study.study("s.yaml", tmp_path / "out", only="tuned")
    with pytest.raises(UsageError, match="images is 'png'"):
        tsdi.study.report("results.json", tmp_path / "out", "png")


def test_pairs_are_pairs(tmp_path):
    for models in (["t0", "t1"], [("t0",)], [("t0", "half"), ("t1", 1)], [("t0", True), ("t1", 1)]):
        with pytest.raises(UsageError, match="weight"):
            tsdi.merge(models, tmp_path / "out")
    with pytest.raises(ModelError, match="t0"):  # a generator is gone through once
        tsdi.merge(((name, 1.0) for name in ("t0", "t1")), tmp_path / "out")
    with pytest.raises(UsageError, match="A pair of runs is"):
        tsdi.compare("plain", "debiased", [("plain",)])
    for judge in (None, "", 3):
        with pytest.raises(UsageError, match="The judge is"):
            tsdi.winrate("plain", "debiased", tmp_path / "wins", judge)
