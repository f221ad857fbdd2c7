"""Checks of arguments that a harness has read from its command line, whatever their type."""

import math
from typing import Any

from tsdi.errors import UsageError


def checked_strength(strength: Any) -> float:
    """How much of a bias to subtract, as a number.

    Raises:
        UsageError: If it is none, or not finite.
    """
    is_number = isinstance(strength, int | float) and not isinstance(strength, bool)
    if not is_number or not math.isfinite(strength):
        raise UsageError(f"The strength {strength!r} is no finite number.", "Write strength=1.0.")
    return float(strength)


def checked_batch_size(size: Any) -> int:
    """How many chats are answered together.

    Raises:
        UsageError: If it is no whole number above 0.
    """
    if not isinstance(size, int) or isinstance(size, bool) or size < 1:
        raise UsageError(f"The batch size {size!r} is no whole number above 0.", "Leave it out.")
    return size
