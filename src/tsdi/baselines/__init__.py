"""Baselines that the study compares with our rule, each behind an engine's interface."""
