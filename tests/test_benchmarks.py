"""Scripts that no other test runs can be imported; the page of claims is that of the results."""

import importlib
from pathlib import Path

import pytest
from benchmarks import run

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


def test_the_claims_on_the_page_are_those_of_the_committed_results():
    page = run.README.read_text(encoding="utf-8")
    made = run.with_results(page, run.section(run.read_results()))
    assert page == made, "python -m benchmarks.run --only-table"


def test_every_committed_result_is_on_the_page():
    assert {path.stem for path in run.RESULTS.glob("*.json")} <= {*run.NAMES, *run.BY_HAND}
