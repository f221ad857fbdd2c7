"""Output of commands: two consoles, a progress bar, JSON."""

import json
import logging
import re
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console, ConsoleOptions, RenderResult
from rich.measure import Measurement
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
)
from rich.table import Table
from rich.text import Text

from tsdi.cli.frame import harmless

SIGNS = "signs of life"
_WIDEST = 1000  # characters of a table
_SIGN_EVERY = 30.0  # seconds between signs of life where there is no terminal for a bar
_BURST = 20.0  # times as long an item takes after those that a resumed run found done
_RAW_IN_JSON = re.compile(r"[\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


class _Plain(Console):
    """A console that prints strings literally, without markup; style alone sets looks.

    Names, answers and errors come from anywhere; whatever prints them, in a table or without, none
    is taken for markup, and no control character reaches the terminal.
    """

    def __init__(self, stderr: bool = False) -> None:
        super().__init__(stderr=stderr, highlight=False, emoji=False, markup=False)

    def render_str(self, text: str, **options: Any) -> Text:
        return super().render_str(harmless(text), **options)

    def print(self, *objects: Any, crop: bool = False, **options: Any) -> None:
        """Print without cutting off what is wider than the terminal, which wraps it."""
        super().print(*objects, crop=crop, **options)


out = _Plain()
err = _Plain(stderr=True)


def one_line(text: str, width: int) -> str:
    """Text from elsewhere as one line, cut to a width."""
    line = " ".join(harmless(text).split())
    return line if len(line) <= width else line[: width - 1] + "…"


class _Whole(Table):
    """A table whose words and numbers stay whole, however narrow the terminal is."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        wide = options.update(width=_WIDEST)
        for column in self.columns:
            cells = [Measurement.get(console, wide, c) for c in (column.header, *column.cells)]
            column.min_width = max(c.maximum if column.no_wrap else c.minimum for c in cells)
        if self.__rich_measure__(console, wide).minimum > options.max_width:
            self.box, self.pad_edge = None, False
        least = self.__rich_measure__(console, wide).minimum
        yield from super().__rich_console__(
            console, options.update(width=max(least, options.max_width))
        )


def table(title: str, columns: Sequence[str]) -> Table:
    """An empty table; its first column, and those without a heading, are for words.

    In a narrow terminal words are wrapped, and numbers stay whole.
    """
    made = _Whole(title=title, title_justify="left")
    for place, column in enumerate(columns):
        number = bool(column and place)
        made.add_column(column, justify="right" if number else "left", no_wrap=number)
    return made


def styled(*parts: tuple[str, str]) -> Text:
    """Pieces of text, each with its style, to be printed as they are."""
    return Text.assemble(*((harmless(text), style) for text, style in parts))


def red(text: str) -> Text:
    """Text to be printed in red."""
    return Text(harmless(text), style="red")


def note(text: str) -> None:
    """Print a note on standard error, where it does not disturb JSON."""
    err.print(text, style="dim")


class _Notes(logging.Handler):
    """A log handler that prints the library's log as notes."""

    def emit(self, record: logging.LogRecord) -> None:
        note(record.getMessage())


logging.getLogger("tsdi").addHandler(_Notes())
logging.getLogger("tsdi").setLevel(logging.INFO)


def say(text: str) -> None:
    """Print a text of our own, wrapped to the terminal."""
    out.print(text)


def show_answer(text: str) -> None:
    """Print a model's answer literally; on a terminal without control characters."""
    sys.stdout.write((harmless(text) if sys.stdout.isatty() else text) + "\n")


def show_json(data: Any) -> None:
    """Print one JSON object on standard output, without NaN and control characters."""
    plain = not (sys.stdout.encoding or "").lower().startswith("utf")
    text = json.dumps(data, ensure_ascii=plain, allow_nan=False, default=str)
    print(_RAW_IN_JSON.sub(lambda match: f"\\u{ord(match[0]):04x}", text))


@contextmanager
def bar(text: str, shown: bool = True) -> Iterator[Callable[[str, int, int], None]]:
    """A progress bar on standard error; without a terminal, a line there now and then.

    Args:
        text: Name of the work, until the first call names a part of it.
        shown: False shows nothing, for all processes of a training but one.

    Yields:
        Called with what is being done, how much of it is done, and how much there is.
    """
    if shown and not err.is_terminal:
        with _signs_of_life(text) as sign:
            yield sign.update
        return
    sign = SignOfLife(text)
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        _Left(sign),
    )
    with Progress(*columns, console=err, transient=True, disable=not shown) as progress:
        task = progress.add_task(harmless(text), total=None)

        def update(description: str, done: int, total: int) -> None:
            sign.update(description, done, total)
            progress.update(task, description=harmless(description), completed=done, total=total)

        yield update


class _Left(ProgressColumn):
    """How long the rest takes, counting down between two calls."""

    def __init__(self, sign: "SignOfLife") -> None:
        super().__init__()
        self._sign = sign

    def render(self, task: Task) -> Text:
        return Text(self._sign.left())


@contextmanager
def _signs_of_life(text: str) -> Iterator["SignOfLife"]:
    """Print a line of progress every half minute, from a thread of its own."""
    sign, ended = SignOfLife(text), threading.Event()

    def beat() -> None:
        while not ended.wait(_SIGN_EVERY):
            note(sign.line())

    thread = threading.Thread(target=beat, name=SIGNS, daemon=True)
    thread.start()
    try:
        yield sign
    finally:
        ended.set()
        thread.join()


@dataclass
class SignOfLife:
    """The progress of long work, as a line for a log."""

    text: str
    clock: Callable[[], float] = time.monotonic
    _began: float = field(init=False)
    _first: tuple[float, int] = field(init=False)  # time and count from which the pace is taken
    _last: tuple[float, int] = field(init=False)  # time and count by now
    _at_once: int = 1  # items between the last two calls
    _total: int = 0

    def __post_init__(self) -> None:
        self._began = self.clock()
        self._first = self._last = (self._began, 0)

    def update(self, description: str, done: int, total: int) -> None:
        """Note what is being done, how much of it is done, and how much there is."""
        now = (self.clock(), done)
        if (description, total) != (self.text, self._total) or done < self._last[1]:
            self.text, self._total, self._first, self._last = description, total, now, now
        elif done > self._last[1]:
            if self._is_slower(now[0], done - self._last[1]):
                self._first = self._last
            self._at_once, self._last = done - self._last[1], now

    def left(self) -> str:
        """How long the rest takes at the pace so far; "" where that is not known."""
        (time_, done), now = self._last, self.clock()
        if not self._first[1] < done < self._total or self._is_slower(now, self._at_once):
            return ""
        seconds = time_ + self._pace() * (self._total - done) - now
        return f"about {_duration(max(0.0, seconds))} left"

    def _pace(self) -> float:
        """Seconds an item so far; 0 where none is done."""
        (began, before), (now, done) = self._first, self._last
        return (now - began) / max(1, done - before)

    def _is_slower(self, now: float, items: int) -> bool:
        """Whether items take so long that those before them were found done by a resume."""
        took = now - self._last[0]
        return self._last[1] > self._first[1] and took > _BURST * self._pace() * items

    def line(self) -> str:
        """The progress by now, since when, and how long the rest takes."""
        done, total = self._last[1], self._total
        amount = f" {done} of {total}," if total else ""
        rest = f", {self.left()}" if self.left() else ""
        return f"{self.text}:{amount} at work for {_duration(self.clock() - self._began)}{rest}"


def _duration(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def quiet_libraries() -> None:
    """Keep the libraries' own bars, notes and warnings of their future off the terminal."""
    import huggingface_hub.utils.logging as hub_logging
    from transformers.utils import logging as transformers_logging

    warnings.filterwarnings("ignore", category=FutureWarning)  # meant for developers
    hub_logging.set_verbosity(logging.ERROR)
    transformers_logging.disable_progress_bar()
    transformers_logging.set_verbosity_error()
