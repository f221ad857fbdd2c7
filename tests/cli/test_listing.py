"""``tsdi list`` as it stands in a terminal; judges: ``test_judges``."""

import json

import pytest

from tests.cli.conftest import tsdi
from tests.cli.test_bad_input import _refused
from tsdi.suites import suites


def _heads(shown):
    lines = [line for line in shown if line.startswith("┃")]
    return [cell.strip() for line in lines for cell in line.strip("┃").split("┃")]


JUDGES = ["judge", "sees", "needs", "name", "value", "judges that take it"]
SUITES = ["suite", "prompts", "cat.", "licence", "attack", "source"]


@pytest.mark.parametrize(
    ("what", "heads"), [([], JUDGES + SUITES), (["judges"], JUDGES), (["suites"], SUITES)]
)
def test_every_column_fits_a_terminal_of_80_characters(what, heads, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    shown = tsdi("list", *what).output.splitlines()
    assert _heads(shown) == heads
    assert max(map(len, shown)) <= 80


def test_all_of_it_is_one_object():
    shown = json.loads(tsdi("list", "--json").stdout)
    assert list(shown) == ["judges", "suites", "attacks"]
    assert [one["name"] for one in shown["suites"]] == [one.name for one in suites()]
    assert list(json.loads(tsdi("list", "suites", "--json").stdout)) == ["suites", "attacks"]


def test_a_suite_is_shown_with_its_categories():
    assert "contrast_discr" in tsdi("list", "xstest").stdout
    assert json.loads(tsdi("list", "xstest", "--json").stdout) == suites("xstest")[0].describe()
    _refused(tsdi("list", "xtest"), "did you mean 'xstest'")
