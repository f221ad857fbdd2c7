"""Evaluation: answers, verdicts and metrics with intervals, and choices based on them."""
