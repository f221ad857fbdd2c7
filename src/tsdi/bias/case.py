"""The case of a bias: nothing to remove, one strength, or a strength for each prompt."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

CaseName: TypeAlias = Literal["nothing", "threshold", "condition"]


@dataclass(frozen=True)
class Case:
    """The case of a bias, with its reason.

    Attributes:
        name: "nothing": there is nothing to remove. "threshold": one strength for all prompts does
            what can be done, as a threshold of refusing would. "condition": a strength for each
            prompt is worth it.
        why: A sentence with the case and its reason.
    """

    name: CaseName
    why: str


NOTHING = Case(
    "nothing", "Nothing to remove: this bias is not what makes refusals of random prompts likelier."
)


def read_case(evidence: Mapping[str, Any]) -> Case | None:
    """The case in a diagnosis or in the evidence of a condition; None if it holds none."""
    found = evidence.get("case")
    return None if found is None else Case(found["name"], found["why"])
