"""Messages and errors converted between Inspect and tsdi."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from inspect_ai._util.error import PrerequisiteError
from inspect_ai.model import ChatMessage, ChatMessageAssistant, ChatMessageSystem, ChatMessageUser
from rich.markup import escape

from tsdi.errors import TsdiError, UsageError

if TYPE_CHECKING:  # keeps torch out of what every run of Inspect loads
    from tsdi.engines.base import Message

_ROLES = {"system": ChatMessageSystem, "user": ChatMessageUser, "assistant": ChatMessageAssistant}


@contextmanager
def shown_in_one_line() -> Iterator[None]:
    """Turn errors of tsdi into those that Inspect shows without a traceback."""
    try:
        yield
    except TsdiError as error:
        raise PrerequisiteError(escape(f"Error: {error}")) from error


def to_message(message: ChatMessage) -> "Message":
    """Convert a message of Inspect's into one of tsdi's.

    Raises:
        UsageError: If it is more than a text of the system, the user or the assistant.
    """
    parts = [] if isinstance(message.content, str) else message.content
    strange = [part.type for part in parts if part.type not in ("text", "reasoning")]
    if message.role not in _ROLES or strange:
        raise UsageError(f"tsdi models read no {[message.role, *strange][-1]} messages.")
    return {"role": message.role, "content": message.text}


def from_message(message: "Message") -> ChatMessage:
    """Convert a message of tsdi's into one of Inspect's."""
    made: ChatMessage = _ROLES[message["role"]](content=message["content"])
    return made
