"""Suites: prompts with a category each, and what a good answer to them is."""

from tsdi.suites.load import suites

__all__ = ["suites"]
