"""The table of what debiasing costs SmolLM2 in capability."""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from experiments import HERE
from experiments.marks import table, with_parts
from tsdi.stats.interval import compact_share, compact_text, interval_text
from tsdi.stats.proportions import wilson_ends
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
Run = Mapping[str, Any]


def with_table(text: str) -> str:
    """The page with its table made anew."""
    return with_parts(text, {"capability": capability(json.loads(FILE.read_bytes()))})


def capability(found: Mapping[str, Any]) -> str:
    """What every rule gets right, and how likely own answers are, each beside no debiasing."""
    right, tokens, rules = found["right"], found["tokens"], found["rules"]
    shares: dict[str, Callable[[Run], float]] = {
        "MMLU, right": lambda run: _alike(run["mmlu"], right),
        "own answers known": lambda run: run["answers"].count("A") / len(run["answers"]),
    }
    logs: dict[str, Callable[[Run], float]] = {
        "log-likelihood, first token": lambda run: float(np.mean(run["first"])),
        "log-likelihood, a later token": lambda run: _later(run, tokens),
    }
    rows = [["rule", *(one for name in (*shares, *logs) for one in (name, "minus plain"))]]
    for rule, title in RULES.items():
        row = [title]
        for name, figure in (shares | logs).items():
            own, ahead = _by_seed(rules, rule, figure)
            row += [_text(own, name in shares)]
            row += ["" if rule == "plain" else _text(ahead, name in shares, signed=True)]
        rows.append(row)
    return f"{table(rows)}\n{_guessing(found)}"


def _guessing(found: Mapping[str, Any]) -> str:
    """What guessing gets, and what is said where MMLU asks for a letter."""
    rules, n = found["rules"], len(found["right"])
    low, high = (compact_share(end) for end in wilson_ends(GUESSED, n))
    letters = "".join(run["letters"] for run in (*rules["reference"], *rules["plain"]))
    return (
        f"{n} questions of MMLU, {len(rules['plain'][0]['answers'])} of Dolly. Guessing gets"
        f" {compact_share(GUESSED)} of both right, and of so many of MMLU mostly {low} to {high}.\n"
        f"Where MMLU asks for a letter, reference and aligned models say A to"
        f" {compact_share(letters.count('A') / len(letters))} of the questions, whatever they"
        " are.\n"
    )


def _text(values: Sequence[float], is_share: bool, signed: bool = False) -> str:
    """A mean with its t interval over seeds; of one model alone, without."""
    found = mean_interval(values)
    if not is_share:
        return interval_text(found, 2, signed=signed)
    return compact_text(found if signed or len(values) < 2 else within(0.0, found), signed)


def _alike(one: str, other: str) -> float:
    return sum(a == b for a, b in zip(one, other, strict=True)) / len(other)


def _later(run: Run, tokens: int) -> float:
    """Mean log-likelihood of the tokens behind the first."""
    return float((np.mean(run["whole"]) - np.mean(run["first"])) / (tokens - 1))


def _by_seed(
    rules: Mapping[str, list[Run]], rule: str, figure: Callable[[Run], float]
) -> tuple[list[float], list[float]]:
    """A rule's figure by seed, and how far it is ahead of the plain model's of that seed."""
    own, plain = ([figure(run) for run in rules[one]] for one in (rule, "plain"))
    each = own * len(plain) if len(own) < len(plain) else own  # there is one reference
    return own, [a - b for a, b in zip(each, plain, strict=True)]
