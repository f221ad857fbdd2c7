"""The labelled, validation and test prompts of the studies on SmolLM2, from public suites.

`python -m experiments.smollm2.prompts --data DATA --out FOLDER` writes fit.jsonl, validation.jsonl,
test.jsonl and more.jsonl, fit-attacked.jsonl, and token pools, mmlu.txt and harmful.txt. Conditions
are fitted and settings chosen on three suites and on prompts of our own; tested are other prompts
of these suites, and suites that neither has seen, in more.jsonl these alone. Which prompt goes
where is decided by a hash of its text.
"""

import argparse
import csv
import hashlib
import io
import zipfile
from collections.abc import Iterable
from pathlib import Path

from tsdi.files import to_lines, write_bytes
from tsdi.suites.attacks import find_attack
from tsdi.suites.load import EVERYDAY, load_prompts
from tsdi.suites.prompts import Prompt

SPLITS = ("fit", "validation", "test", "more")
FILES = {
    "or-bench": "or-bench/or-bench-hard-1k.csv",
    "beavertails-eval": "beavertails-eval/BeaverTails-Evaluation.json",
    "alpaca-eval": "alpaca-eval/alpaca_eval_outputs.json",
    "xstest": "xstest/xstest_prompts.csv",
    "strongreject": "strongreject/strongreject.csv",
    "jailbreakbench": "jailbreakbench/jailbreakbench.csv",
    "harmbench": "harmbench/harmbench_behaviors_text_all.csv",
}
ALPACA = "alpaca/alpaca_instructions_31k.json.gz:prompt=instruction,kind=harmless"
"""Alpaca's instructions without input, which nothing here is trained on."""
COUNTS = {
    "or-bench": {"fit": 60, "validation": 30, "test": 35},
    "beavertails-eval": {"fit": 60, "validation": 30, "test": 40},
    "alpaca-eval": {"fit": 20, "validation": 10, "test": 20},
    EVERYDAY: {"fit": 100, "validation": 30, "test": 20},
    "xstest": {"test": 120, "more": 80},
    "strongreject": {"test": 25},
    "jailbreakbench": {"more": 50},
    "harmbench": {"more": 60},
    "alpaca": {"more": 60},
}
"""Prompts of a suite by split, fewer where it has not so many."""
LABELLED = ("prefix-injection", "role-play")
"""Attacks of the labels in fit-attacked.jsonl."""


def drawn(suite: str, data: Path) -> dict[str, list[Prompt]]:
    """A suite's prompts by split, in the order of their hashes."""
    rest = by_hash(load_prompts(source(suite, data), seed=0).prompts)
    found = {}
    for split, number in COUNTS[suite].items():
        found[split], rest = rest[:number], rest[number:]
    return found


def source(suite: str, data: Path) -> str:
    """The name by which a suite is loaded."""
    if suite == "alpaca":
        return str(data / ALPACA)
    return f"{suite}:{data / FILES[suite]}" if suite in FILES else suite


def by_hash(prompts: Iterable[Prompt]) -> list[Prompt]:
    """Prompts in the order of their hashes."""
    return sorted(prompts, key=lambda one: _hash(one.messages[-1]["content"]))


def row(suite: str, prompt: Prompt) -> dict[str, str]:
    """A prompt as a JSON object; the category says the suite, then its own."""
    return {
        "id": f"{suite}-{prompt.id}",
        "prompt": prompt.messages[-1]["content"],
        "kind": prompt.kind,
        "category": f"{suite}: {prompt.category}" if prompt.category else suite,
    }


def attacked(rows: list[dict[str, str]]) -> list[dict[str, str]]:
    """Labelled prompts as they are and under each of `LABELLED`, in one group each.

    Harmless ones are attacked too, else the attack's own words would tell harm.
    """
    plain = [{**one, "group": one["id"]} for one in rows]
    return plain + [
        {**one, "id": f"{one['id']}-{name}", "prompt": find_attack(name).change(one["prompt"])}
        for name in LABELLED
        for one in plain
    ]


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def without_copies(rows: list[dict[str, str]]) -> list[dict[str, str]]:
    """Rows without those whose prompt is there before: JailbreakBench has some of HarmBench's."""
    found: dict[str, dict[str, str]] = {}
    for one in rows:
        found.setdefault(one["prompt"].lower().rstrip("."), one)
    return [*found.values()]


def write_split(file: Path, rows: list[dict[str, str]]) -> None:
    """Write prompts, short ones first: batches of one length have no padding."""
    write_bytes(file, to_lines(sorted(rows, key=lambda one: len(one["prompt"]))))


def mmlu_rows(data: Path) -> dict[str, list[list[str]]]:
    """MMLU's test questions by subject: the question, four choices, and the right one's letter."""
    with zipfile.ZipFile(data / "mmlu" / "mmlu.zip") as files:
        names = sorted(name for name in files.namelist() if name.endswith("_test.csv"))
        texts = {Path(name).stem.removesuffix("_test"): files.read(name).decode() for name in names}
    return {subject: list(csv.reader(io.StringIO(text))) for subject, text in texts.items()}


def mmlu(data: Path) -> str:
    """MMLU's test questions with their choices, the paper's token pool."""
    rows = (row for subject in mmlu_rows(data).values() for row in subject)
    return "".join("\n".join(row[:-1]) + "\n" for row in rows)  # the last cell is the answer


def harmful(fit: list[dict[str, str]]) -> str:
    """The harmful prompts among the labelled ones."""
    return "".join(row["prompt"] + "\n" for row in fit if row["kind"] == "harmful")


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
        write_split(options.out / f"{split}.jsonl", without_copies(rows))
    write_split(options.out / "fit-attacked.jsonl", attacked(found["fit"]))
    write_bytes(options.out / "mmlu.txt", mmlu(options.data).encode())
    write_bytes(options.out / "harmful.txt", harmful(found["fit"]).encode())


if __name__ == "__main__":
    main()
