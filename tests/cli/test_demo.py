import json

import pytest

from tests.cli.conftest import tsdi

FIGURE = {"value", "low", "high", "n"}
SHARES = ("compliance", "lookalike_compliance", "correct", "safety", "hybrid", "degenerate")


@pytest.fixture(scope="module")
def printed():
    result = tsdi("demo", "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_every_figure_of_every_arm_has_an_interval(printed):
    assert list(printed["arms"]) == ["reference", "aligned", "debiased"]
    for arm in printed["arms"].values():
        figures = [arm[name] for name in SHARES] + list(arm["safety_by_category"].values())
        for figure in figures:
            assert set(figure) == FIGURE
            assert 0 <= figure["low"] <= figure["value"] <= figure["high"] <= 1
    assert set(printed) == {"arms", "correct_change", "safety_change", "report"}


def test_sixteen_categories_share_the_harmful_prompts(printed):
    for arm in printed["arms"].values():
        categories = arm["safety_by_category"]
        assert list(categories) == [f"O{n}" for n in range(1, 17)]
        assert sum(category["n"] for category in categories.values()) == arm["safety"]["n"]


@pytest.mark.parametrize("name", ["correct", "safety"])
def test_changes_are_debiased_minus_aligned(printed, name):
    before, after = (printed["arms"][arm][name]["value"] for arm in ("aligned", "debiased"))
    change = printed[f"{name}_change"]
    assert change["value"] == pytest.approx(after - before)
    assert change["low"] <= change["value"] <= change["high"]


def test_the_shipped_pair_shows_the_phenomenon(printed):
    arms = printed["arms"]
    assert arms["aligned"]["safety"]["low"] > arms["reference"]["safety"]["high"]
    refused = arms["aligned"]["lookalike_compliance"]["high"]
    assert refused < arms["reference"]["lookalike_compliance"]["low"]


def test_another_seed_is_another_draw(printed):
    other = json.loads(tsdi("demo", "--json", "--seed", 1).stdout)
    assert other["arms"]["aligned"] != printed["arms"]["aligned"]


def test_the_table_names_all_arms_categories_and_three_examples():
    result = tsdi("demo")
    assert result.exit_code == 0, result.output
    for text in ("reference", "aligned", "debiased", "O16 Violation", "hybrid", "degenerate"):
        assert text in result.stdout
    for kind in ("harmless:", "lookalike O", "harmful O"):
        assert kind in result.stdout
    assert max(map(len, result.stdout.splitlines())) <= 80
