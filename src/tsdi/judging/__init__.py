"""Judges, which give each answer a verdict."""
