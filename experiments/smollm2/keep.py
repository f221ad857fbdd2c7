"""Keeps a study's results: `python -m experiments.smollm2.keep OUT/results.json`.

The committed copy has no answers to harmful requests.
"""

import argparse
import json
from pathlib import Path
from typing import Any

from experiments import HERE

from tsdi.files import read_object, write_bytes

FILE = HERE / "smollm2" / "results.json"
MODELS_AND_OUT = "--models models --out smollm2-study --workers 3"


def kept(results: dict[str, Any]) -> dict[str, Any]:
    """The results without answers to harmful requests, and without this machine's folders."""
    harmless = [one for one in results["examples"] if one["kind"] != "harmful"]
    return {**results, "command": command(results), "examples": harmless}


def command(results: dict[str, Any]) -> str:
    """The command that asks for the rules of these results, and no others of the file."""
    only = [one["name"] for one in results["rules"] if one["name"] not in ("plain", "tsdi")]
    chosen = " ".join(f"--only {name}" for name in only)
    return f"tsdi study experiments/smollm2/study.yaml {MODELS_AND_OUT} {chosen}"


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("results", type=Path)
    found = read_object(parser.parse_args().results, "Run the study again.")
    text = json.dumps(kept(found), allow_nan=False, separators=(",", ":"))
    write_bytes(FILE, text.replace('{"model"', '\n{"model"').encode() + b"\n")


if __name__ == "__main__":
    main()
