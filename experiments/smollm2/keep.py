"""Keeps a study's results: `python -m experiments.smollm2.keep OUT/results.json`.

The committed copy has no answers to harmful requests.
"""

import argparse
import json
from pathlib import Path

from experiments import HERE

from tsdi.files import read_object, write_bytes

FILE = HERE / "smollm2" / "results.json"
COMMAND = (
    "tsdi study experiments/smollm2/study.yaml --models models --out smollm2-study --workers 3"
)


def kept(results: dict[str, object]) -> dict[str, object]:
    """The results without answers to harmful requests, and without this machine's folders."""
    examples = results["examples"]
    assert isinstance(examples, list)
    harmless = [one for one in examples if one["kind"] != "harmful"]
    return {**results, "command": COMMAND, "examples": harmless}


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("results", type=Path)
    found = read_object(parser.parse_args().results, "Run the study again.")
    text = json.dumps(kept(found), allow_nan=False, separators=(",", ":"))
    write_bytes(FILE, text.replace('{"model"', '\n{"model"').encode() + b"\n")


if __name__ == "__main__":
    main()
