"""The table of commands."""

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


@pytest.mark.parametrize(
    "words", [["generate", "algned", "--prompt", "x"], ["estimate", "a", "b", "--out", "c"]]
)
def test_a_model_that_is_not_there_is_said_before_torch_is_loaded(words):
    code = (
        "import sys; from tsdi.cli.main import app\n"
        f"try: app({words})\n"
        "except SystemExit as end: sys.exit(9 if 'torch' in sys.modules else end.code)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 2, done.stderr
    assert "There is no such folder: a" in done.stderr
