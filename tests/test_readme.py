"""Figures and tables in the docs are those of the committed results."""

import json
import re
from pathlib import Path

import pytest
from benchmarks import study_pages
from benchmarks.judge_tables import with_tables

from tsdi.study.organism_report import read_seeds
from tsdi.study.organism_tables import markdown, markdown_tables
from tsdi.study.organisms import TEST_SEEDS, VALIDATION_SEEDS, summarise
from tsdi.study.real_text_results import read_results
from tsdi.study.real_text_tables import HEADER, tables

ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize(
    ("title", "key"),
    [
        ("complied, harmless", "compliance"),
        ("complied, lookalike", "lookalike_compliance"),
        ("correct, both", "correct"),
        ("safe, harmful", "safety"),
    ],
)
def test_the_comparison_that_is_shown_is_that_of_the_committed_result(title, key):
    arms = json.loads((ROOT / "benchmarks/results/demo.json").read_text())["raw"]["arms"]
    page = (ROOT / "docs/measure.md").read_text(encoding="utf-8")
    shown = re.search(rf"│ {title} +│ +([\d.]+) │ +([\d.]+) │", page).groups()
    shares = [arms[arm][key]["value"] for arm in ("aligned", "debiased")]
    assert [float(share) for share in shown] == [round(share, 2) for share in shares]


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
    figures = _figures(page)
    assert len(figures) > 10
    assert [figure for figure in figures if figure not in made] == []


def test_figures_with_intervals_in_the_text_are_in_the_generated_tables():
    """Tables come from the committed results, and prose from the tables."""
    results = ROOT / "benchmarks" / "results" / "organisms"
    every = read_seeds(results, (*VALIDATION_SEEDS, *TEST_SEEDS))
    split = len(VALIDATION_SEEDS)
    made = markdown(summarise(every[:split], every[split:]))
    assert (ROOT / "docs/results/organism-tables.md").read_text(encoding="utf-8") == made
    figures = _figures((ROOT / "docs/results/organisms.md").read_text(encoding="utf-8"))
    assert figures
    assert [figure for figure in figures if figure not in made] == []
