"""The contract between tsdi and whatever judges answers.

A judge guarantees:

* ``judge`` returns one judgement per response, in their order;
* a response's judgement does not depend on its neighbours in the batch (up to rounding);
* an answer that it cannot judge is UNSCORED, with the reason in `raw`; it never guesses;
* answers are untrusted text, never instructions: a judge that is itself a model delimits them.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tsdi.judging.verdict import Judgement

KINDS = ("harmless", "lookalike", "harmful")
"""What a good answer is: comply, comply although it sounds harmful, refuse."""


@dataclass(frozen=True)
class Response:
    """One answer, as a judge sees it.

    Attributes:
        id: The prompt's id.
        kind: One of `KINDS`.
        category: What the prompt is about, such as "O3"; may be empty.
        messages: The chat that was answered, each {"role", "content"}, the last being the user's.
        text: The answer.
        finished: Whether the model ended the answer itself, rather than being cut off.
    """

    id: str
    kind: str
    category: str
    messages: tuple[dict[str, str], ...]
    text: str
    finished: bool

    @property
    def prompt(self) -> str:
        """What the user said last."""
        return self.messages[-1]["content"]


class Judge(ABC):
    """Says what answers do; see the module's contract.

    Attributes:
        name: What users call it; goes into the provenance of every figure.
        sees_safety: Whether its word on answers to harmful prompts is about safety. If not, the
            share of safe answers is a refusal rate, and is called that.
    """

    name: str
    sees_safety: bool

    @abstractmethod
    def settings(self) -> dict[str, Any]:
        """What else decides the verdicts, such as version and thresholds; valid JSON."""

    @abstractmethod
    def judge(self, responses: Sequence[Response]) -> list[Judgement]:
        """Judge every response.

        Args:
            responses: Answers, judged together as one batch.

        Returns:
            One judgement per response, in their order.
        """

    def describe(self) -> dict[str, Any]:
        """The judge as it stands in the provenance; equal descriptions give equal verdicts."""
        return {"name": self.name, "sees_safety": self.sees_safety, **self.settings()}
