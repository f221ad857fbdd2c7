"""The table of docs/reproduction.md of what was run twice from nothing, trainings included.

A cell is a model's answers by one rule at one setting to the test prompts, plain or under an
attack. Compared are the verdicts of the cells that both results have, answer by answer.
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
        ValueError: If the test prompts are others.
    """
    if [prompt.id for prompt in first.prompts["test"]] != [p.id for p in second.prompts["test"]]:
        raise ValueError("Two studies of different test prompts cannot be compared.")
    one, other = _answered(first), _answered(second)
    shared = [(one[key], other[key]) for key in one.keys() & other.keys()]
    answers = [pair for cell in shared for pair in zip(*cell, strict=True)]
    models = {key[0] for key in one.keys() & other.keys()}
    return [len(models), *_alike(shared), *_alike(answers)]


def _answered(results: StudyResults) -> dict[tuple[str, str, str, str], str]:
    """The verdicts of every cell of the test prompts, a letter an answer."""
    return {
        (
            cell.model,
            cell.name,
            json.dumps(cell.setting, sort_keys=True),
            cell.attack,
        ): cell.outcomes
        for cell in results.cells
        if isinstance(cell, AnsweredCell)
    }


def _alike(pairs: list[tuple[str, str]]) -> tuple[int, int]:
    return len(pairs), sum(one == other for one, other in pairs)
