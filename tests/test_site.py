"""The site of the docs (`make docs`), as far as it can be checked without mkdocs."""

import re

import pytest
import yaml
from experiments import ROOT, site

import tsdi

CONFIG = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))


def _places(nav):
    for entry in nav:
        inner = next(iter(entry.values())) if isinstance(entry, dict) else entry
        if isinstance(inner, str):
            yield inner
        else:
            yield from _places(inner)


def test_every_page_stands_in_the_navigation_once():
    pages = [page.relative_to(ROOT).as_posix() for page in site.pages()]
    assert sorted(_places(CONFIG["nav"])) == sorted([*pages, site.LIBRARY])


def test_what_pages_show_comes_along():
    picture = ROOT / "experiments/organism/f5-front.png"
    assert picture in site.linked(ROOT / "docs/reproduction.md")
    for page in site.pages():
        for path in site.linked(page):
            assert path.is_relative_to(ROOT), page
            assert path.suffix != ".md" or path in site.pages(), page


def test_the_library_has_every_name():
    text = site.library()
    names = {name for name in tsdi.__all__ if name not in ("__version__", *tsdi._ROOMS)}
    assert set(re.findall(r"^::: [\w.]+\.(\w+)$", text, re.M)) >= names
    for room in tsdi._ROOMS:
        assert f"::: tsdi.{room}." in text


def test_nothing_is_fetched_when_a_page_is_read():
    assert CONFIG["theme"]["font"] is False
    assert "extra_javascript" not in CONFIG
    assert [css for css in CONFIG["extra_css"] if not (ROOT / css).exists()] == []


@pytest.mark.parametrize("page", site.pages(), ids=lambda page: page.relative_to(ROOT).as_posix())
def test_what_belongs_to_an_entry_of_a_list_is_set_in_by_four(page):
    """As Python's Markdown wants it: with two, the list would end there on the site."""
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)
    assert re.findall(r"\n\n {1,3}\S.*", text) == []
