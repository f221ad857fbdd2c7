"""Intervals, tests and sample sizes; no models, no files."""
