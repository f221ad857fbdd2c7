"""The processes of one training, of which the first one writes."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import torch
from accelerate import PartialState

from tsdi.files import working_on


def accelerated() -> bool:
    """Whether there is an accelerator that trains faster than the CPU."""
    return torch.cuda.is_available() or torch.backends.mps.is_available()


def processes() -> PartialState:
    """The state of this process among those of the training; alone it is the main process."""
    return PartialState(cpu=not accelerated())  # without `cpu`, processes on CPUs don't connect


@contextmanager
def one_job_at_a_time(place: Path) -> Iterator[None]:
    """Hold a file or folder for this job, across its processes; other jobs wait."""
    main = processes().is_main_process
    if main:
        place.parent.mkdir(parents=True, exist_ok=True)
    with working_on(place, wait=True) if main else nullcontext():
        processes().wait_for_everyone()  # the main process now holds the lock for all
        yield
