"""Scripts that no other test runs can be imported and say how they are called."""

import importlib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SCRIPTS = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts): path.read_text(encoding="utf-8")
    for folder in ("benchmarks", "experiments")
    for path in sorted((ROOT / folder).rglob("*.py"))
}


@pytest.mark.parametrize("name", SCRIPTS)
def test_every_script_can_be_imported(name):
    """What it takes from tsdi and from the tests' helpers is still there."""
    importlib.import_module(name)


@pytest.mark.parametrize("name", [name for name, text in SCRIPTS.items() if "parse_args(" in text])
def test_every_command_line_shows_its_help(name, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", [name, "--help"])
    with pytest.raises(SystemExit, match=r"^0$"):
        importlib.import_module(name).main()
    assert capsys.readouterr().out.startswith("usage: ")
