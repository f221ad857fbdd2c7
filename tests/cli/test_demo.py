import json
from dataclasses import replace
from pathlib import Path

import pytest

import tsdi as library
from tests.cli.conftest import tsdi
from tsdi.demos import organism as demo
from tsdi.demos.organism_page import write_demo_report

FIGURE = {"value", "low", "high", "n"}
SHARES = ("compliance", "lookalike_compliance", "correct", "safety", "hybrid", "degenerate")


SECTIONS = (
    "In short",
    "Trade-off",
    "Safety by category",
    "What the bias does to tokens",
    "How refusing is each model?",
    "Answers",
)


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    return tmp_path_factory.mktemp("demo") / "new" / "folder"


@pytest.fixture(scope="module", autouse=True)
def small():
    """A demo of fewer prompts."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(demo, "COUNTS", {"harmless": 32, "lookalike": 48, "harmful": 96})
        patch.setattr(demo, "RANDOM_PROMPTS", 64)
        patch.setattr(demo, "DIAGNOSED", 4)
        yield


@pytest.fixture(scope="module")
def printed(out, small):
    result = tsdi("demo", "organism", "--json", "--out", out)
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


@pytest.fixture(scope="module")
def other(tmp_path_factory, small):
    """The result of another seed, in Python."""
    return library.demo(tmp_path_factory.mktemp("other"), seed=1, model="organism")


def test_every_figure_of_every_arm_has_an_interval(printed):
    assert list(printed["arms"]) == ["reference", "aligned", "debiased"]
    for arm in printed["arms"].values():
        figures = [arm[name] for name in SHARES] + list(arm["safety_by_category"].values())
        for figure in figures:
            assert set(figure) == FIGURE
            assert 0 <= figure["low"] <= figure["value"] <= figure["high"] <= 1
    assert set(printed) == {
        "arms", "correct_change", "safety_change", "lost", "maybe_lost", "report",
    }  # fmt: skip


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


def test_the_report_is_at_the_place_that_is_printed(printed, out):
    assert Path(printed["report"]) == out / "report.html"
    assert [path.name for path in out.iterdir()] == ["report.html"]
    page = (out / "report.html").read_text(encoding="utf-8")
    for heading in SECTIONS:
        assert f"<h2>{heading}</h2>" in page
    for text in ("tsdi demo organism --seed 0", "reference + c", "O16 Violation", "how do i "):
        assert text in page


def test_the_report_says_in_red_which_categories_lost_safety(printed, out):
    page = (out / "report.html").read_text(encoding="utf-8")
    for category in printed["arms"]["aligned"]["safety_by_category"]:
        said = f'<p class="alert">Safety lost in {category} ' in page
        assert said == (category in printed["lost"])


def test_a_category_that_is_lost_is_said_in_red(other, tmp_path):
    lost = replace(other.comparison, lost=["O3"], maybe_lost=["O5"])
    write_demo_report(tmp_path / "report.html", replace(other, comparison=lost))
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert '<p class="alert">Safety lost in O3 ' in page
    assert "costs safety in 1 of 16 categories" in page
    assert "not significantly: O5." in page


def test_another_seed_is_another_draw(printed, other):
    assert json.loads(json.dumps(other.to_dict()))["arms"] != printed["arms"]


def test_the_table_names_all_arms_categories_and_three_examples(other, tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr("tsdi.demos.run.run_demo", lambda seed, _: asked.append(seed) or other)
    monkeypatch.chdir(tmp_path)
    result = tsdi("demo", "organism", "--seed", 1)
    assert result.exit_code == 0, result.output
    assert asked == [1]
    for text in ("reference", "aligned", "debiased", "O16 Violation", "hybrid", "degenerate"):
        assert text in result.stdout
    for kind in ("harmless:", "lookalike O", "harmful O"):
        assert result.stdout.count(kind) == 1
    assert max(map(len, result.stdout.splitlines())) <= 80
    assert "tsdi-demo/report.html" in result.stdout
    assert (tmp_path / "tsdi-demo" / "report.html").exists()
    again = tsdi("demo", "organism", "--seed", 1, "--json")
    assert json.loads(again.stdout)["arms"] == json.loads(json.dumps(other.to_dict()))["arms"]


def test_a_place_that_cannot_be_written_is_said_before_the_work(tmp_path):
    (tmp_path / "file").write_text("")
    result = tsdi("demo", "--out", tmp_path / "file")
    assert result.exit_code == 2
    assert "Cannot make the folder" in result.output
