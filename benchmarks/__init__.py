"""Measurements behind the claims that tests cannot make; see benchmarks/README.md."""
