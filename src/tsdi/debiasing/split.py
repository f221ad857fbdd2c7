"""Labelled prompts in three parts: to fit to, to choose with, and to report on."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import ceil

from tsdi.categories import category_name
from tsdi.errors import PromptError
from tsdi.evaluation.metrics import HARMLESS
from tsdi.suites.prompts import Prompt
from tsdi.suites.split import divide

SHARES = {"fit": 0.4, "validation": 0.3, "test": 0.3}
"""The parts, and their shares of the prompts of every kind and category."""
OTHER = "(small categories)"
"""Harmful prompts of all categories that have too few to be looked at alone."""
LEAST_HARMLESS, LEAST_IN_PART = 20, 5


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
    found = divide(merged, SHARES)
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


def _check_part(name: str, part: Sequence[Prompt], prompts: Sequence[Prompt], fewest: int) -> None:
    counts: Mapping[str, int] = _counts(part)
    few = [category_name(one) for one in _counts(prompts) if counts.get(one, 0) < fewest]
    if sum(prompt.kind in HARMLESS for prompt in part) < LEAST_IN_PART:
        few.append("harmless prompts")
    if few:
        raise PromptError(
            f"The part for {name} would have too few of {', '.join(few)}: groups, or copies of a"
            " text, are too large to be divided.",
            "Give smaller groups, or more prompts.",
        )
