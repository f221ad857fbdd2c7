"""The frame of every command: errors in one line, and a refusal of empty values."""

import errno
import functools
import inspect
import re
import sys
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from io import TextIOWrapper
from typing import Any, NoReturn, ParamSpec, TypeVar

import typer
from typer.core import TyperCommand

from tsdi.errors import TsdiError

BAD_USAGE = 2
_GO_ON = ("debias",)
"""Commands that go on by themselves when they are called again."""
_LOADING = ("transformers", "vllm")
"""Engines whose models are folders, or on the hub."""
_LONGEST_ERROR = 2000
_FEW = 12  # arguments and options, which need no panels
# Control characters, marks that turn the direction of text, and halves of surrogate pairs.
_CONTROLS = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)

P = ParamSpec("P")
R = TypeVar("R")


class Debug:
    """Whether errors are shown with their traceback."""

    on = False


def reports_errors(command: Callable[P, R]) -> Callable[P, R]:
    """Wrap a command so that a TsdiError is one line on standard error, exit code 2."""

    @functools.wraps(command)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return command(*args, **kwargs)
        except (TsdiError, OSError, KeyboardInterrupt) as error:
            line = _line(error, command)
            if Debug.on or line is None:
                raise
            fail(line)

    return wrapped


class Command(TyperCommand):
    """A command that refuses empty values, unless they are the default, and options given again.

    An empty path would be the current folder. In the help of a command with many options they
    stand in panels, what beginners need first.
    """

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write arguments and options, panel by panel."""
        panels: dict[str, list[tuple[str, str]]] = {"Arguments": [], "Options": []}
        parameters = self.get_params(ctx)
        many = len(parameters) > _FEW
        for parameter in parameters:
            panel = "Arguments" if parameter.param_type_name == "argument" else "Options"
            if many:
                panel = getattr(parameter, "rich_help_panel", None) or panel
            if (record := parameter.get_help_record(ctx)) is not None:
                panels.setdefault(panel, []).append(record)
        for panel, rows in panels.items():
            if rows:
                with formatter.section(panel):
                    formatter.write_dl(rows)

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the command line as ever, once no value is empty, and none in place of another."""
        given, _, order = self.make_parser(ctx).parse_args(list(args))
        for parameter, times in Counter(order).items():
            once = parameter.param_type_name == "option" and not parameter.multiple
            if times > 1 and once and not getattr(parameter, "is_flag", False):
                fail(f"{_spelled(parameter)} is given {times} times. Give it once.")
        for parameter in self.params:
            value = given.get(parameter.name or "")
            values = value if isinstance(value, list | tuple) else [value]
            if "" in values and parameter.default != "":
                fail(f"{_spelled(parameter)} is empty. Give a value.")
        return super().parse_args(ctx, args)


def given(context: typer.Context, but: Collection[str]) -> Iterator[str]:
    """The parameters that the user gave, as spelled on the command line, but for some."""
    for parameter in context.command.params:
        source = context.get_parameter_source(parameter.name or "")
        if parameter.name not in but and source is not None and source.name != "DEFAULT":
            yield _spelled(parameter)


def _spelled(parameter: Any) -> str:
    name: str = max((*parameter.opts, parameter.name or ""), key=len)
    return name if name.startswith("-") else name.upper()


def find(
    *models: str | None,
    engine: str = "transformers",
    bias: str | None = None,
    prompts: Sequence[str] = (),
    judge: str | None = None,
) -> None:
    """Raise TsdiError where a name is nobody's, before torch is loaded, which takes seconds."""
    from tsdi.judging.registry import check_judge  # these load huggingface_hub
    from tsdi.models.biases import locate_bias
    from tsdi.models.names import locate
    from tsdi.suites.load import check_prompts

    for name in models:
        if name is not None and engine in _LOADING:
            locate(name)
    if bias is not None and engine != "openai":  # there the bias is the server's
        locate_bias(bias)
    for source in prompts:
        check_prompts(source)
    if judge is not None:
        check_judge(judge)


def fail(line: str) -> NoReturn:
    """Print one line, shortened in its middle if too long, and exit with code 2."""
    text = harmless(" ".join(line.split()))
    if len(text) > _LONGEST_ERROR:  # it quotes something of any length, and ends with the remedy
        text = f"{text[: _LONGEST_ERROR // 2]} … {text[-_LONGEST_ERROR // 2 :]}"
    print(f"Error: {text}", file=sys.stderr)
    raise typer.Exit(BAD_USAGE)


def _line(error: BaseException, command: Callable[..., Any]) -> str | None:
    if isinstance(error, KeyboardInterrupt):
        if "resume" in inspect.signature(command).parameters:
            return "Interrupted. What was finished is kept: run it again with --resume."
        if command.__name__ in _GO_ON:
            return "Interrupted. What was finished is kept: run the same command again."
    return told(error)


def told(error: BaseException) -> str | None:
    """An error in one line; None for what only a traceback explains."""
    if isinstance(error, TsdiError):
        return str(error)
    if isinstance(error, KeyboardInterrupt):
        return "Interrupted."
    if isinstance(error, OSError) and error.errno != errno.EPIPE:
        return f"{error.filename or 'A file'} cannot be used: {error.strerror or error}."
    return None


def harmless(text: str) -> str:
    """Text with its control characters shown, as they could rewrite the terminal."""
    return _CONTROLS.sub(lambda match: _shown(match[0]), text)


def _shown(character: str) -> str:
    code = ord(character)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


def tolerate_any_encoding() -> None:
    """Print a question mark for characters that standard output cannot encode."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")
