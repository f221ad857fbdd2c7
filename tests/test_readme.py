"""What the README shows is run."""

import json
import os
import re
from pathlib import Path

import pytest
from benchmarks import study_pages
from benchmarks.judge_tables import with_tables
from typer.testing import CliRunner

from tsdi import SafetyBias
from tsdi.cli.main import app
from tsdi.study.organism_report import read_seeds
from tsdi.study.organism_tables import markdown, markdown_tables
from tsdi.study.organisms import TEST_SEEDS, VALIDATION_SEEDS, summarise
from tsdi.study.real_text_results import read_results
from tsdi.study.real_text_tables import HEADER, tables

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_library_example_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    code = re.search(r"```python\n(.*?)```", README, re.DOTALL)[1]
    exec(compile(code, "README.md", "exec"), {})
    assert SafetyBias.from_pretrained(tmp_path / "my-bias").steps == 16
    assert capsys.readouterr().out.strip()


@pytest.mark.parametrize("line", re.findall(r"^    (tsdi .*)$", README, re.MULTILINE))
def test_the_commands_have_the_options_that_are_shown(line):
    command, *options = [line.split()[1], *re.findall(r"--[a-z-]+", line)]
    help_text = CliRunner().invoke(app, [command, "--help"]).stdout
    assert all(option in help_text for option in options)


def test_options_named_in_the_text_exist():
    named = set(re.findall(r"`(--[a-z-]+)", README))
    commands = ("estimate", "generate", "demo", "evaluate", "compare")
    helps = [CliRunner().invoke(app, [command, "--help"]).stdout for command in commands]
    assert named
    assert all(any(option in text for text in helps) for option in named)


def test_the_make_targets_exist():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in re.findall(r"^    make (\w+)", README, re.MULTILINE):
        assert f"\n{target}:" in makefile


def test_figures_in_the_text_are_those_of_the_committed_result():
    found = json.loads((ROOT / "benchmarks/results/demo.json").read_text())["raw"]
    arms = found["arms"]
    assert f"{found['diagnosis']['one_number']:.0%}".replace("%", " %") in README
    assert found["lost"] == []
    shares = [arms[name]["lookalike_compliance"]["value"] for name in ("aligned", "debiased")]
    before, after = (f"{share:.2f}".removeprefix("0") for share in shares)
    assert f"({before} → {after})" in README


@pytest.mark.parametrize(
    "page", [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("benchmarks/*.md")]
)
def test_paths_of_links_exist(page):
    for link in re.findall(r"\]\(([^)h#][^)#]*)", page.read_text(encoding="utf-8")):
        assert (page.parent / link).exists(), link


def test_ci_can_be_run():
    assert os.access(ROOT / ".ci/run", os.X_OK)


def test_tables_of_judges_are_those_of_the_committed_results():
    page = (ROOT / "docs" / "judges.md").read_text(encoding="utf-8")
    assert with_tables(page) == page
    assert page.count(": begin -->") == 4


def _figures(page):
    """The figures with intervals in a text."""
    return re.findall(r"[+-]?\d\.\d{2,3} \[[^\]]+\]", " ".join(page.split()))


def test_figures_of_the_real_text_models_are_in_their_generated_tables():
    made = markdown_tables(HEADER, tables(read_results(ROOT / "benchmarks/results/real-text")))
    assert (ROOT / "docs/results/real-text-tables.md").read_text(encoding="utf-8") == made
    figures = _figures((ROOT / "docs/results/real-text.md").read_text(encoding="utf-8"))
    assert len(figures) > 20
    assert [figure for figure in figures if figure not in made] == []


@pytest.mark.parametrize("study", sorted(study_pages.STUDIES.glob("*.json")), ids=lambda f: f.stem)
def test_tables_of_studies_are_those_of_the_committed_results(study):
    page = ROOT / "docs/results" / f"{study.stem}-study-tables.md"
    assert page.read_text(encoding="utf-8") == study_pages.tables_page(study)


@pytest.mark.parametrize("page", ["study.md", "safety-gate.md"])
def test_lists_in_the_docs_are_those_of_the_code(page):
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    assert text == {"study.md": study_pages.with_rules, "safety-gate.md": study_pages.with_attacks}[
        page
    ](text)


def test_figures_of_the_reproduction_page_are_in_the_tables_of_studies():
    made = "".join(page.read_text() for page in (ROOT / "docs/results").glob("*-study-tables.md"))
    page = (ROOT / "docs/reproduction.md").read_text(encoding="utf-8")
    section = README.partition("## Against its rivals")[2].partition("\n## ")[0]
    for text in (page, section):
        figures = _figures(text)
        assert len(figures) > 10
        assert [figure for figure in figures if figure not in made] == []


def test_figures_with_intervals_in_the_text_are_in_the_generated_tables():
    """Tables come from the committed results, and prose from the tables."""
    results = ROOT / "benchmarks" / "results" / "organisms"
    every = read_seeds(results, (*VALIDATION_SEEDS, *TEST_SEEDS))
    split = len(VALIDATION_SEEDS)
    made = markdown(summarise(every[:split], every[split:]))
    assert (ROOT / "docs/results/organism-tables.md").read_text(encoding="utf-8") == made
    before, _, after = README.partition("## Against its rivals")  # which has its own test
    pages = (
        before + after.partition("\n## ")[2],
        (ROOT / "docs/results/organisms.md").read_text(encoding="utf-8"),
    )
    for page in pages:
        figures = _figures(page)
        assert figures
        assert [figure for figure in figures if figure not in made] == []
