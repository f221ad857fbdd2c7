"""Waiting for what happens, however busy the machine is."""

import time

HANGS = 1800.0  # seconds after which nothing will happen any more


def wait_until(happened, process=None):
    """Wait for something, which a process must not end before."""
    until = time.monotonic() + HANGS
    while not happened():
        assert process is None or process.poll() is None, "it ended before"
        assert time.monotonic() < until, "it hangs"
        time.sleep(0.02)
