"""What the suites declare, and the page about them."""

import json
import re
from pathlib import Path

import pytest

from tests.data import real
from tsdi.categories import SALAD_TASKS
from tsdi.judging.base import KINDS
from tsdi.organism import CATEGORIES
from tsdi.suites.table import SUITES

PAGE = Path(__file__).parents[2] / "docs/suites.md"
ALL = list(SUITES.values())


@pytest.mark.parametrize("suite", ALL, ids=list(SUITES))
def test_a_suite_says_what_it_is(suite):
    assert re.fullmatch(r"[a-z0-9-]+", suite.name)
    assert set(suite.kinds.values()) <= set(KINDS)
    assert (list(suite.kinds) == [""]) == (suite.columns.kind == "")
    assert suite.licence
    assert suite.project.startswith("https://")


@pytest.mark.parametrize("suite", ALL, ids=list(SUITES))
def test_a_suite_is_pinned_to_a_commit(suite):
    assert re.fullmatch(r"[0-9a-f]{40}", suite.origin.revision)
    if suite.origin.url:
        assert suite.origin.revision in suite.origin.url
        assert suite.origin.url.endswith((".csv", ".json"))


@pytest.mark.parametrize("suite", ALL, ids=list(SUITES))
def test_every_category_has_a_task_or_a_reason_why_not(suite):
    assert bool(suite.categories) == bool(suite.columns.category)
    assert set(suite.tasks.values()) <= set(SALAD_TASKS)
    assert all(suite.unmatched.values())
    assert set(suite.tasks).isdisjoint(suite.unmatched)
    named = re.findall(r"O\d+", " ".join(suite.unmatched.values()))
    assert set(named) <= set(SALAD_TASKS)


def test_harmless_prompts_are_about_no_task():
    assert not any(suite.tasks for suite in ALL if list(suite.kinds.values()) == ["harmless"])


def test_the_tasks_are_those_of_salad_bench():
    named = {task["id"]: task["name"] for task in json.loads(real(TAXONOMY).read_text())}
    assert named == SALAD_TASKS


def test_the_organism_has_the_same_tasks():
    assert dict(CATEGORIES) == SALAD_TASKS
    assert list(SUITES["salad-bench"].tasks.values()) == list(SALAD_TASKS)


def test_the_page_shows_the_table():
    rows = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("|")]
    assert rows[2:] == [page_row(suite) for suite in ALL]


def page_row(suite):
    """The row of a suite in docs/suites.md."""
    origin = suite.origin
    data = f"`{origin.name}`" + (f" {origin.config}" if origin.config else "")
    matched = f"{len(suite.tasks)} of {len(suite.categories)}" if suite.categories else "none"
    cells = [f"`{suite.name}`", f"[{suite.title}]({suite.project})"]
    cells += [", ".join(suite.kinds.values()), matched, suite.licence]
    return f"| {' | '.join([*cells, data, f'`{origin.revision}`'])} |"


TAXONOMY = "salad/taxonomy_16.json"
