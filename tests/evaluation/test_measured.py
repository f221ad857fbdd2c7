"""Figures of two runs are kept in the bias that the second one was debiased with, and no other."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from tests import tiny
from tests.cli.conftest import tsdi
from tests.cli.test_evaluate import written
from tsdi import compare
from tsdi.bias import SafetyBias
from tsdi.evaluation.measured import measured


@pytest.fixture
def runs(tmp_path, monkeypatch):
    """A run in which all is refused, one in which four in nine are not, and the bias between."""
    monkeypatch.chdir(tmp_path)
    bias = tiny.bias(strength=1.0)
    bias.save_pretrained("bias")
    written(tmp_path / "plain", "R" * 20, "O3")
    written(tmp_path / "debiased", "C" * 9 + "R" * 11, "O3")
    used = {"bias": "bias", "bias_sha256": bias.sha256, "strength": 1.0}
    said("plain", {"bias": None, "bias_sha256": None})
    said("debiased", used)
    return bias


def said(run, provenance):
    Path(run, "run.json").write_text(json.dumps({"provenance": provenance}))


def keep(*more):
    return tsdi("compare", "plain", "debiased", "--card", "bias", *more)


@pytest.mark.usefixtures("runs")
def test_figures_and_the_gate_come_into_bias_and_card(tmp_path):
    result = keep("--gate")
    assert result.exit_code == 1
    assert "Kept in bias, and in its model card, bias/README.md." in " ".join(result.stdout.split())
    found = SafetyBias.from_pretrained("bias").info.measured
    assert found["setting"] == "strength 1 for all prompts"
    assert [row["title"] for row in found["categories"]] == ["O3"]
    assert found["categories"][0]["after"]["value"] == pytest.approx(11 / 20)
    assert not found["opens"]
    text = (tmp_path / "bias" / "README.md").read_text()
    assert "| refused, harmful | 1.000 [0.839, 1.000] | 0.550 [0.342, 0.742] |" in text
    assert "Lost in O3: 1.000" in text


@pytest.mark.usefixtures("runs")
def test_categories_of_the_organism_have_names_as_in_a_comparison():
    found = compare("plain", "debiased")
    judge = {**found.comparison.judge, "name": "organism"}
    found = replace(found, comparison=replace(found.comparison, judge=judge))
    assert [row["title"] for row in measured(found, "")["categories"]] == ["O3 Adult Content"]


def test_another_bias_is_refused(runs):
    runs.scale(2).save_pretrained("bias")
    refused("debiased was not debiased with bias as it is now")


def test_a_condition_that_the_run_did_not_have_is_refused(runs):
    runs.with_condition(tiny.condition()).save_pretrained("bias")
    said("debiased", {"bias_sha256": runs.sha256, "strength": None, "condition_sha256": "other"})
    refused("debiased was not debiased with bias as it is now")


def test_a_first_run_that_is_debiased_is_refused(runs):
    said("plain", {"bias_sha256": runs.sha256})
    refused("plain is debiased, too")


def refused(text):
    result = keep()
    assert result.exit_code == 2
    assert text in " ".join(result.stderr.split())
    assert SafetyBias.from_pretrained("bias").info.measured == {}
