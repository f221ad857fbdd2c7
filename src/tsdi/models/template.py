"""Chat templates, which are code of strangers: run within bounds, and with the clock stopped."""

import datetime
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from types import FrameType
from typing import TYPE_CHECKING, Any

from jinja2 import TemplateError

from tsdi.errors import PromptError

if TYPE_CHECKING:  # keeps transformers out of what needs no tokenizer
    from transformers import PreTrainedTokenizerBase

PINNED_DATE = datetime.date(2025, 1, 1)
_DIRECTIVES = "aAwdbBmyYHIpMSfzZjUWcxXGuVDFTRe"  # of strftime
MOST_LINES = 2_000_000  # that one rendering of a template may run; a message takes about 15
MOST_CHARACTERS = 100_000_000
_LOOKS: dict[str, "_Looks"] = {}  # by template
SAID = "wheat and barley"
_DRAWS = 6  # renderings, one of which shows what is drawn at random


def apply_template(
    tokenizer: "PreTrainedTokenizerBase",
    messages: Sequence[dict[str, str]],
    template_args: Mapping[str, Any],
    *,
    tokenize: bool,
    answering: bool = True,
) -> Any:
    """A chat by the chat template, as ids or text, up to an answer's begin if answering."""
    chat = as_the_template_reads(tokenizer, messages)
    try:
        with _bounded():
            return tokenizer.apply_chat_template(
                chat,
                add_generation_prompt=answering,
                tokenize=tokenize,
                return_dict=False,
                chat_template=_pinned(tokenizer.get_chat_template()),
                **template_args,
            )
    except Exception as error:  # templates are code of strangers, and raise what they like
        said = str(error).strip().splitlines() or [""]
        known = isinstance(error, TemplateError | ValueError) and said[0]
        reason = said[0] if known else f"{type(error).__name__} {said[0]}".strip()
        raise PromptError(
            f"No chat template for a chat of {[m['role'] for m in messages]}: {reason[:300]}.",
            "Give the messages that the model was trained on.",
        ) from error


def as_the_template_reads(
    tokenizer: "PreTrainedTokenizerBase", messages: Sequence[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """A chat with its texts as lists of parts, if the chat template shows them only so.

    Templates of models that also see may pass over a text that is none of these, in silence.
    """
    in_parts = _looks_of(tokenizer).in_parts
    return [_in_parts(message) if in_parts else dict(message) for message in messages]


@dataclass(frozen=True)
class _Looks:
    """The way in which a chat template renders a user's text.

    Attributes:
        in_parts: Whether it wants texts as lists of parts.
        times: Number of times the output has the text; None if the template refuses a user's
            message alone, of which it is told when it is asked for.
    """

    in_parts: bool = False
    times: int | None = None


def check_shows_once(tokenizer: "PreTrainedTokenizerBase") -> None:
    """Raise PromptError if a chat template shows a user's text more than once.

    Then random ids cannot stand in for it between what comes before and what comes after.
    """
    if tokenizer.chat_template is not None and (_looks_of(tokenizer).times or 1) > 1:
        raise PromptError(
            f"The chat template shows a user's text {_looks_of(tokenizer).times} times.",
            "Take --prompt-format, or a template that shows it once.",
        )


def _looks_of(tokenizer: "PreTrainedTokenizerBase") -> _Looks:
    """The way in which the tokenizer's template renders a user's text; cached by template.

    Raises:
        PromptError: If it does not show it, or shows it differently each time.
    """
    template = tokenizer.get_chat_template()
    if template not in _LOOKS:
        _LOOKS[template] = _look(tokenizer, template)
    return _LOOKS[template]


def _look(tokenizer: "PreTrainedTokenizerBase", template: str) -> _Looks:
    found: list[_Looks] = []
    for in_parts in (False, True):
        text = _shown(tokenizer, template, in_parts)
        if text is not None and "'type': 'text'" not in text:  # Python's own look of a list
            found.append(_Looks(in_parts, text.count(SAID)))
    shown = next((one for one in found if one.times), None)
    if found and shown is None:
        raise PromptError(
            "The chat template shows nothing of what the user says.",
            "Mend it, or take --prompt-format.",
        )
    if shown and len({_shown(tokenizer, template, shown.in_parts) for _ in range(_DRAWS)}) > 1:
        raise PromptError(
            "The chat template makes another text of the same chat each time.",
            "Mend it, or take --prompt-format.",
        )
    return shown or _Looks()


def _in_parts(message: Mapping[str, Any]) -> dict[str, Any]:
    content = message["content"]
    parts = [{"type": "text", "text": content}] if isinstance(content, str) else content
    return {**message, "content": parts}


def _shown(tokenizer: "PreTrainedTokenizerBase", template: str, in_parts: bool) -> str | None:
    """A user's text by a template; None if it refuses it."""
    said = {"role": "user", "content": SAID}
    chat = [_in_parts(said) if in_parts else said]
    try:
        with _bounded():
            return str(
                tokenizer.apply_chat_template(chat, tokenize=False, chat_template=_pinned(template))
            )
    except Exception:  # as in `apply_template`, where it is told
        return None


@contextmanager
def _bounded() -> Iterator[None]:
    """Stops a template that runs or prints without end, in whatever thread.

    What a single operation makes, such as a text times a number, is bounded by memory alone.
    """
    lines = characters = 0

    def follow(frame: FrameType, event: str, value: Any) -> Any:
        nonlocal lines, characters
        lines += 1
        if event == "return" and isinstance(value, str):  # what is printed is yielded
            characters += len(value)
        if lines > MOST_LINES or characters > MOST_CHARACTERS:
            raise ValueError("it runs or prints without end")
        return follow

    def enter(frame: FrameType, event: str, value: Any) -> Any:
        return follow if frame.f_code.co_filename == "<template>" else None

    if sys.gettrace() is not None:  # a debugger's, which is not to be disturbed
        yield
        return
    sys.settrace(enter)
    try:
        yield
    finally:
        sys.settrace(None)


def _pinned(template: str) -> str:
    # transformers passes no functions on to templates, so the template gets one of its own.
    return preceded(_clock(), template) if "strftime_now" in template else template


@cache
def _clock() -> str:
    """A macro that prints the pinned date as transformers' function prints today's."""
    steps = [("%%", "\0")]
    for letter in _DIRECTIVES:
        shown = PINNED_DATE.strftime(f"%{letter}")
        steps += [(f"%-{letter}", shown.lstrip("0") or shown[:1]), (f"%{letter}", shown)]
    steps.append(("\0", "%"))
    return (
        "{% macro strftime_now(format) %}{% set made = namespace(text=format) %}"
        f"{{% for old, new in {steps!r} %}}{{% set made.text = made.text.replace(old, new) %}}"
        "{% endfor %}{{ made.text }}{% endmacro %}"
    )


def preceded(statements: str, template: str) -> str:
    """A template after statements that print nothing.

    transformers trims a line break behind a statement, and blanks before one that begins a line.
    What a template begins with is therefore printed as it would have been.
    """
    rest = template.lstrip()
    blank = template[: len(template) - len(rest)]
    if rest.startswith(("{%-", "{{-", "{#-")):
        blank = ""
    elif rest.startswith(("{%", "{#")) and not rest.startswith("{%+"):
        blank = blank.rstrip(" \t")
    return f"{statements}{{{{ {blank!r} }}}}{rest}"
