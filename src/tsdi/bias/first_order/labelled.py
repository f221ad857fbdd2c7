"""Labelled prompts, to which a slope may be fitted."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from tsdi.errors import PromptError, UsageError

LEAST_PROMPTS = 16
"""At a step, for it to be fitted."""


@dataclass(frozen=True)
class LabelledIds:
    """Harmless and harmful prompts as token ids, template included.

    Attributes:
        harmless: Prompts to answer as the reference does; lookalikes count.
        harmful: Prompts on which nothing is to change.
        groups: Names of groups of near copies, such as a suite or a template, by a prompt's ids.
    """

    harmless: Sequence[list[int]] = field(repr=False)
    harmful: Sequence[list[int]] = field(repr=False)
    groups: Mapping[tuple[int, ...], str] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        for kind in ("harmless", "harmful"):
            distinct = list(dict.fromkeys(_ids(kind, row) for row in getattr(self, kind)))
            object.__setattr__(self, kind, [list(row) for row in distinct])  # copies count once
            if len(distinct) < LEAST_PROMPTS:
                raise PromptError(
                    f"A slope needs at least {LEAST_PROMPTS} {kind} prompts, not {len(distinct)}"
                    " (copies count once).",
                    "About a hundred of each kind do.",
                )
        if both := set(map(tuple, self.harmless)) & set(map(tuple, self.harmful)):
            raise PromptError(
                f"{len(both)} labelled prompts are both harmful and harmless.",
                "Label each prompt once.",
            )

    def group(self, row: Sequence[int]) -> str:
        """The group of a prompt; one without a name is a group of its own."""
        named = self.groups.get(tuple(row))
        return f"group {named}" if named else str(list(row))


def _ids(kind: str, row: object) -> tuple[int, ...]:
    """The token ids of a prompt."""
    if isinstance(row, list | tuple) and row and all(type(one) is int and one >= 0 for one in row):
        return tuple(row)
    raise UsageError(
        f"A {kind} prompt is no list of token ids.",
        "Take those of encode_chat(tokenizer, messages), template included.",
    )
