"""Threads for work that waits, such as requests to a server."""

from collections.abc import Callable, Iterator, Sequence
from queue import Empty, SimpleQueue
from threading import Event, Thread
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


def in_threads(work: Callable[[T, Event], R], items: Sequence[T], threads: int) -> list[R]:
    """Apply `work` to all items in a few threads, and return the results in order.

    A killed run does not wait for work under way, as it would with the threads of an executor: it
    would hang on a server that does not reply. Work is called with an item, and with what is set
    once the rest is not wanted any more.

    Returns:
        The results in the order of the items.

    Raises:
        Exception: The first that work raises; work under way has ended then, and no more is begun.
    """
    todo: SimpleQueue[tuple[int, T]] = SimpleQueue()
    done: SimpleQueue[tuple[int, R | Exception]] = SimpleQueue()
    for place_and_item in enumerate(items):
        todo.put(place_and_item)
    stop = Event()
    workers = [
        Thread(target=_work, args=(work, todo, done, stop), daemon=True)
        for _ in range(min(threads, len(items)))
    ]
    for worker in workers:
        worker.start()
    try:
        results = dict(_results(done, len(items)))
    except Exception:
        for worker in workers:
            worker.join()
        raise
    finally:
        stop.set()
    return [results[place] for place in range(len(items))]


def within(work: Callable[[], R], seconds: float) -> R:
    """The result of `work`, or TimeoutError after some seconds.

    Left behind, it goes on, and its result is lost.

    Raises:
        TimeoutError: If it takes longer.
        Exception: Whatever work raises.
    """
    done: SimpleQueue[tuple[int, R | Exception]] = SimpleQueue()
    todo: SimpleQueue[tuple[int, None]] = SimpleQueue()
    todo.put((0, None))
    Thread(
        target=_work, args=(lambda _item, _stop: work(), todo, done, Event()), daemon=True
    ).start()
    try:
        _, result = done.get(timeout=seconds)
    except Empty:
        raise TimeoutError from None
    if isinstance(result, Exception):
        raise result
    return result


def _work(
    work: Callable[[T, Event], R],
    todo: SimpleQueue[tuple[int, T]],
    done: SimpleQueue[tuple[int, R | Exception]],
    stop: Event,
) -> None:
    """Apply `work` to queued items until there are none, or `stop` is set: a thread's task."""
    while not stop.is_set():
        try:
            place, item = todo.get_nowait()
        except Empty:
            return
        try:
            done.put((place, work(item, stop)))
        except Exception as error:
            stop.set()
            done.put((place, error))


def _results(done: SimpleQueue[tuple[int, R | Exception]], count: int) -> Iterator[tuple[int, R]]:
    """Places and results as they come; raises the first that is an error."""
    for _ in range(count):
        place, result = done.get()
        if isinstance(result, Exception):
            raise result
        yield place, result
