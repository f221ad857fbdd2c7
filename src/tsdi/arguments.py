"""Checks of function arguments, whose errors fit the command line too."""

import math
from collections.abc import Iterable
from pathlib import Path
from typing import TypeAlias, TypeGuard, TypeVar

from tsdi.errors import UsageError

Name: TypeAlias = str | Path
"""What names a model, a bias or prompts: a folder or a file, or a name such as a hub id."""
T = TypeVar("T")


def as_name(what: str, value: object) -> str:
    """A name as text.

    Raises:
        UsageError: If it is neither a text nor a path, or empty.
    """
    if not isinstance(value, str | Path) or not str(value):
        raise UsageError(
            f"{what} is {value!r}.", "Name a folder or a file, or a name that is known."
        )
    return str(value)


def as_list(what: str, values: Iterable[T]) -> tuple[T, ...]:
    """Several values as a tuple; a single text is refused, as it would become its letters.

    Raises:
        UsageError: If they are no list.
    """
    if isinstance(values, str | bytes) or not isinstance(values, Iterable):
        raise UsageError(f"{what} is {values!r}.", f"Give a list, such as [{values!r}].")
    return tuple(values)


def check_whole(what: str, value: object, least: int | None = 1) -> None:
    """Raise UsageError unless a value is a whole number, and not below the least one."""
    if type(value) is not int or (least is not None and value < least):
        wanted = "a whole number" if least is None else f"a whole number from {least} on"
        raise UsageError(f"{what} must be {wanted}, not {value!r}.")


def is_number(value: object) -> TypeGuard[float]:
    """Whether a value is a number; True and False are none."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def check_number(what: str, value: object, above: float = -math.inf) -> None:
    """Raise UsageError unless a value is a finite number, greater than `above`."""
    if not is_number(value) or not above < value < math.inf:
        wanted = "a number" if above == -math.inf else f"a number above {above:g}"
        raise UsageError(f"{what} must be {wanted}, not {value!r}.")


def check_counts(options: object, *names: str) -> None:
    """Raise UsageError unless fields of some options are whole numbers from 1 on."""
    for name in names:
        check_whole(name, getattr(options, name))
