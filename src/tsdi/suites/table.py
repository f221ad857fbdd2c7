"""The suites that `suites.toml` describes."""

import tomllib
from importlib.resources import files
from typing import Any

from tsdi.suites.suite import Columns, Origin, Suite


def _suite(name: str, *, origin: Any, columns: Any, where: Any = None, **fields: Any) -> Suite:
    return Suite(
        name=name,
        origin=Origin(**origin),
        columns=Columns(**columns),
        where=where and tuple(where),
        **fields,
    )


_DATA = files("tsdi.suites").joinpath("suites.toml").read_text(encoding="utf-8")
SUITES = {name: _suite(name, **fields) for name, fields in tomllib.loads(_DATA).items()}
"""Every suite by its name."""
