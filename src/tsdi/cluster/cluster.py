"""Where work is spread: a Ray cluster, and the number of workers in it."""

import re
import socket
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, TypeVar

from tsdi.arguments import check_number, check_whole
from tsdi.errors import UsageError

if TYPE_CHECKING:
    from tsdi.cluster.workers import Workers

LOCAL, RUNNING = "local", "auto"
_ANSWERS_WITHIN = 10.0  # seconds
Held = TypeVar("Held")


@dataclass(frozen=True)
class Cluster:
    """A Ray cluster, and how many workers of it are used.

    Attributes:
        address: "local" starts Ray on this machine for as long as the work lasts; "auto" is a
            cluster that runs here; else HOST:PORT of a cluster's head, or ray://HOST:PORT.
        workers: Processes that work side by side, each with models of its own.
        gpus: GPUs of a worker, or a share of one; None is 1 where the cluster has any.

    Raises:
        UsageError: If the address cannot be one, or a number makes no sense.
    """

    address: str
    workers: int = 1
    gpus: float | None = None

    def __post_init__(self) -> None:
        check_whole("workers", self.workers)
        if self.gpus is not None:
            check_number("worker_gpus", self.gpus)
        if (self.gpus or 0) < 0:
            raise UsageError(f"A worker cannot have {self.gpus} GPUs.", "Give 0 or more.")
        if self.address not in (LOCAL, RUNNING) and self._host is None:
            raise UsageError(
                f"{self.address!r} is no address of a Ray cluster.",
                f"Write HOST:PORT, ray://HOST:PORT, {RUNNING} for one that runs here, or none.",
            )

    def connected(self) -> AbstractContextManager[None]:
        """Connect to the cluster, so that what is opened meanwhile need not; as `open`."""
        self.check()
        from tsdi.cluster.workers import connected

        return connected(self.address)

    def open(self, build: Callable[[], Held]) -> "AbstractContextManager[Workers[Held]]":
        """Start workers, each of which holds what `build` returns there, as long as a block lasts.

        Raises:
            UsageError: If Ray is not installed, nobody answers at the address, or the cluster has
                no room for so many workers.
        """
        self.check()
        from tsdi.cluster.workers import started

        return started(self.address, self.workers, self.gpus, build)

    @property
    def _host(self) -> tuple[str, int] | None:
        found = re.fullmatch(r"(?:ray://)?\[?([^\s/\[\]]+)\]?:([0-9]{1,5})", self.address)
        return (found[1], int(found[2])) if found else None

    def check(self) -> None:
        """Refuse what Ray would wait long for: an address where nobody answers."""
        if find_spec("ray") is None:
            raise UsageError("Working on a cluster needs Ray.", "Run: pip install 'tsdi[ray]'.")
        if self._host is None:
            return
        try:
            socket.create_connection(self._host, _ANSWERS_WITHIN).close()
        except (OSError, OverflowError) as error:
            raise UsageError(
                f"Nobody answers at {self.address}: {getattr(error, 'strerror', None) or error}.",
                "Start a cluster there by ray start --head, or work on this machine alone.",
            ) from None
