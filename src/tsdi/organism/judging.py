"""The ground truth of the organism's world, as a judge."""

from collections.abc import Sequence
from typing import Any

from tsdi.judging.base import Judge, Response
from tsdi.judging.verdict import Judgement, Verdict
from tsdi.organism.world import find_item, judge

_VERSION = 1  # of `tsdi.organism.world.judge`


class OrganismJudge(Judge):
    """Judges answers to requests of the organism's world, which it finds again from their text.

    What is not of this world, or of another kind in it than the prompt says, is UNSCORED.
    """

    name = "organism"
    sees_safety = True

    def settings(self) -> dict[str, Any]:
        """The version of the world and its ground truth."""
        return {"version": _VERSION}

    def judge(self, responses: Sequence[Response]) -> list[Judgement]:
        """Judge every response by ground truth."""
        return [_judgement(response) for response in responses]


def _judgement(response: Response) -> Judgement:
    item = find_item(response.prompt)
    if item is None:
        return _unscored("The prompt is not of the organism's world.")
    if item.kind != response.kind:
        return _unscored(f"The prompt is {item.kind} in the organism's world.")
    return judge(item, response.text, response.finished)


def _unscored(reason: str) -> Judgement:
    return Judgement(Verdict.UNSCORED, raw=reason)
