"""Asks a model behind an OpenAI-compatible API: chats in, one outcome each out.

* Every chat ends as a `Reply` or as a `Failure` with its reason, in the order of the chats. Rate
  limits, errors of the server, time-outs, broken connections and bodies that are no chat completion
  are tried again, with growing waits or as long as the server asks for.
* What no further try can mend ends the run with one error instead of thousands of failures: a wrong
  key, an unknown model, a spent quota, a server that cannot be reached, or that stops replying.
* The key is sent to the server and goes nowhere else: to no file, and into no message.
"""

import os
import random
import re
from collections.abc import Sequence
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from ipaddress import ip_address
from threading import Event, Lock
from time import time
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from tsdi.engines.threads import in_threads
from tsdi.errors import ModelError, UsageError
from tsdi.files import parse_json

if TYPE_CHECKING:
    import openai

Chat = tuple[dict[str, str], ...]  # messages, each {"role", "content"}
Prompt = Chat | str  # a text is continued, by the API's completions

KEY, URL = "OPENAI_API_KEY", "OPENAI_BASE_URL"
DEFAULT_URL = "https://api.openai.com/v1"
_NO_KEY = "none"  # what a local server is sent that asks for no key
_LONGEST_REASON = 300  # characters
# Statuses that more tries may mend, as all from 500 on.
_AGAIN = {408, 409, 425, 429}
_HOPELESS = {
    401: f"Set {KEY} to a key that it accepts.",
    402: "Pay for it, then run again with --resume.",
    404: "Name a model that it serves; the URL mostly ends in /v1.",
}


@dataclass(frozen=True)
class Patience:
    """How hard a client tries. Times are in seconds.

    Attributes:
        threads: Most requests at once.
        timeout: How long the server may send nothing before a try has failed.
        retries: Tries after the first one.
        first_wait: Before the second try; each later wait is twice as long.
        longest_wait: No wait is longer. A server that asks for more time than this gets no further
            try.
        give_up: After how many requests in a row without a reply the run is ended.
    """

    threads: int = 16
    timeout: float = 120.0
    retries: int = 6
    first_wait: float = 0.5
    longest_wait: float = 60.0
    give_up: int = 10


@dataclass(frozen=True)
class Reply:
    """What the model wrote.

    Attributes:
        text: The reply; empty if it has none.
        finish: Why it ended: "stop", "length", "content_filter" or what the server says.
        refusal: The model's refusal, where the API says so apart from the text.
        first_token: The likeliest first tokens with their log-probabilities, where offered.
    """

    text: str
    finish: str = "stop"
    refusal: str = ""
    first_token: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True)
class Failure:
    """A request that got no reply.

    Attributes:
        reason: Why, in one line.
    """

    reason: str


@dataclass(frozen=True)
class _Try:
    """How one try ended: with an outcome; whether another one may help; whether it was answered."""

    outcome: Reply | Failure
    again: bool = False
    wait: float = 0.0  # at least, as the server asks
    answered: bool = False


class ChatClient:
    """One model behind an API.

    Args:
        model: What the API calls it.
        url: Base URL, such as "http://localhost:8000/v1"; None takes OPENAI_BASE_URL, else OpenAI.
        patience: How hard to try.

    Attributes:
        model: As above.
        url: The base URL without credentials, for provenance and messages.

    Raises:
        UsageError: If the URL is none, the key is missing, or openai is not installed.
    """

    def __init__(
        self, model: str, url: str | None = None, patience: Patience | None = None
    ) -> None:
        self.model = model
        self._base_url = url or os.environ.get(URL) or DEFAULT_URL
        self.url = _public(self._base_url)
        self._key = _read_key(self._base_url, self.url)
        self._patience = patience or Patience()
        self._api = _import_openai()
        self._left_out: set[str] = set()  # options that the model turned out not to take
        self._lock = Lock()
        self._answered = False
        self._failures = 0  # in a row

    def ask(
        self,
        chats: Sequence[Prompt],
        max_tokens: int,
        top_logprobs: int = 0,
        *,
        temperature: float = 0.0,
        seed: int = 0,
        extra: Sequence[dict[str, Any]] | None = None,
    ) -> list[Reply | Failure]:
        """Ask every chat once.

        Options that the model does not take (some take no temperature, or give no
        log-probabilities) are left out as soon as it says so.

        Args:
            chats: What is asked.
            max_tokens: Most tokens of a reply.
            top_logprobs: How many of the likeliest first tokens to ask for.
            temperature: 0 is greedy decoding.
            seed: Decides the draws, where the API can be told.
            extra: Of each chat, what its request has besides what the API defines.

        Returns:
            One outcome per chat, in their order.

        Raises:
            ModelError: If going on makes no sense; see the module.
        """
        options: dict[str, Any] = {
            "temperature": temperature,
            "seed": seed,
            "max_tokens": max_tokens,
        }
        if top_logprobs:
            options |= {"logprobs": True, "top_logprobs": top_logprobs}
        patience = self._patience
        with self._api.OpenAI(
            api_key=self._key, base_url=self._base_url, timeout=patience.timeout, max_retries=0
        ) as api:

            def ask_one(asked: tuple[Prompt, dict[str, Any]], stop: Event) -> Reply | Failure:
                chat, more = asked
                return self._ask(api, chat, {**options, "extra_body": more}, stop)

            bodies = extra if extra is not None else [{}] * len(chats)
            return in_threads(ask_one, list(zip(chats, bodies, strict=True)), patience.threads)

    def _ask(
        self, api: "openai.OpenAI", chat: Prompt, options: dict[str, Any], stop: Event
    ) -> Reply | Failure:
        """Ask one chat, as often as makes sense."""
        patience, wait = self._patience, self._patience.first_wait
        tried = self._try(api, chat, options)
        for _ in range(patience.retries):
            pause = max(tried.wait, wait * random.uniform(0.75, 1.0))  # so that not all come back
            if not tried.again or pause > patience.longest_wait or stop.wait(pause):
                break
            wait = min(2 * wait, patience.longest_wait)
            tried = self._try(api, chat, options)
        self._count(tried)
        return tried.outcome

    def _count(self, tried: _Try) -> None:
        """End the run if too many requests in a row got no reply."""
        with self._lock:
            self._failures = 0 if tried.answered else self._failures + 1
            self._answered |= tried.answered
            if self._failures >= self._patience.give_up and isinstance(tried.outcome, Failure):
                raise ModelError(
                    f"{self.url} gave {self._failures} requests in a row no reply, the last for"
                    f" this: {tried.outcome.reason}.",
                    "They are not recorded: run again with --resume once it replies.",
                )

    def _try(self, api: "openai.OpenAI", chat: Prompt, options: dict[str, Any]) -> _Try:
        """Ask one chat once."""
        used = {name: value for name, value in options.items() if name not in self._left_out}
        try:
            raw: Any
            if isinstance(chat, str):
                raw = api.completions.with_raw_response.create(
                    model=self.model, prompt=chat, **used
                )
            else:
                raw = api.chat.completions.with_raw_response.create(
                    model=self.model,
                    messages=list(chat),  # type: ignore[arg-type]
                    **used,
                )
        except self._api.APITimeoutError:
            return _Try(Failure(f"no reply within {self._patience.timeout:g} s"), again=True)
        except self._api.APIConnectionError as error:
            return self._broken(type(error.__cause__).__name__)
        except self._api.APIStatusError as error:
            unknown = _unknown_option(error, used)
            if unknown:
                self._left_out.add(unknown)
                return self._try(api, chat, options)
            return self._refused(error)
        body = raw.http_response.content
        reply = read_reply(body)
        if reply is None:
            said = self._one_line(body.decode(errors="replace"))
            return _Try(Failure(f"not a chat completion: {said}"), again=True, answered=True)
        return _Try(reply, answered=True)

    def _broken(self, cause: str) -> _Try:
        """What a connection that could not be made, or that broke, means."""
        if cause == "ConnectError" and not self._answered:
            raise ModelError(
                f"{self.url} cannot be reached.", "Start the server, or name another URL."
            ) from None
        return _Try(Failure(f"the connection failed ({cause})"), again=True)

    def _refused(self, error: "openai.APIStatusError") -> _Try:
        """What an error status means."""
        status = error.status_code
        said = f"{status} {_phrase(status)}: {self._one_line(_message(error))}"
        remedy = _HOPELESS.get(402 if error.code == "insufficient_quota" else status)
        if remedy:
            raise ModelError(f"{self.url}, model {self.model!r}: {said}.", remedy) from None
        again = status in _AGAIN or status >= 500
        filtered = error.code == "content_filter"  # a word on this prompt, not a failing server
        wait = _asked_wait(error.response.headers.get("retry-after", "")) if again else 0.0
        return _Try(Failure(said), again, wait, answered=filtered)

    def _one_line(self, text: str) -> str:
        """Untrusted text as a reason: one line, not too long, and without the key."""
        if self._key != _NO_KEY:
            text = text.replace(self._key, "***")
        line = " ".join(text.split()).removesuffix(".")
        return line if len(line) <= _LONGEST_REASON else line[: _LONGEST_REASON - 1] + "…"


def read_reply(body: bytes) -> Reply | None:
    """The first choice of a completion, or None if the body holds none.

    Args:
        body: Anything that a server may send.
    """
    try:
        choice = parse_json(body)["choices"][0]
        message = choice["message"] if "message" in choice else {"content": choice["text"]}
        text, refusal = message.get("content"), message.get("refusal")
    except (ValueError, LookupError, TypeError, AttributeError):
        return None
    if not isinstance(text, str | None):
        return None
    return Reply(
        text=text or "",
        finish=str(choice.get("finish_reason") or "unknown"),
        refusal=refusal if isinstance(refusal, str) else "",
        first_token=_first_token(choice),
    )


def _first_token(choice: dict[str, Any]) -> tuple[tuple[str, float], ...]:
    """The likeliest first tokens; none if they are missing or are no log-probabilities."""
    try:
        tops = choice["logprobs"]["content"][0]["top_logprobs"]
        found = tuple((str(top["token"]), float(top["logprob"])) for top in tops)
    except (LookupError, TypeError, ValueError):
        return ()
    return found if all(logprob <= 1e-6 for _, logprob in found) else ()  # NaN is not


def _unknown_option(error: "openai.APIStatusError", used: dict[str, Any]) -> str:
    """The option that a request was turned down for; empty if it was not for one."""
    if error.status_code not in (400, 403, 422):
        return ""
    text = _message(error)
    if "context" in text:  # too long a chat: no fault of max_tokens
        return ""
    named = (name for name in used if name == error.param or re.search(rf"\b{name}\b", text))
    return next(named, "")


def _message(error: "openai.APIStatusError") -> str:
    """What the server says of an error."""
    said = error.body.get("message") if isinstance(error.body, dict) else None
    return said if isinstance(said, str) and said else error.response.text


def _phrase(status: int) -> str:
    return HTTPStatus(status).phrase if status in {known.value for known in HTTPStatus} else "error"


def _asked_wait(retry_after: str) -> float:
    """Seconds from a Retry-After header, a number or a date; 0 if it is neither."""
    try:
        seconds = float(retry_after)
    except ValueError:
        try:
            seconds = parsedate_to_datetime(retry_after).timestamp() - time()
        except (ValueError, TypeError, OverflowError):
            return 0.0
    return seconds if seconds > 0 else 0.0


def _public(url: str) -> str:
    """A base URL without credentials and query.

    Raises:
        UsageError: If it is none.
    """
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        host = None
    if not host or parts.scheme not in ("http", "https"):
        raise UsageError("The API's URL is none.", f"Such as {DEFAULT_URL}.")
    host = f"[{host}]" if ":" in host else host
    return f"{parts.scheme}://{host}{f':{port}' if port else ''}{parts.path}".rstrip("/")


def _read_key(url: str, public: str) -> str:
    """The API's key; a server on this machine may have none.

    Raises:
        UsageError: If it is missing, or cannot be one.
    """
    key = os.environ.get(KEY, "").strip()
    if not key and is_loopback(urlsplit(url).hostname or ""):
        return _NO_KEY
    if not key:
        raise UsageError(
            f"{public} needs a key, and {KEY} is not set.",
            f"Set {KEY}, to any word if the server asks for no key.",
        )
    if not re.fullmatch(r"[!-~]+", key):
        raise UsageError(f"{KEY} holds what no key can: spaces or letters beyond ASCII.")
    return key


def is_loopback(host: str) -> bool:
    """Whether a host is this machine, and nothing else can reach it."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _import_openai() -> Any:
    try:
        import openai
    except ImportError:
        raise UsageError(
            "Models behind an API need openai, which is not installed.",
            "Run: pip install 'tsdi[openai]'",
        ) from None
    return openai
