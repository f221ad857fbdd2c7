"""What all commands share: two consoles, a progress bar, JSON, and errors in one line."""

import errno
import functools
import json
import logging as logging_levels
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NoReturn, ParamSpec, TypeVar

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
)

from tsdi.errors import TsdiError

BAD_USAGE = 2
out = Console(highlight=False, emoji=False)
err = Console(stderr=True, highlight=False, emoji=False)
# Control characters, marks that turn the direction of text, and halves of surrogate pairs.
_CONTROLS = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)
_RAW_IN_JSON = re.compile(r"[\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")

P = ParamSpec("P")
R = TypeVar("R")


class Debug:
    """Whether errors are shown with their traceback."""

    on = False


def reports_errors(command: Callable[P, R]) -> Callable[P, R]:
    """Turn what a user can mend into one line on standard error and exit code 2."""

    @functools.wraps(command)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return command(*args, **kwargs)
        except (TsdiError, OSError, KeyboardInterrupt) as error:
            line = _line(error)
            if Debug.on or line is None:
                raise
            fail(line)

    return wrapped


def fail(line: str) -> NoReturn:
    """Print one line and leave with exit code 2."""
    print("Error: " + harmless(" ".join(line.split())), file=sys.stderr)
    raise typer.Exit(BAD_USAGE)


def _line(error: BaseException) -> str | None:
    if isinstance(error, TsdiError):
        return str(error)
    if isinstance(error, KeyboardInterrupt):
        return (
            "Interrupted. What was finished is kept; estimate, generate, evaluate, winrate, cleanse"
            " train, tune and study take --resume."
        )
    if isinstance(error, OSError) and error.errno != errno.EPIPE:
        return f"{error.filename or 'A file'} cannot be used: {error.strerror or error}."
    return None


def harmless(text: str) -> str:
    """Text without control characters, which could rewrite the terminal: they are shown instead."""
    return _CONTROLS.sub(lambda match: _shown(match[0]), text)


def _shown(character: str) -> str:
    code = ord(character)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


def note(text: str) -> None:
    """Say something on standard error, where it does not disturb JSON."""
    err.print(harmless(text), style="dim", markup=False)


def say(text: str) -> None:
    """Say something of our own, wrapped to the terminal."""
    out.print(harmless(text), markup=False)


def show_answer(text: str) -> None:
    """A model's answer as it is; on a terminal without control characters."""
    sys.stdout.write((harmless(text) if sys.stdout.isatty() else text) + "\n")


def show_json(data: Any) -> None:
    """One JSON object on standard output; no NaN, and nothing that could rewrite a terminal."""
    text = json.dumps(data, ensure_ascii=False, allow_nan=False, default=str)
    print(_RAW_IN_JSON.sub(lambda match: f"\\u{ord(match[0]):04x}", text))


@contextmanager
def bar(text: str) -> Iterator[Callable[[str, int, int], None]]:
    """A progress bar on standard error, if that is a terminal.

    Yields:
        Called with what is being done, how much of it is done, and how much there is.
    """
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=err, transient=True, disable=not err.is_terminal) as progress:
        task = progress.add_task(text, total=None)

        def update(description: str, done: int, total: int) -> None:
            progress.update(task, description=description, completed=done, total=total)

        yield update


def quiet_libraries() -> None:
    """Keep the libraries' own bars and notes off the terminal."""
    import huggingface_hub.utils.logging as hub_logging
    from transformers.utils import logging

    hub_logging.set_verbosity(logging_levels.ERROR)
    logging.disable_progress_bar()
    logging.set_verbosity_error()
