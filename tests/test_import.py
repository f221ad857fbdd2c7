import subprocess
import sys

import pytest

HEAVY = {"torch", "transformers"}


@pytest.mark.parametrize("module", ["tsdi", "tsdi.organism", "tsdi.cli.main"])
def test_importing_loads_neither_torch_nor_transformers(module):
    code = f"import sys, {module}; sys.exit(not {{*sys.modules}}.isdisjoint({HEAVY}))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


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
