"""A model organism: a small world with a ground truth, and the models trained in it."""

from pathlib import Path

from tsdi.errors import UsageError
from tsdi.organism.lexicon import CATEGORIES
from tsdi.organism.world import KINDS, SPLITS, Item, items, judge, words

__all__ = ["CATEGORIES", "KINDS", "SPLITS", "Item", "folder", "items", "judge", "words"]

_MODELS = Path(__file__).parent / "models"
_SHIPPED = ("reference", "aligned", "clean")


def folder(name: str) -> Path:
    """Return the folder of a shipped model, for `from_pretrained`.

    Args:
        name: "reference" (before the safety step), "aligned" (after it, with annotators who
            prefer refusals on harmless requests), or "clean" (after it, without them).

    Raises:
        UsageError: For any other name.
    """
    if name not in _SHIPPED:
        known = ", ".join(_SHIPPED)
        raise UsageError(f"There is no shipped model {name!r}.", f"Use one of {known}.")
    return _MODELS / name
