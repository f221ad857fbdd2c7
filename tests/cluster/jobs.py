"""What workers do in tests; without torch, so that they start quickly."""

import os
import signal

from tsdi.errors import UsageError


def held():
    return [os.getpid()]


def noted(mine, job):
    """Note that a job was begun; the worker is killed in it where that is asked for, once."""
    number, folder, kill = job
    with (folder / f"{number}").open("a") as file:
        file.write("begun\n")
    if kill and not (folder / "killed").exists():
        (folder / "killed").touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return number, mine[0]


def failing(_, number):
    raise UsageError(f"Number {number} cannot be.", "Take another.")


def written(folder, name):
    (folder / name).write_text(str(os.getpid()))
