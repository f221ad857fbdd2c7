"""Keeps a study's results: `python -m experiments.smollm2.keep smollm2-study/results.json`.

The committed copy, in the folder of the study's file, has no answers to harmful requests.
"""

import argparse
import json
from pathlib import Path
from typing import Any

from experiments import HERE

from tsdi.files import read_object, write_bytes
from tsdi.study.config import read_study

MAIN = "smollm2"


def kept(results: dict[str, Any], study: str) -> dict[str, Any]:
    """The results without answers to harmful requests, and without this machine's folders."""
    harmless = [one for one in results["examples"] if one["kind"] != "harmful"]
    return {**results, "command": command(results, study), "examples": harmless}


def command(results: dict[str, Any], study: str) -> str:
    """The command that asks for the rules of these results, and no others of the file."""
    file, out = f"experiments/{study}/study.yaml", "smollm2-study" if study == MAIN else study
    run = [one["name"] for one in results["rules"] if one["name"] not in ("plain", "tsdi")]
    whole = len(results["rules"]) == len(read_study(HERE / study / "study.yaml").rules)
    only = [f"--only {name}" for name in run if not whole]
    return " ".join([f"tsdi study {file} --models models --out {out}", *only])


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("results", type=Path)
    parser.add_argument("--study", default=MAIN, help="the folder of its file in experiments")
    parser.add_argument("--file", default="results.json", help="what it is called there")
    options = parser.parse_args()
    results = read_object(options.results, "Run the study again.")
    asked = read_study(HERE / options.study / "study.yaml").title
    if results["study"]["title"] != asked:
        parser.error(f"{options.results} is of {results['study']['title']!r}, not of {asked!r}")
    found = kept(results, options.study)
    text = json.dumps(found, allow_nan=False, separators=(",", ":"))
    file = HERE / options.study / options.file
    write_bytes(file, text.replace('{"model"', '\n{"model"').encode() + b"\n")


if __name__ == "__main__":
    main()
