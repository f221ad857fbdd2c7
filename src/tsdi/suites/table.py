"""The suites that `suites.toml` describes."""

import tomllib
from importlib.resources import files
from typing import Any

from tsdi.suites.suite import Columns, Origin, Suite

_DATA = tomllib.loads(files("tsdi.suites").joinpath("suites.toml").read_text(encoding="utf-8"))
_OF_CATEGORIES = ("names", "tasks", "unmatched")


def _suite(
    name: str, *, origin: Any, columns: Any, where: Any = None, like: str = "", **fields: Any
) -> Suite:
    """A suite of the table; its categories are those of the suite that it is like, if any."""
    shared = {key: _DATA[like][key] for key in _OF_CATEGORIES if like and key in _DATA[like]}
    return Suite(
        name=name,
        origin=Origin(**origin),
        columns=Columns(**columns),
        where=where and tuple(where),
        **fields,
        **shared,
    )


SUITES = {name: _suite(name, **fields) for name, fields in _DATA.items()}
"""Every suite by its name."""
