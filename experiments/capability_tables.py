"""The table of what debiasing costs SmolLM2 in capability."""

import json
from collections.abc import Callable, Mapping
from math import isinf
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from experiments import HERE
from experiments.marks import table, with_parts
from tsdi.stats.interval import Estimate, compact_share, compact_text, interval_text
from tsdi.stats.proportions import unseen_loss
from tsdi.stats.seeds import mean_interval
from tsdi.study.fronts import within

FILE = HERE / "smollm2" / "capability.json"
PAGE = HERE / "smollm2" / "README.md"
RULES = {
    "reference": "the reference",
    "plain": "no debiasing",
    "tsdi": "TSDI, strength 1",
    "tsdi-tuned": "TSDI, tuned",
    "conditioned": "**TSDI with a condition**",
    "random-shift": "random shift, as strong as tuned TSDI (control)",
}
GUESSED = 0.25
Array: TypeAlias = NDArray[np.float64]
Run: TypeAlias = Mapping[str, Any]
Figure: TypeAlias = Callable[[Run], Array]
"""A figure of every question."""


def with_table(text: str) -> str:
    """The page with its table made anew."""
    return with_parts(text, {"capability": capability(json.loads(FILE.read_bytes()))})


def capability(found: Mapping[str, Any]) -> str:
    """What every rule gets right, and how likely own answers are, each beside no debiasing."""
    right, later, rules = found["right"], found["tokens"] - 1, found["rules"]
    shares: dict[str, Figure] = {
        "MMLU, right": lambda run: _alike(run["mmlu"], right),
        "own answer found": lambda run: _alike(run["answers"], "A" * len(run["answers"])),
    }
    logs: dict[str, Figure] = {
        "log-likelihood, first token": lambda run: np.array(run["first"]),
        "log-likelihood, a later token": lambda run: (
            (np.array(run["whole"]) - np.array(run["first"])) / later
        ),
    }
    rows = [["rule", *(one for name in (*shares, *logs) for one in (name, "minus plain"))]]
    for rule, title in RULES.items():
        row = [title]
        for name, figure in (shares | logs).items():
            own, plain = (np.array([figure(run) for run in rules[one]]) for one in (rule, "plain"))
            row += [_text(own, name in shares)]
            row += ["" if rule == "plain" else _text(own - plain, name in shares, signed=True)]
        rows.append(row)
    return f"{table(rows)}\n{_notes(found)}"


def _alike(one: str, other: str) -> Array:
    return np.array([float(a == b) for a, b in zip(one, other, strict=True)])


def _text(values: Array, is_share: bool, signed: bool = False) -> str:
    """The mean of a figure, [seeds, questions], with its `interval`."""
    found = interval(values)
    if not is_share:
        return interval_text(found, 2, signed=signed)
    return compact_text(found if signed else within(0.0, found), signed)


def interval(values: Array) -> Estimate:
    """The mean over seeds and questions, with the wider of the t intervals over either.

    Models of different seeds may agree on every question, which says nothing of other questions.
    """
    over_seeds, over_questions = (mean_interval(values.mean(axis)) for axis in (1, 0))
    if isinf(over_seeds.high):  # of the reference there is one
        return over_questions
    return max(over_seeds, over_questions, key=lambda one: one.high - one.low)


def _notes(found: Mapping[str, Any]) -> str:
    """How many questions there are, what that leaves open, and what is said by letters."""
    rules, counts = found["rules"], (len(found["right"]), len(found["rules"]["plain"][0]["whole"]))
    lost = compact_share(unseen_loss(counts[1]))
    letters = "".join(run["letters"] for run in (*rules["reference"], *rules["plain"]))
    said = compact_share(letters.count("A") / len(letters))
    return (
        f"{counts[0]} questions of MMLU, {counts[1]} of Dolly; guessing gets"
        f" {compact_share(GUESSED)} of both right.\nWhere no answer of Dolly's is lost,"
        f" up to {lost} of others' may be.\n"
        f"Asked for MMLU's letters, reference and aligned models say A to {said} of the questions,"
        " which counts A's and no knowledge.\n"
    )
