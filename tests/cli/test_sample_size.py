import json

import pytest

import tsdi as library
from tests.cli.conftest import tsdi
from tests.cli.test_bad_input import _refused
from tsdi.stats.sample_size import prompts_for_change


def test_it_counts_prompts_overall_and_by_category():
    found = json.loads(tsdi("sample-size", 10, "--categories", 4, "--json").stdout)
    assert [row["against"] for row in found["change"]] == [0, 0.01, 0.02, 0.05]
    assert found == library.sample_size(0.1, categories=4).to_dict()
    assert found["change"][1]["overall"] == prompts_for_change(0.1, 0.01)
    assert found["change"][1]["category"] == prompts_for_change(0.1, 0.01, 0.05 / 4)


def test_the_table_fits_a_terminal():
    result = tsdi("sample-size", 10)
    assert result.exit_code == 0, result.output
    assert "all 16" in result.stdout
    assert max(map(len, result.stdout.splitlines())) <= 80


def test_what_nobody_can_see_is_said_at_once():
    _refused(tsdi("sample-size", "0.01"), "0.01 points", "more than 100000 prompts")


@pytest.mark.parametrize("points", ["0", "101", "nan"])
def test_a_change_that_is_none_is_one_line(points):
    _refused(tsdi("sample-size", points), "points")
