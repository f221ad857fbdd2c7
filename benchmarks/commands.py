"""Commands of tsdi in processes of their own, which can be killed in the middle."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

Word = str | Path | int


def whole_lines(path: Path) -> int:
    """Lines of a file that have ended; 0 if there is no file."""
    return path.read_bytes().count(b"\n") if path.exists() else 0


def has_lines(path: Path, number: int) -> bool:
    """Whether a file has at least so many lines."""
    return whole_lines(path) >= number


def run(*words: Word) -> str:
    """Run a tsdi command to its end and give its standard output."""
    return _finish(_start(words), (0,))


def run_and_kill(words: Sequence[Word], ready: Callable[[], bool], delay: float) -> bool:
    """Run a tsdi command and kill it ``delay`` seconds after it is ready; whether it still ran."""
    process = _start(words)
    while process.poll() is None and not ready():
        time.sleep(0.005)
    time.sleep(delay)
    process.kill()
    _finish(process, (0, -signal.SIGKILL))
    return process.returncode == -signal.SIGKILL


def _finish(process: "subprocess.Popen[str]", codes: tuple[int, ...]) -> str:
    output, errors = process.communicate()
    if process.returncode not in codes:
        raise RuntimeError(f"{process.args!r} left with {process.returncode}: {errors[-2000:]}")
    return output


def _start(words: Sequence[Word]) -> "subprocess.Popen[str]":
    command = [str(Path(sys.executable).with_name("tsdi")), *map(str, words)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, env=environment)
