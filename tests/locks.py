"""A process that works in an output folder until it is told to end, or killed."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

PROGRAM = """
import sys
from pathlib import Path
from tsdi.files import working_in, working_on
with {kind}(Path(sys.argv[1])):
    {more}
    print("at work", flush=True)
    sys.stdin.read()
"""


@contextmanager
def at_work(place, kind="working_in", more="") -> Iterator[subprocess.Popen]:
    """While the block runs, another process holds a folder, or a file with "working_on"."""
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM.format(kind=kind, more=more), str(place)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "at work\n"
    try:
        yield process
    finally:
        process.kill()
        process.stdin.close()
        process.wait()
        process.stdout.close()
