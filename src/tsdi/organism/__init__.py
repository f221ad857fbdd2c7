"""A model organism: a small world with a ground truth, and the models trained in it."""

from tsdi.organism.lexicon import CATEGORIES
from tsdi.organism.world import KINDS, SPLITS, Item, items, words

__all__ = ["CATEGORIES", "KINDS", "SPLITS", "Item", "items", "words"]
