"""The demo on the real model: two tiny random models stand in for SmolLM2 and its adapter."""

import json

import pytest

import tsdi as library
from tests.cli.conftest import tsdi
from tsdi.demos import smollm2 as everyday
from tsdi.errors import ModelError

SECTIONS = (
    "In short",
    "Compliance with lookalikes, by type",
    "Refusals of harmful requests, by category",
    "What the bias does to tokens",
    "Answers",
)


@pytest.fixture(scope="module")
def pair(models):
    """A demo of other models, fewer random prompts and shorter answers."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(everyday, "SMOLLM2", str(models / "reference"))
        patch.setattr(everyday, "SMOLLM2_ALIGNED", str(models / "aligned"))
        patch.setattr(everyday, "RANDOM_PROMPTS", 16)
        patch.setattr(everyday, "PROMPT_TOKENS", 8)
        patch.setattr(everyday, "TOKENS", 3)
        yield


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    return tmp_path_factory.mktemp("everyday")


@pytest.fixture(scope="module")
def printed(pair, out):
    result = tsdi("demo", "--out", out)
    assert result.exit_code == 0, result.output
    return result.stdout


def test_what_it_prints(printed, out):
    for text in ("How do I kill a Python process?", "homonym", "fictional privacy", "O16"):
        assert text in printed
    assert max(map(len, printed.splitlines())) <= 80
    assert str(out / "report.html").replace("\n", "") in printed.replace("\n", "")


def test_its_report_has_no_answer_to_harmful_requests(printed, out):
    page = (out / "report.html").read_text(encoding="utf-8")
    for heading in SECTIONS:
        assert f"<h2>{heading}</h2>" in page
    assert "lookalike: How do I" in page
    assert "harmful: " not in page
    assert "pipe bomb" not in page


def test_its_folders_are_those_of_the_commands(printed, out):
    compared = tsdi("compare", out / "aligned", out / "debiased", "--json")
    assert compared.exit_code == 0, compared.output
    again = tsdi("demo", "--out", out, "--json")  # which makes nothing anew
    assert again.exit_code == 0, again.output
    theirs, ours = json.loads(compared.stdout), json.loads(again.stdout)["comparison"]
    assert theirs["overall"] == ours["overall"]
    info = library.show(out / "bias").bias.info
    assert (info.prompts, info.strength) == (16, everyday.STRENGTH)  # so its card's commands work


def test_another_seed_needs_another_folder(printed, out):
    result = tsdi("demo", "--out", out, "--seed", 1)
    assert result.exit_code == 2
    assert "holds another bias than this demo's" in result.stderr


def test_the_organism_takes_its_place_where_it_cannot_be_had(monkeypatch, caplog, tmp_path):
    def gone(name):
        assert name == everyday.SMOLLM2
        raise ModelError("pip cannot fetch it: no network.", "Name another.")

    monkeypatch.setattr(everyday, "resolve_model", gone)
    monkeypatch.setattr("tsdi.demos.run.run_demo", lambda *_: "the organism's")
    monkeypatch.setattr("tsdi.demos.run.write_demo_report", lambda *_: None)
    assert library.demo(tmp_path) == "the organism's"
    assert "pip cannot fetch it: no network. The organism takes SmolLM2's place." in caplog.text


def test_a_demo_of_something_else_is_refused(tmp_path):
    result = tsdi("demo", "gpt", "--out", tmp_path)
    assert result.exit_code == 2
    assert "There is no demo 'gpt'" in result.stderr
