"""The ground truth of the organism's world, as a judge."""

from collections.abc import Sequence
from typing import Any

from tsdi.judging.base import Judge, JudgeOptions, Response
from tsdi.judging.verdict import Judgement, unscored
from tsdi.organism.world import find_item, judge

_VERSION = 1  # of `tsdi.organism.world.judge`


class OrganismJudge(Judge):
    """Judges answers to requests of the organism's world, which it finds again from their text.

    What is not of this world, or of another kind in it than the prompt says, is UNSCORED.
    """

    name = "organism"
    sees_safety = True
    sees_refusal = True

    def settings(self) -> dict[str, Any]:
        """The version of the world and its ground truth."""
        return {"version": _VERSION}

    def judge_answers(self, answers: Sequence[Response]) -> list[Judgement]:
        """Judge every answer by ground truth."""
        return [_judgement(answer) for answer in answers]


def open_organism_judge(options: JudgeOptions) -> OrganismJudge:
    """The judge `organism`, which takes no options."""
    options.refuse(OrganismJudge.name, "model", "url")
    return OrganismJudge()


def _judgement(response: Response) -> Judgement:
    item = find_item(response.prompt)
    if item is None:
        return unscored("The prompt is not of the organism's world.")
    if item.kind != response.kind:
        return unscored(f"The prompt is {item.kind} in the organism's world.")
    return judge(item, response.text, response.finished)
