"""Suites: prompts with a category each, and what a good answer to them is."""
