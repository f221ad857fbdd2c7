"""Workers in a Ray cluster: actors that each hold something costly, such as an engine.

A worker that dies, with its machine or for want of memory, is replaced, and what it was at is done
again; a result is handed out once.
"""

import logging
import os
import secrets
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Generic, TypeVar

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # tsdi reports nothing to anyone
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
import ray
from ray._raylet import Config  # type: ignore[attr-defined]
from ray.exceptions import RayError, RayTaskError

from tsdi.errors import TsdiError, UsageError

LOCAL = "local"
"""This machine, as `ray.init` calls it."""
AHEAD = 4
"""Results that may wait for an earlier one, for each worker."""
STARTS = 3
WAIT = 15.0  # seconds for a cluster to answer, once somebody listens there
DEATHS = 5
"""Workers that one piece of work may cost before it is given up."""
Held = TypeVar("Held")
T = TypeVar("T")
R = TypeVar("R")


class _Worker:
    """The actor: it makes what it holds when the first work comes."""

    def __init__(self, build: Callable[[], Any], folder: str) -> None:
        self._build, self._held = build, None
        with suppress(OSError):  # relative paths are meant from where the command runs
            os.chdir(folder)
        threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()

    def do(self, function: Callable[[Any, Any], Any], item: Any) -> Any:
        if self._held is None:  # here, so that dying of it counts as the work's deaths
            self._held = self._build()
        return function(self._held, item)


def _end_with(parent: int) -> None:
    """End this process when its parent, Ray's own on this machine, is gone.

    Ray lets what a worker is at go on first, of a command that was killed long before.
    """
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)


class Workers(Generic[Held]):
    """Workers that hold the same thing each."""

    def __init__(self, actors: list[Any]) -> None:
        self._actors = actors

    def map(
        self,
        function: Callable[[Held, T], R],
        items: Iterable[T],
        meanwhile: Callable[[], None] | None = None,
    ) -> Iterator[R]:
        """What a function gives of what a worker holds and each item, in the items' order.

        Args:
            function: Runs in a worker.
            items: What it is given, one after another.
            meanwhile: Called every second while nothing is ready.

        Raises:
            TsdiError: If a piece of work killed one worker after another, or the cluster is lost.
            Exception: What the function raised.
        """
        left, idle = iter(items), list(self._actors)
        busy: dict[Any, Any] = {}
        waiting: deque[Any] = deque()
        most = AHEAD * len(idle)
        more = True
        while more or waiting:
            while more and idle and len(waiting) < most:
                try:
                    item = next(left)
                except StopIteration:
                    more = False
                    break
                actor = idle.pop()
                ref = actor.do.remote(function, item)
                busy[ref] = actor
                waiting.append(ref)
            if not waiting:
                return
            if waiting[0] in busy:
                ready, _ = ray.wait([*busy], timeout=1.0 if meanwhile else None)
                idle += [busy.pop(ref) for ref in ready]
                if meanwhile:
                    meanwhile()
            while waiting and waiting[0] not in busy:
                yield _result(waiting.popleft())


def _result(ref: Any) -> Any:
    try:
        return ray.get(ref)
    except RayTaskError as error:
        raise error.cause from None
    except RayError as error:
        if _lost():
            raise TsdiError(
                "Ray has ended on every machine of the cluster.",
                "Go on with --resume, by a cluster that runs.",
            ) from None
        raise TsdiError(
            f"Workers died {DEATHS} times over one piece of work, perhaps for want of memory:"
            f" {str(error).splitlines()[0]}",
            "Take fewer workers or smaller batches, then go on with --resume.",
        ) from None


def _lost() -> bool:
    """Whether no machine of the cluster is there any more."""
    try:
        known: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]
    except Exception:  # of many kinds: nobody keeps the list any more
        return True
    return not any(node["Alive"] for node in known)


def take_token() -> None:
    """Let Ray, to be started on this machine, listen only to who knows a new secret.

    It listens on all networks, and whoever it listens to may run any code.
    """
    os.environ.setdefault("RAY_AUTH_MODE", "token")
    os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    Config.initialize("")  # as Ray does; it may have been imported, by transformers, long before


@contextmanager
def started(
    address: str, count: int, gpus: float | None, build: Callable[[], Held]
) -> Iterator[Workers[Held]]:
    """Workers of a cluster, as long as the block lasts; as `tsdi.cluster.Cluster` says."""
    with connected(address):
        gpus, cpus = _shares(count, gpus)
        actor = ray.remote(_Worker).options(
            num_cpus=cpus,
            num_gpus=gpus,
            max_restarts=-1,
            max_task_retries=DEATHS,
            scheduling_strategy="SPREAD",
        )
        actors: list[Any] = [actor.remote(build, str(Path.cwd())) for _ in range(count)]
        try:
            yield Workers(actors)
        finally:
            for one in actors:
                ray.kill(one)


@contextmanager
def connected(address: str) -> Iterator[None]:
    """Ray, connected to; a connection that this process has already is used, and left open."""
    if ray.is_initialized():
        yield
        return
    if address == LOCAL:
        take_token()
    found: list[Exception | None] = []
    if address == LOCAL:  # what Ray starts ends with the thread that started it
        _connect(address, found)
    else:  # Ray itself may wait for ever
        connecting = threading.Thread(target=_connect, args=(address, found), daemon=True)
        connecting.start()
        connecting.join(WAIT)
    why = found[0] if found else "it does not answer as Ray does."
    if why is not None:
        raise UsageError(
            f"Cannot work on the Ray cluster {address}: {str(why).splitlines()[0]}",
            "Its versions of Ray and Python must be those of this machine.",
        )
    try:
        yield
    finally:
        ray.shutdown()


def _connect(address: str, found: list[Exception | None]) -> None:
    """Connect, and note what went wrong, or None."""
    try:
        begin(address)
    except Exception as error:  # of many kinds, some of them internal
        found.append(error)
    else:
        found.append(None)


def begin(address: str, num_cpus: int | None = None) -> None:
    """Connect to Ray, or start it here: again, where a busy machine was too slow for Ray's limit.

    Raises:
        Exception: Of many kinds, if Ray cannot be had.
    """
    for left in reversed(range(STARTS if address == LOCAL else 1)):
        try:
            ray.init(address, num_cpus=num_cpus, log_to_driver=False, logging_level=logging.ERROR)
        except Exception:
            ray.shutdown()
            if not left:
                raise
        else:
            return


def _shares(count: int, gpus: float | None) -> tuple[float, int]:
    """GPUs and CPUs of each worker: of CPUs as many as all can have, or one beside GPUs.

    Raises:
        UsageError: If there is no room for so many.
    """
    known: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]
    nodes = [node["Resources"] for node in known if node["Alive"]]
    share = float(any(node.get("GPU", 0) for node in nodes)) if gpus is None else gpus

    def room(cpus: int) -> int:
        return sum(
            int(min(node.get("CPU", 0) // cpus, node.get("GPU", 0) // share if share else 1e9))
            for node in nodes
        )

    most = 1 if share else max(int(node.get("CPU", 0)) for node in nodes)
    found = next((cpus for cpus in range(most, 0, -1) if room(cpus) >= count), 0)
    if not found:
        each = f" of {share:g} GPUs" if share else ""
        raise UsageError(
            f"The cluster has room for {room(1)} workers{each}, not {count}.",
            "Take fewer --workers.",
        )
    return share, found
