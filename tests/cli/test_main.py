"""The table of commands."""

import re
import subprocess
import sys

import pytest

from tests.cli.conftest import tsdi
from tsdi.cli.main import COMMANDS


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_in_the_table_has_its_help(command):
    result = tsdi(command, "--help")
    assert result.exit_code == 0, result.output
    assert f"Usage: root {command} " in result.stdout


@pytest.mark.parametrize("command", COMMANDS)
def test_no_panel_of_the_help_is_long(command):
    """Beginners find what they need first in "Options", the rest by topic."""
    panel, found = "", {}
    for line in tsdi(command, "--help").stdout.splitlines():
        if line.endswith(":") and not line.startswith(" "):
            panel = line
        found[panel] = found.get(panel, 0) + line.startswith("  --")
    assert max(found.values()) <= 14, found


def test_every_command_stands_in_one_line_of_80_columns():
    lines = tsdi("--help").stdout.splitlines()
    for name, entry in COMMANDS.items():
        (line,) = (line for line in lines if line.split()[:1] == [name])
        assert line.endswith(entry.summary)
        assert len(line) <= 80


def test_a_mistyped_command_is_told_what_is_near():
    result = tsdi("evaluat")
    assert result.exit_code == 2
    assert "Did you mean 'evaluate'?" in result.stderr


def test_no_text_of_a_user_is_taken_for_markup():
    assert "No such command '[red]x[/red]'." in tsdi("[red]x[/red]").stderr


MISTAKES = """
generate algned --prompt x                                                There is no such folder
estimate organism/aligned organism/refrence --out c                      There is no shipped model
estimate organism/aligned organism/reference                             Missing option '--out'
show nobias                                                              nobias holds no bias
generate organism/aligned --bias nobias --prompt x                       nobias holds no bias
serve organism/aligned --bias nobias                                     nobias holds no bias
condition organism/aligned --bias nobias --prompts everyday --out c      nobias holds no bias
playground organism/aligned --bias nobias                                nobias holds no bias
evaluate organism/aligned --prompts xtest --out r                        did you mean 'xstest'?
evaluate organism/aligned --prompts organism:tst --out r                 There are no prompts
evaluate organism/aligned --prompts no.jsonl --out r                     Cannot read no.jsonl
evaluate organism/aligned --prompts xstest --judge wildgard --out r      did you mean 'wildguard'?
compare norun nor                                                        There is no run folder
train no.yaml --out m                                                    Cannot read no.yaml
study no.yaml --out m                                                    Cannot read no.yaml
"""


def test_what_is_mistyped_is_said_before_torch_is_loaded(tmp_path):
    rows = [line.split("  ", 1) for line in MISTAKES.strip().splitlines()]
    code = (
        "import sys; from tsdi.cli.main import app\n"
        f"for words in {[row[0].split() for row in rows]}:\n"
        "    try: app(words)\n"
        "    except SystemExit as end: assert end.code == 2, words\n"
        "    assert 'torch' not in sys.modules, words"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    said = re.findall(r"^Error: .*", done.stderr, re.MULTILINE)
    for (_, expected), line in zip(rows, said, strict=True):
        assert expected.strip() in line
