"""Batching of concurrent calls that each wait for one answer."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import anyio
from anyio.to_thread import run_sync

T = TypeVar("T")
R = TypeVar("R")


@dataclass(eq=False)
class _Waiting(Generic[T, R]):
    """A queued item, and its answer or error once there is one."""

    item: T
    outcome: tuple[R | None, Exception | None] | None = None


class Combiner(Generic[T, R]):
    """Answers waiting items in batches, in order of arrival, one batch at a time.

    `answer` gives one answer per item, in their order, and runs in a thread of its own.
    """

    def __init__(self, answer: Callable[[Sequence[T]], Sequence[R]], size: int) -> None:
        self._answer = answer
        self._size = size
        self._queue: list[_Waiting[T, R]] = []
        self._lock = anyio.Lock()

    async def __call__(self, item: T) -> R:
        """The answer to one item; an error is that of the whole batch."""
        waiting: _Waiting[T, R] = _Waiting(item)
        self._queue.append(waiting)
        try:
            async with self._lock:
                while waiting.outcome is None:
                    await self._answer_first()
        finally:
            if waiting in self._queue:  # whoever waited for it has been cancelled
                self._queue.remove(waiting)
        answer, error = waiting.outcome
        if error is not None:
            raise error
        return answer  # type: ignore[return-value]  # there is one, as there is no error

    async def _answer_first(self) -> None:
        batch = self._queue[: self._size]
        try:
            answers = await run_sync(self._answer, [waiting.item for waiting in batch])
        except Exception as error:
            for waiting in batch:
                waiting.outcome = None, error
        else:
            for waiting, answer in zip(batch, answers, strict=True):
                waiting.outcome = answer, None
        self._queue = [waiting for waiting in self._queue if waiting.outcome is None]
