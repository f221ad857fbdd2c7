"""Checks of arguments that a harness has read from its command line, whatever their type."""

from typing import Any

from tsdi.errors import UsageError


def checked_batch_size(size: Any) -> int:
    """How many chats are answered together.

    Raises:
        UsageError: If it is no whole number above 0.
    """
    if not isinstance(size, int) or isinstance(size, bool) or size < 1:
        raise UsageError(f"The batch size {size!r} is no whole number above 0.", "Leave it out.")
    return size
