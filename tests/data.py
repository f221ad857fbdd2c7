"""Public data sets in their original files, where this machine has them."""

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
DATA = Path(os.environ.get("TSDI_DATA", ROOT.parent / "shared" / "data"))


def real(path: str) -> Path:
    """A file of the data sets; skips the test where they are not at hand."""
    if not (DATA / path).exists():
        pytest.skip(f"{path} is not at hand; set TSDI_DATA")
    return DATA / path
