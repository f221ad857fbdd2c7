"""What this repository found out about models; see README.md. `tsdi` imports nothing of it."""

from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parent
DOCS = ROOT / "docs"
MEASURED = ROOT / "benchmarks" / "results"
"""Results of benchmarks that pages and pictures are made from."""
