"""The table of docs/reproduction.md of what was run twice from nothing, trainings included.

A cell is a model's answers by one rule at one setting to the test prompts, plain or under an
attack. Compared are the verdicts of the cells that both results have, answer by answer.

For SmolLM2, the stage `longer` of `sft.yaml` was trained again to step 40, seed 0; the study
smollm2-iterations, its grid cut to what is there, asked those models; and
`python -m experiments.smollm2.keep smollm2-again/results.json --study smollm2-iterations
--file again.json` kept what came out.
"""

import json

from experiments import DOCS, HERE
from experiments.marks import table, with_parts
from tsdi.study.entries import AnsweredCell
from tsdi.study.results import StudyResults, read_results

PAGE = DOCS / "reproduction.md"
PAIRS = {
    "organisms": (
        HERE / "organism-condition" / "results.json",
        HERE / "no-reference" / "results.json",
    ),
    "SmolLM2, training seed 0": (
        HERE / "smollm2-iterations" / "results.json",
        HERE / "smollm2-iterations" / "again.json",
    ),
}
"""Results of the first time and of the second, by what was trained twice."""


def with_table(text: str) -> str:
    """The page with its table made anew."""
    rows = [["run twice", "models", "cells", "judged alike", "answers", "judged alike"]]
    for title, files in PAIRS.items():
        rows.append([title, *(f"{n:,}" for n in counts(*map(read_results, files)))])
    return with_parts(text, {"again": table(rows)})


def counts(first: StudyResults, second: StudyResults) -> list[int]:
    """Models that both results have, cells, those judged alike, answers, those judged alike.

    Raises:
        ValueError: If the test prompts are others; their order may be.
    """
    if {*first.prompts["test"]} != {*second.prompts["test"]}:
        raise ValueError("Two studies of different test prompts cannot be compared.")
    one, other = _answered(first), _answered(second)
    shared = one.keys() & other.keys()
    cells = [one[key] == other[key] for key in shared]
    answers = [letter == other[key][name] for key in shared for name, letter in one[key].items()]
    models = {model for model, *_ in shared}
    return [len(models), len(cells), sum(cells), len(answers), sum(answers)]


def _answered(results: StudyResults) -> dict[tuple[str, str, str, str], dict[str, str]]:
    """The verdicts of every cell of the test prompts, a letter an answer, by the prompt's id."""
    asked = results.prompts["test"]
    found = {}
    for cell in results.cells:
        if isinstance(cell, AnsweredCell):
            names = [one.id for one in asked if not cell.attack or one.kind == "harmful"]
            key = (cell.model, cell.name, json.dumps(cell.setting, sort_keys=True), cell.attack)
            found[key] = dict(zip(names, cell.outcomes, strict=True))
    return found
