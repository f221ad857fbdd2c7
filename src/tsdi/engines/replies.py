"""Replies and failures of models behind OpenAI-compatible APIs."""

from dataclasses import dataclass
from typing import Any, Literal

from tsdi.files import parse_json

NO_TEXT = "no text"
"""How a reply without text, refusal or thought ends, such as one that calls a tool."""

_ENDED_ITSELF = ("stop", "tool_calls", "function_call", "unknown")


@dataclass(frozen=True)
class Reply:
    """A model's reply: text, first tokens, and why it ended.

    Attributes:
        text: The reply; empty if it has none.
        finish: Why it ended: "stop", "length", "content_filter" or what the server says.
        refusal: The model's refusal, where the API says so apart from the text.
        first_token: The likeliest first tokens with their log-probabilities, where offered.
        thought: The model's thought, where the API keeps it apart from the text.
    """

    text: str
    finish: str = "stop"
    refusal: str = ""
    first_token: tuple[tuple[str, float], ...] = ()
    thought: str = ""


@dataclass(frozen=True)
class Failure:
    """A request that got no reply.

    Attributes:
        reason: Why, in one line.
        finish: "filter" if a content filter turned the prompt down, "error" if the server did so
            for another reason; "" if a later try may get a reply.
    """

    reason: str
    finish: Literal["", "filter", "error"] = ""


def read_reply(body: bytes) -> Reply | None:
    """The first choice of a completion; None if the body, which may be anything, holds none."""
    try:
        choice = parse_json(body, finite=False)["choices"][0]
        message = choice["message"] if "message" in choice else {"content": choice["text"]}
        text, refusal = message.get("content"), message.get("refusal")
        thought = message.get("reasoning_content") or message.get("reasoning")
    except (ValueError, LookupError, TypeError, AttributeError):
        return None
    if not isinstance(text, str | None):
        return None
    ended = str(choice.get("finish_reason") or "unknown")
    nothing = text is None and not refusal and not thought
    return Reply(
        text=text or "",
        finish=NO_TEXT if nothing and ended in _ENDED_ITSELF else ended,
        refusal=refusal if isinstance(refusal, str) else "",
        first_token=_first_token(choice),
        thought=thought if isinstance(thought, str) else "",
    )


def _first_token(choice: dict[str, Any]) -> tuple[tuple[str, float], ...]:
    """The likeliest first tokens; none if they are missing or are no log-probabilities."""
    try:
        tops = choice["logprobs"]["content"][0]["top_logprobs"]
        found = tuple((str(top["token"]), float(top["logprob"])) for top in tops)
    except (LookupError, TypeError, ValueError, OverflowError):
        return ()
    return found if all(logprob <= 1e-6 for _, logprob in found) else ()  # NaN is not
