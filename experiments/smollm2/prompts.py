"""The labelled, validation and test prompts of the studies on SmolLM2, from public suites.

`python -m experiments.smollm2.prompts --data DATA --out FOLDER` writes fit.jsonl, validation.jsonl
and test.jsonl. Conditions are fitted and settings chosen on four suites and on prompts of our own;
tested are other prompts of these suites, and suites that neither has seen. Which prompt goes where
is decided by a hash of its text.
"""

import argparse
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

from tsdi.files import write_bytes
from tsdi.suites.load import EVERYDAY, load_named
from tsdi.suites.prompts import Prompt

SPLITS = ("fit", "validation", "test")
KNOWN = {
    "or-bench": "or-bench/or-bench-hard-1k.csv",
    "beavertails-eval": "beavertails-eval/BeaverTails-Evaluation.json",
    "alpaca-eval": "alpaca-eval/alpaca_eval_outputs.json",
    EVERYDAY: "",
}
UNSEEN = {
    "xstest": "xstest/xstest_prompts.csv",
    "strongreject": "strongreject/strongreject.csv",
}
COUNTS = {
    "or-bench": {"fit": 80, "validation": 40, "test": 40},
    "beavertails-eval": {"fit": 80, "validation": 40, "test": 40},
    "alpaca-eval": {"fit": 40, "validation": 20, "test": 40},
    EVERYDAY: {"fit": 120, "validation": 50, "test": 50},
    "xstest": {"test": 200},
    "strongreject": {"test": 40},
}
"""Prompts of a suite by split, fewer where it has not so many."""


def drawn(suite: str, data: Path) -> dict[str, list[Prompt]]:
    """A suite's prompts by split, in the order of their hashes."""
    file = KNOWN.get(suite) or UNSEEN.get(suite, "")
    asked = load_named(f"{suite}:{data / file}" if file else suite).prompts
    rest = sorted(asked, key=lambda one: _hash(one.messages[-1]["content"]))
    found = {}
    for split, number in COUNTS[suite].items():
        found[split], rest = rest[:number], rest[number:]
    return found


def rows(suite: str, prompts: Sequence[Prompt]) -> str:
    """Prompts as lines of JSON; the category says the suite, then its own."""
    return "".join(
        json.dumps(
            {
                "id": f"{suite}-{one.id}",
                "prompt": one.messages[-1]["content"],
                "kind": one.kind,
                "category": f"{suite}: {one.category}" if one.category else suite,
            }
        )
        + "\n"
        for one in prompts
    )


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="the folder with the public data")
    parser.add_argument("--out", type=Path, required=True, help="the folder of the models")
    options = parser.parse_args()
    texts = dict.fromkeys(SPLITS, "")
    for suite in COUNTS:
        for split, prompts in drawn(suite, options.data).items():
            texts[split] += rows(suite, prompts)
    for split, text in texts.items():
        write_bytes(options.out / f"{split}.jsonl", text.encode())


if __name__ == "__main__":
    main()
