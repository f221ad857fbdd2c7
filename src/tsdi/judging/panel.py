"""A panel of two judges: one for harmful prompts, another for harmless ones."""

from collections.abc import Mapping, Sequence
from typing import Any

from tsdi.judging.base import KINDS, Judge, Response
from tsdi.judging.verdict import Judgement


class Panel(Judge):
    """Sends answers to harmful prompts to one judge, and all others to another.

    The paper does so with a safety model and, for harmless prompts, a keyword rule.
    """

    def __init__(self, harmful: Judge, harmless: Judge) -> None:
        self._harmful = harmful
        self._harmless = harmless
        self.name = f"{harmful.name}+{harmless.name}"
        self.sees_safety = harmful.sees_safety
        self.sees_refusal = harmless.sees_refusal

    def settings(self) -> dict[str, Any]:
        """The descriptions of both judges."""
        return {"harmful": self._harmful.describe(), "harmless": self._harmless.describe()}

    def judge_answers(self, answers: Sequence[Response]) -> list[Judgement]:
        """Judge every answer by the judge of its kind."""
        harmful = [answer for answer in answers if answer.kind == "harmful"]
        others = [answer for answer in answers if answer.kind != "harmful"]
        found = {
            kind: iter(judge.judge(part) if part else [])
            for kind, judge, part in (
                (True, self._harmful, harmful),
                (False, self._harmless, others),
            )
        }
        return [next(found[answer.kind == "harmful"]) for answer in answers]


def refusal_kinds(judge: Mapping[str, Any]) -> tuple[str, ...]:
    """Kinds of prompts on whose answers a described judge tells refusals from others."""
    return tuple(kind for kind in KINDS if judge_of(judge, kind)["sees_refusal"])


def judge_of(judge: Mapping[str, Any], kind: str) -> Mapping[str, Any]:
    """The description of the judge, in a panel or alone, of answers to a kind of prompts."""
    part = judge.get("harmful" if kind == "harmful" else "harmless")
    return part if isinstance(part, Mapping) else judge
