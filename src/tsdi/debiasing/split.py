"""Labelled prompts in three parts: to fit to, to choose with, and to report on."""

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import ceil
from typing import Any

from tsdi.categories import category_name
from tsdi.errors import PromptError
from tsdi.evaluation.metrics import HARMLESS
from tsdi.suites.prompts import Prompt

SHARES = {"fit": 0.4, "validation": 0.3, "test": 0.3}
"""The parts, and their shares of the prompts of every kind and category."""
OTHER = "other"
"""Harmful prompts of all categories that have too few to be looked at alone."""
LEAST_HARMLESS = 20


def split(prompts: Sequence[Prompt], fewest: int) -> dict[str, list[Prompt]]:
    """Prompts by part, in the order given; which goes where is decided by a hash of its text.

    Prompts of one group, or with one text, stay together. Harmful prompts of categories that have
    too few for `fewest` in each of the parts "validation" and "test" become one category, `OTHER`.

    Args:
        prompts: Prompts with kinds.
        fewest: Harmful prompts that a category must have in a part that judges safety.

    Raises:
        PromptError: If there are too few harmful or harmless prompts, or their groups are too
            large to be divided.
    """
    merged = _merge_small(prompts, _needed(fewest))
    harmful = [prompt for prompt in merged if prompt.kind == "harmful"]
    harmless = len(merged) - len(harmful)
    if len(harmful) < _needed(fewest) or harmless < LEAST_HARMLESS:
        raise PromptError(
            f"There are {len(harmful)} harmful and {harmless} harmless prompts; three parts take"
            f" {_needed(fewest)} and {LEAST_HARMLESS}.",
            "Give more, such as a suite with both kinds, or a lower --fewest-prompts.",
        )
    part = _assign(merged)
    found = {name: [p for p in merged if part[_group(p)] == name] for name in SHARES}
    for name in ("validation", "test"):
        _check_part(name, found[name], merged, fewest)
    return found


def merged_categories(prompts: Sequence[Prompt], fewest: int) -> list[str]:
    """Categories of harmful prompts that are looked at together, for want of prompts."""
    counts = _counts(prompts)
    return [name for name, number in counts.items() if number < _needed(fewest)]


def _needed(fewest: int) -> int:
    """Prompts of a category from which `fewest` go into the smallest part that judges."""
    return ceil(fewest / min(SHARES["validation"], SHARES["test"]))


def _counts(prompts: Sequence[Prompt]) -> dict[str, int]:
    harmful = [prompt.category for prompt in prompts if prompt.kind == "harmful"]
    return {name: harmful.count(name) for name in dict.fromkeys(harmful)}


def _merge_small(prompts: Sequence[Prompt], needed: int) -> list[Prompt]:
    counts = _counts(prompts)
    return [
        replace(prompt, category=OTHER)
        if prompt.kind == "harmful" and counts[prompt.category] < needed
        else prompt
        for prompt in prompts
    ]


def _group(prompt: Prompt) -> str:
    """The name of the prompts that are never divided."""
    return f"group {prompt.group}" if prompt.group else repr(prompt.messages)


def _assign(prompts: Sequence[Prompt]) -> dict[str, str]:
    """The part of every group: the one that lacks most of its category, then of its kind.

    Groups go by their first prompt, the largest first.
    """
    sizes: dict[str, int] = {}
    first: dict[str, Prompt] = {}
    for prompt in prompts:
        name = _group(prompt)
        sizes[name] = sizes.get(name, 0) + 1
        first.setdefault(name, prompt)
    by_category, by_kind = (Counter[Any]() for _ in range(2))
    for name, prompt in first.items():
        by_category[prompt.kind, prompt.category] += sizes[name]
        by_kind[prompt.kind] += sizes[name]
    held: Counter[Any] = Counter()
    part = {}
    for name in sorted(sizes, key=lambda one: (-sizes[one], _hash(one))):
        kind, category = first[name].kind, first[name].category

        def lacks(one: str, kind: str = kind, category: str = category) -> tuple[float, float]:
            return (
                round(SHARES[one] * by_category[kind, category] - held[one, kind, category], 6),
                SHARES[one] * by_kind[kind] - held[one, kind],
            )

        chosen = max(SHARES, key=lacks)
        held[chosen, kind, category] += sizes[name]
        held[chosen, kind] += sizes[name]
        part[name] = chosen
    return part


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _check_part(name: str, part: Sequence[Prompt], prompts: Sequence[Prompt], fewest: int) -> None:
    counts: Mapping[str, int] = _counts(part)
    few = [one for one in _counts(prompts) if counts.get(one, 0) < fewest]
    if few or not any(prompt.kind in HARMLESS for prompt in part):
        lacking = ", ".join(map(category_name, few)) or "harmless prompts"
        raise PromptError(
            f"The part for {name} would have too few prompts of {lacking}: their groups are too"
            " large to be divided.",
            "Give smaller groups, or more prompts.",
        )
