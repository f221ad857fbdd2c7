"""Studies: grids of models and decoding rules, their statistics, and their reports."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tsdi.study.run import report, study

__all__ = ["report", "study"]


def __getattr__(name: str) -> Any:
    # Parts of a study, such as its settings, need no torch.
    if name in __all__:
        return getattr(import_module("tsdi.study.run"), name)
    raise AttributeError(f"module 'tsdi.study' has no attribute {name!r}")
