"""The tutorial is run, block by block, and what it shows is what was printed."""

import contextlib
import io
import re
import shlex

import pytest
from experiments import DOCS
from typer.testing import CliRunner

from tsdi.cli.main import app

BLOCK = re.compile(r"^(?: {4}[^\n]+\n)+|^```(?:text|python)\n.*?^```", re.M | re.S)
NUMBER = re.compile(r"[-+]?\d*\.?\d+")
TOLERANCE = 0.02  # other processors round otherwise


def test_the_tutorial_runs_and_prints_what_it_shows(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    printed, compared = "", 0
    for block in BLOCK.findall((DOCS / "tutorial.md").read_text(encoding="utf-8")):
        kind, _, inside = block.removesuffix("```").partition("\n")
        if kind == "```text":
            check(inside, printed)
            compared += 1
        else:
            printed = python(inside) if kind == "```python" else commands(block)
    assert compared == 7


def commands(block):
    """What the lines of a block print on standard output."""
    printed = ""
    for line in block.strip().split("\n"):
        words = shlex.split(line)
        assert words.pop(0) == "tsdi"
        result = CliRunner().invoke(app, words, env={"COLUMNS": "80"})
        assert result.exit_code == 0, result.output
        printed += result.stdout
    return printed


def python(code):
    """What a block of Python prints."""
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        exec(compile(code, "tutorial.md", "exec"), {})
    return printed.getvalue()


def check(shown, printed):
    """Hold that the lines were printed in this order; an ellipsis stands for any lines."""
    left = [line.rstrip() for line in printed.splitlines()]
    skip = False
    for line in shown.splitlines():
        if line == "…":
            skip = True
            continue
        while skip and left and not same(line, left[0]):
            left.pop(0)
        assert left, f"not printed: {line}"
        assert same(line, left.pop(0)), line
        skip = False
    assert skip or not left


def same(shown, printed):
    """Whether two lines have the same words, and nearly the same numbers."""
    if NUMBER.sub("#", shown) != NUMBER.sub("#", printed):
        return False
    pairs = zip(NUMBER.findall(shown), NUMBER.findall(printed), strict=True)
    return all(abs(float(one) - float(other)) <= TOLERANCE for one, other in pairs)


def test_lines_are_compared_in_order():
    check("a .50\n…\nc\n", "a .51\nb\nc\n")
    for shown in ("a .55\n…\n", "a .50\nc\n…\n", "…\nc\na .50\n", "a .50\nb\n", "…\nd\n"):
        with pytest.raises(AssertionError):
            check(shown, "a .51\nb\nc\n")
