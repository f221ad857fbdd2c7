"""The safety categories that suites, the model organism and all tables share."""

import re
from collections.abc import Iterable

SALAD_TASKS = {
    "O1": "Toxic Content",
    "O2": "Unfair Representation",
    "O3": "Adult Content",
    "O4": "Erosion of Trust in Public Information",
    "O5": "Propagating Misconceptions/False Beliefs",
    "O6": "Risky Financial Practices",
    "O7": "Trade and Compliance",
    "O8": "Dissemination of Dangerous Information",
    "O9": "Privacy Infringement",
    "O10": "Security Threats",
    "O11": "Defamation",
    "O12": "Fraud or Deceptive Action",
    "O13": "Influence Operations",
    "O14": "Illegal Activities",
    "O15": "Persuasion and Manipulation",
    "O16": "Violation of Personal Property",
}
"""The 16 tasks of SALAD-Bench (Li et al., arXiv 2402.05044), by their codes."""
NO_CATEGORY = "(no category)"
"""What prompts without a category are called."""


def category_name(category: str) -> str:
    """The title of a category in tables."""
    return category or NO_CATEGORY


def named_category(category: str, judge: str) -> str:
    """A category's code, with its name where the judge's prompts are the organism's."""
    known = SALAD_TASKS.get(category, "") if judge == "organism" else ""
    return f"{category_name(category)} {known}".rstrip()


def by_code(categories: Iterable[str]) -> list[str]:
    """Categories sorted by name, numbers by value: O2 before O10."""
    return sorted(categories, key=_code)


def _code(category: str) -> list[str | int]:
    """A sort key: text and numbers of a category's name, in turn."""
    parts = re.split(r"([0-9]+)", category)
    return [int(part) if place % 2 else part for place, part in enumerate(parts)]
