"""A judge that judges in the workers of a cluster, each with one of its own."""

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from tsdi.errors import MismatchError
from tsdi.judging.base import Judge, Response
from tsdi.judging.verdict import Judgement

if TYPE_CHECKING:
    from tsdi.cluster.workers import Workers


class SpreadJudge(Judge):
    """The judge that workers hold; every batch goes to one of them.

    Raises:
        MismatchError: While it judges, if a worker's judge is not like the first one's.
    """

    def __init__(self, workers: "Workers[Judge]") -> None:
        self._workers = workers
        [self._described] = workers.map(_describe, [None])
        self.name = self._described["name"]
        self.sees_safety = self._described["sees_safety"]
        self.sees_refusal = self._described["sees_refusal"]

    def settings(self) -> dict[str, Any]:
        """As the workers' judge."""
        return self._described

    def describe(self) -> dict[str, Any]:
        """As the workers' judge."""
        return self._described

    def judge_answers(self, answers: Sequence[Response]) -> list[Judgement]:
        """As the workers' judge."""
        [(found, _)] = self._workers.map(_judge, [answers])
        return found

    def judge_parts(self, parts: Iterable[Sequence[Response]]) -> Iterator[list[Judgement]]:
        """Judge batches side by side; their judgements come in the batches' order."""
        for found, described in self._workers.map(_judge, parts):
            if described != self._described:
                raise MismatchError(
                    "The workers' judges differ.", "Give all machines the same files."
                )
            yield found


def _describe(judge: Judge, _: None) -> dict[str, Any]:
    return judge.describe()


def _judge(judge: Judge, part: Sequence[Response]) -> tuple[list[Judgement], dict[str, Any]]:
    return judge.judge(part), judge.describe()
