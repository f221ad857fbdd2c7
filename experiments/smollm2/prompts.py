"""The labelled, validation and test prompts of the studies on SmolLM2, from public suites.

`python -m experiments.smollm2.prompts --data DATA --out FOLDER` writes fit.jsonl, validation.jsonl
and test.jsonl. Conditions are fitted and settings chosen on three suites and on prompts of our own;
tested are other prompts of these suites, and suites that neither has seen. Which prompt goes where
is decided by a hash of its text.
"""

import argparse
import hashlib
from pathlib import Path

from tsdi.files import to_lines, write_bytes
from tsdi.suites.load import EVERYDAY, load_named
from tsdi.suites.prompts import Prompt

SPLITS = ("fit", "validation", "test")
FILES = {
    "or-bench": "or-bench/or-bench-hard-1k.csv",
    "beavertails-eval": "beavertails-eval/BeaverTails-Evaluation.json",
    "alpaca-eval": "alpaca-eval/alpaca_eval_outputs.json",
    "xstest": "xstest/xstest_prompts.csv",
    "strongreject": "strongreject/strongreject.csv",
}
COUNTS = {
    "or-bench": {"fit": 60, "validation": 30, "test": 35},
    "beavertails-eval": {"fit": 60, "validation": 30, "test": 40},
    "alpaca-eval": {"fit": 20, "validation": 10, "test": 20},
    EVERYDAY: {"fit": 100, "validation": 30, "test": 20},
    "xstest": {"test": 120},
    "strongreject": {"test": 25},
}
"""Prompts of a suite by split, fewer where it has not so many."""


def drawn(suite: str, data: Path) -> dict[str, list[Prompt]]:
    """A suite's prompts by split, in the order of their hashes."""
    file = FILES.get(suite)
    asked = load_named(f"{suite}:{data / file}" if file else suite).prompts
    rest = sorted(asked, key=lambda one: _hash(one.messages[-1]["content"]))
    found = {}
    for split, number in COUNTS[suite].items():
        found[split], rest = rest[:number], rest[number:]
    return found


def row(suite: str, prompt: Prompt) -> dict[str, str]:
    """A prompt as a JSON object; the category says the suite, then its own."""
    return {
        "id": f"{suite}-{prompt.id}",
        "prompt": prompt.messages[-1]["content"],
        "kind": prompt.kind,
        "category": f"{suite}: {prompt.category}" if prompt.category else suite,
    }


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="the folder with the public data")
    parser.add_argument("--out", type=Path, required=True, help="the folder of the models")
    options = parser.parse_args()
    found: dict[str, list[dict[str, str]]] = {split: [] for split in SPLITS}
    for suite in COUNTS:
        for split, prompts in drawn(suite, options.data).items():
            found[split] += [row(suite, prompt) for prompt in prompts]
    options.out.mkdir(parents=True, exist_ok=True)
    for split, rows in found.items():
        rows.sort(key=lambda one: len(one["prompt"]))  # batches of one length have no padding
        write_bytes(options.out / f"{split}.jsonl", to_lines(rows))


if __name__ == "__main__":
    main()
