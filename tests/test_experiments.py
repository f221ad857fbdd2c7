"""Every table, picture and figure of the docs is of the committed results."""

import json
import re

import pytest
from experiments import DOCS, HERE, ROOT, pages

SCREENSHOTS = {"inspect.png"}  # taken by hand


@pytest.fixture(scope="module")
def made():
    return pages.pages()


def test_pages_with_generated_parts_are_those_of_the_committed_results(made):
    stale = [page for page, text in made.items() if page.read_text(encoding="utf-8") != text]
    assert stale == []


def test_every_page_of_tables_is_generated(made):
    assert set(HERE.glob("*/tables.md")) <= made.keys()
    assert made[HERE / "judges/README.md"].count(": begin -->") == 3


def test_no_picture_is_older_than_the_results_that_it_shows():
    """The manifest is written with the pictures: after new results they have to be drawn again."""
    assert json.loads(pages.MANIFEST.read_bytes()) == pages.manifest()


def test_every_picture_is_drawn_from_committed_results():
    pictures = [*DOCS.glob("*.png"), *DOCS.glob("*.svg"), *HERE.glob("*/*.png")]
    found = {one.relative_to(ROOT).as_posix() for one in pictures if one.name not in SCREENSHOTS}
    assert found == pages.manifest().keys()


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


def _figures(page):
    """The figures with intervals in a text."""
    return re.findall(r"[+-]?\d\.\d{2,3} \[[^\]]+\]", " ".join(page.split()))


@pytest.mark.parametrize(
    ("page", "names", "fewest"),
    [
        ("docs/reproduction.md", ("organism", "ablations", "cleansing", "real-text"), 10),
        ("experiments/organism-dose/README.md", ("organism-dose",), 10),
    ],
)
def test_figures_with_intervals_in_the_text_are_in_the_generated_tables(page, names, fewest):
    """Tables come from the committed results, and prose from the tables."""
    figures = _figures((ROOT / page).read_text(encoding="utf-8"))
    assert len(figures) > fewest
    made = "".join((ROOT / "experiments" / name / "tables.md").read_text() for name in names)
    assert [figure for figure in figures if figure not in made] == []
