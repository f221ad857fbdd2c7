"""Suites: prompts with categories, and whether a good answer complies or refuses."""

from tsdi.suites.load import suites

__all__ = ["suites"]
