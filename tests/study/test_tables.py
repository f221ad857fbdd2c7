"""Tables as CSV files, which people open in spreadsheets."""

import csv
import io
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tsdi.report.page import Table
from tsdi.stats.interval import Estimate, interval_text
from tsdi.study.sentences import change_text
from tsdi.study.tables import to_csv

FORMULAS = (
    '=HYPERLINK("x")',
    "+cmd|' /C calc'!A0",
    "-2+3+cmd",
    "@SUM(1)",
    "\t=1",
    "\r=1",
    "\n=1",
    " =1",
)


def cells(*row):
    (header, read) = csv.reader(io.StringIO(to_csv(Table(row, [row])).decode(), newline=""))
    assert header == read
    return read


@pytest.mark.parametrize("name", FORMULAS)
def test_a_name_is_no_formula(name):
    assert cells(name, "x") == ["'" + re.sub(r"\s", " ", name), "x"]


def test_numbers_stay_numbers():
    moved = change_text(Estimate(-0.031, -0.05, 0.01, 64))
    row = ["-", "-0.031", "+1.20", "-1,024", moved, interval_text(Estimate(0.9, 0.8, 1.0, 9))]
    assert cells(*row, "+0.12, -0.34") == [*row, "+0.12, -0.34"]
    assert moved == "-0.031 [-0.050, +0.010]"


@given(st.text(st.characters() | st.sampled_from("=+-@\t\r\n'1")))
def test_whatever_begins_a_cell(name):
    (cell, _) = cells(name, "x")
    assert not cell.lstrip().startswith(("=", "@"))
    assert not re.search(r"[\t\r\n]", cell)
