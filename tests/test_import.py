import subprocess
import sys

import pytest


@pytest.mark.parametrize("module", ["tsdi", "tsdi.organism", "tsdi.cli.main"])
def test_importing_loads_no_torch(module):
    code = f"import sys, {module}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_an_unknown_name_is_an_attribute_error():
    import tsdi

    with pytest.raises(AttributeError, match="nothing"):
        _ = tsdi.nothing
