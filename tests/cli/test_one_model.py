"""`tsdi estimate MODEL`: without a reference, on the shipped organism."""

import json

import pytest

from tests.cli.conftest import estimate, tsdi
from tsdi import SafetyBias, organism

SMALL = ("--pool", "tokenizer", "--prompt-tokens", 8, "--n", 32, "--steps", 2)


@pytest.fixture(scope="module")
def labelled(tmp_path_factory):
    rows = [
        {"prompt": item.prompt, "kind": kind, "category": item.category}
        for kind, number in (("harmless", 20), ("lookalike", 24), ("harmful", 32))
        for item in organism.items("validation", kind, number, 0)
    ]
    file = tmp_path_factory.mktemp("labelled") / "labelled.jsonl"
    file.write_text("\n".join(map(json.dumps, rows)))
    return file


def test_something_stands_in_for_it_and_everything_says_so(labelled, tmp_path):
    result = tsdi("estimate", "organism/aligned", "--labelled", labelled, *SMALL,
                  "--out", tmp_path / "bias")  # fmt: skip
    assert result.exit_code == 0, result.output
    info = SafetyBias.from_pretrained(tmp_path / "bias").info
    stood = info.diagnosis["stand_in"]
    assert stood["tried"].keys() == {"openers", "self-contrast", "partly-ablated"}
    assert info.stand_in == stood["chosen"]
    assert info.diagnosis["case"] is not None
    shown = " ".join(result.stdout.split())
    assert "In place of a reference stands the model" in shown
    assert f"{info.stand_in} (chosen): helpful" in shown
    card = (tmp_path / "bias" / "README.md").read_text()
    said = f"**Estimated without a reference** (`{info.stand_in}`)."
    assert f"{said} {info.diagnosis['verdict']}" in card
    half = SafetyBias.from_pretrained(tmp_path / "bias").scale(0.5)
    card = str(half.generate_model_card())
    assert f"{said} In place of one stands the model {info.reference}." in card
    assert [one.name for one in (tmp_path / "bias").glob("partial*")] == []


def test_a_killed_run_goes_on_to_the_same_end(labelled, tmp_path, monkeypatch):
    command = ("estimate", "organism/aligned", "--labelled", labelled, *SMALL, "--out")
    assert tsdi(*command, tmp_path / "whole").exit_code == 0

    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as broken:
        broken.setattr("tsdi.runs.one_model.calibrate", killed)
        assert tsdi(*command, tmp_path / "killed").exit_code
    assert len(list((tmp_path / "killed").glob("partial-*"))) == 2
    assert tsdi(*command, tmp_path / "killed").exit_code == 2  # which would lose them
    result = tsdi(*command, tmp_path / "killed", "--resume")
    assert result.exit_code == 0, result.output
    one, other = (SafetyBias.from_pretrained(tmp_path / name) for name in ("whole", "killed"))
    assert one.sha256 == other.sha256
    assert one.info.diagnosis == other.info.diagnosis


def test_prompts_that_leave_no_room_for_an_answer_are_refused_at_the_door(labelled, tmp_path):
    long = {"prompt": "paint a fruit " * 80, "kind": "harmless"}
    file = tmp_path / "long.jsonl"
    file.write_text(labelled.read_text() + "\n" + json.dumps(long))
    result = tsdi("estimate", "organism/aligned", "--labelled", file, *SMALL,
                  "--out", tmp_path / "bias")  # fmt: skip
    assert result.exit_code == 2
    assert "does not fit the model's context" in " ".join(result.stderr.split())
    assert not (tmp_path / "bias").exists()


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (("--order", 1), "first order needs a reference"),
        (("--no-diagnosis",), "the diagnosis chooses what stands in"),
        (("--prompts", "xstest"), "give prompts of all kinds: --labelled"),
        (("--reference-format", "own"), "need a reference"),
        (("--end-of-thinking", "</think>"), "need a reference"),
    ],
)
def test_what_takes_a_reference_is_refused(labelled, tmp_path, more, said):
    result = tsdi("estimate", "organism/aligned", "--labelled", labelled, *SMALL,
                  "--out", tmp_path / "bias", *more)  # fmt: skip
    assert result.exit_code == 2
    assert said in " ".join(result.stderr.split())
    assert not (tmp_path / "bias").exists()


def test_labels_are_needed_of_both_kinds(tmp_path):
    (tmp_path / "few.jsonl").write_text('{"prompt": "paint a fruit", "kind": "harmless"}')
    result = tsdi("estimate", "organism/aligned", "--labelled", tmp_path / "few.jsonl",
                  *SMALL, "--out", tmp_path / "bias")  # fmt: skip
    assert result.exit_code == 2
    assert "0 harmful" in " ".join(result.stderr.split())


def test_with_a_reference_nothing_stands_in(models, tmp_path, labelled):
    result = tsdi(*estimate(models, tmp_path / "bias", "--labelled", labelled))
    assert result.exit_code == 2
    assert "first order, or without a reference" in " ".join(result.stderr.split())
