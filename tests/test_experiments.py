"""Every table and picture of the docs is of the committed results."""

import json

import pytest
from experiments import DOCS, HERE, ROOT, pages

SCREENSHOTS = {"inspect.png", "report.png"}  # taken by hand


@pytest.fixture(scope="module")
def made():
    return pages.pages()


def test_pages_with_generated_parts_are_those_of_the_committed_results(made):
    stale = [page for page, text in made.items() if page.read_text(encoding="utf-8") != text]
    assert stale == []


def test_every_page_of_tables_is_generated(made):
    assert set(HERE.glob("*/tables.md")) <= made.keys()
    assert made[DOCS / "judges.md"].count(": begin -->") == 4


def test_no_picture_is_older_than_the_results_that_it_shows():
    """The manifest is written with the pictures: after new results they have to be drawn again."""
    assert json.loads(pages.MANIFEST.read_bytes()) == pages.manifest()


def test_every_picture_is_drawn_from_committed_results():
    pictures = [*DOCS.glob("*.png"), *DOCS.glob("*.svg"), *HERE.glob("*/*.png")]
    found = {one.relative_to(ROOT).as_posix() for one in pictures if one.name not in SCREENSHOTS}
    assert found == pages.manifest().keys()
