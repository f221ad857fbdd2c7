"""The prompts of the study on SmolLM2 whose labels are of other suites than all that it tests.

`python -m experiments.smollm2.label_prompts --data DATA --out FOLDER` writes labels-fit.jsonl,
labels-validation.jsonl and labels-test.jsonl. Labels and validation prompts are of `LABELLED`
suites: the study's own but OR-Bench-hard, as `label_sets` suggests, which looked at XSTest and
StrongREJECT. So two more suites are tested, of which nothing was looked at before.
"""

import argparse
from pathlib import Path

from experiments.smollm2.label_sets import INSTRUCTIONS, suite_prompts
from experiments.smollm2.prompts import by_hash, row, write_split

from tsdi.suites.load import EVERYDAY

COUNTS = {
    EVERYDAY: {"fit": 120, "validation": 60},
    "beavertails-eval": {"fit": 60, "validation": 30},
    "alpaca-eval": {"fit": 60, "validation": 30},
    "xstest": {"test": 120},
    "strongreject": {"test": 25},
    "physical-safe": {"test": 40},
    "physical-unsafe": {"test": 40},
    "malicious": {"test": 35},
}
"""Prompts of a suite by split."""


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="the folder with the public data")
    parser.add_argument("--out", type=Path, required=True, help="the folder of the models")
    options = parser.parse_args()
    found: dict[str, list[dict[str, str]]] = {"fit": [], "validation": [], "test": []}
    for suite, counts in COUNTS.items():
        rest = by_hash(suite_prompts(suite, options.data))
        if suite in INSTRUCTIONS and suite.startswith("physical"):
            rest.sort(key=lambda one: int(one.id.rpartition("-")[2]))  # the same scenes of both
        for split, number in counts.items():
            found[split] += [row(suite, prompt) for prompt in rest[:number]]
            rest = rest[number:]
    for split, rows in found.items():
        write_split(options.out / f"labels-{split}.jsonl", rows)


if __name__ == "__main__":
    main()
