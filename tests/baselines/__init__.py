"""Tests of tsdi.baselines."""
