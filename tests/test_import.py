import subprocess
import sys

import pytest

MODULES = (
    "tsdi",
    "tsdi.cli.main",
    "tsdi.organism",
    "tsdi.suites.prompts",
    "tsdi.evaluation.metrics",
    "tsdi.stats.auc",  # which every command that reads a condition loads
    "tsdi.harness.inspect_registry",  # which every run of Inspect loads
)
HEAVY = {"torch", "transformers", "plotly", "scipy.stats", "scipy.optimize"}
IMPORTS = f"""
import sys
from importlib import import_module
for name in {MODULES}:
    import_module(name)
    assert sys.modules.keys().isdisjoint({HEAVY}), name
"""


def test_what_needs_no_model_imports_no_heavy_library():
    subprocess.run([sys.executable, "-c", IMPORTS], check=True)


HELP = """
import sys
from tsdi.cli.main import app
app(["--help"], standalone_mode=False)
names = [name for name in sys.modules if name.startswith("tsdi.cli.")]
heavy = sys.modules.keys() & {"torch", "transformers", "rich", "numpy", "pydantic"}
assert sorted(names) == ["tsdi.cli.frame", "tsdi.cli.main"] and not heavy, (names, heavy)
"""


def test_help_loads_no_command():
    subprocess.run([sys.executable, "-c", HELP], check=True)


def test_every_name_leads_somewhere():
    import tsdi

    assert [name for name in tsdi.__all__ if getattr(tsdi, name, None) is None] == []


def test_every_name_is_listed_for_completion():
    import tsdi

    assert {*tsdi.__all__} <= {*dir(tsdi)}


def test_an_unknown_name_is_an_attribute_error():
    import tsdi

    with pytest.raises(AttributeError, match="nothing"):
        _ = tsdi.nothing


MISTYPED = """
import sys
from tsdi.cli.main import app
try:
    app([*sys.argv[1:], "--out", sys.argv[2] + ".out"])
except SystemExit as left:
    assert left.code == 2
assert "torch" not in sys.modules
"""


@pytest.mark.parametrize("command", ["train", "study"])
def test_a_mistyped_file_is_refused_before_torch_is_loaded(command, tmp_path):
    file = tmp_path / "file.yaml"
    file.write_text("modle: x\n")
    ran = subprocess.run(
        [sys.executable, "-c", MISTYPED, command, str(file)],
        check=True,
        capture_output=True,
        text=True,
    )
    assert "modle: there is no such key" in ran.stderr
