"""Judges: what an answer does."""
