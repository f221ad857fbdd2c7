"""A client of OpenAI-compatible APIs: chats in, one outcome each out.

* Every chat ends as a `Reply` or as a `Failure` with its reason, in the order of the chats. Rate
  limits, errors of the server, time-outs, broken connections and bodies that are no chat completion
  are tried again, with growing waits or as long as the server asks for.
* What no further try can mend ends the run with one error instead of thousands of failures: a wrong
  key, an unknown model, a spent quota, a server that cannot be reached, or that stops replying.
* The key is sent to the server and goes nowhere else (`tsdi.engines.address`).
* A body too large to be a reply is not read, and no try takes for ever.
"""

import logging
import random
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from threading import Event, Lock
from time import monotonic, time
from typing import TYPE_CHECKING, Any

from tsdi.engines.address import KEY, Address
from tsdi.engines.replies import Failure, Reply, read_reply
from tsdi.engines.threads import in_threads, within
from tsdi.errors import ModelError, UsageError

if TYPE_CHECKING:
    import openai

_LOG = logging.getLogger(__name__)
Chat = tuple[dict[str, str], ...]  # messages, each {"role", "content"}
Prompt = Chat | str  # a text is continued, by the API's completions

_LONGEST_REASON = 300  # characters
_MOST_SHOWN = 10_000  # bytes of a body that may become a reason
# Statuses that more tries may mend, as all from 500 on.
_AGAIN = {408, 409, 425, 429}
_HOPELESS = {
    401: f"Set {KEY} to a key that it accepts.",
    402: "Pay for it, then run again with --resume.",
    404: "Name a model that it serves; the URL mostly ends in /v1.",
}
# How OpenAI, Azure and others say that a content filter turned a prompt down.
_FILTERED = {
    *("content_filter", "content_policy_violation", "ResponsibleAIPolicyViolation"),
    *("moderation_blocked", "data_inspection_failed"),
}
_SAY_EVERY = 10.0  # seconds between words on troubles that may pass


@dataclass(frozen=True)
class Patience:
    """Limits of concurrency, time and retries of a client; times are in seconds.

    Attributes:
        threads: Most requests at once.
        timeout: Longest silence of the server before a try has failed.
        retries: Tries after the first one.
        first_wait: Wait before the second try; each later wait is twice as long.
        longest_wait: Longest wait. A server that asks for more time than this gets no further
            try.
        give_up: Number of requests in a row without a reply after which the run ends.
        longest_try: Longest time of one try; one that takes longer fails for good.
    """

    threads: int = 16
    timeout: float = 120.0
    retries: int = 6
    first_wait: float = 0.5
    longest_wait: float = 60.0
    give_up: int = 10
    longest_try: float = 600.0


@dataclass(frozen=True)
class _Try:
    """The outcome of one try, whether another one may help, and whether there was a reply."""

    outcome: Reply | Failure
    again: bool = False
    wait: float = 0.0  # at least, as the server asks
    answered: bool = False


class ChatClient:
    """A client of one model behind an API.

    Args:
        model: What the API calls it.
        url: Base URL, such as "http://localhost:8000/v1"; None takes OPENAI_BASE_URL, else OpenAI.
        patience: Limits of concurrency, time and retries.

    Attributes:
        model: What the API calls it.
        url: The base URL without credentials and query, for provenance and messages.
        replied: Whether a request got a reply by now.

    Raises:
        UsageError: If the URL is none, the key is missing, or openai is not installed.
    """

    def __init__(
        self, model: str, url: str | None = None, patience: Patience | None = None
    ) -> None:
        self.model = model
        self._address = Address(url)
        self.url = self._address.public
        self.replied = False
        self._patience = patience or Patience()
        self._api = _import_openai()
        self._left_out: set[str] = set()  # options that the model turned out not to take
        self._lock = Lock()
        self._reached = False
        self._failures = 0  # failed requests in a row
        self._said = -_SAY_EVERY  # time of the last warning

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
        log-probabilities) are left out as soon as it says so. `extra` is what the request of each
        chat has besides what the API defines.

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
        with self._open() as api:

            def ask_one(asked: tuple[Prompt, dict[str, Any]], stop: Event) -> Reply | Failure:
                chat, more = asked
                return self._ask(api, chat, {**options, "extra_body": more}, stop)

            bodies = extra if extra is not None else [{}] * len(chats)
            return in_threads(ask_one, list(zip(chats, bodies, strict=True)), patience.threads)

    def _open(self) -> "openai.OpenAI":
        from tsdi.engines.bounded import LARGEST_BODY, bound

        client: openai.OpenAI = self._api.OpenAI(
            api_key=self._address.key,
            base_url=self._address.base,
            default_query=self._address.query,
            default_headers={"Accept-Encoding": "identity"},
            timeout=self._patience.timeout,
            max_retries=0,
            http_client=self._api.DefaultHttpxClient(
                event_hooks={"response": [bound(LARGEST_BODY)]}
            ),
        )
        return client

    def _ask(
        self, api: "openai.OpenAI", chat: Prompt, options: dict[str, Any], stop: Event
    ) -> Reply | Failure:
        """Ask one chat, with the retries that make sense."""
        patience, wait = self._patience, self._patience.first_wait
        tried = self._try(api, chat, options)
        for _ in range(patience.retries):
            pause = max(tried.wait, wait * random.uniform(0.75, 1.0))  # so that not all come back
            if not tried.again or pause > patience.longest_wait:
                break
            self._say(tried, pause)
            if stop.wait(pause):
                break
            wait = min(2 * wait, patience.longest_wait)
            tried = self._try(api, chat, options)
        self._count(tried)
        return tried.outcome

    def _say(self, tried: _Try, pause: float) -> None:
        """Log a warning now and then about tries that failed and the wait."""
        if not isinstance(tried.outcome, Failure) or monotonic() < self._said + _SAY_EVERY:
            return
        self._said = monotonic()
        reason = tried.outcome.reason
        _LOG.warning("%s: %s. Another try in %.0f s.", self.url, reason, pause)

    def _count(self, tried: _Try) -> None:
        """End the run if too many requests in a row got no reply."""
        with self._lock:
            self._failures = 0 if tried.answered else self._failures + 1
            self.replied |= isinstance(tried.outcome, Reply)
            if self._failures >= self._patience.give_up and isinstance(tried.outcome, Failure):
                raise ModelError(
                    f"{self.url} gave {self._failures} requests in a row no reply, the last for"
                    f" this: {tried.outcome.reason}.",
                    "They are not recorded: run again with --resume once it replies.",
                )

    def _try(self, api: "openai.OpenAI", chat: Prompt, options: dict[str, Any]) -> _Try:
        """Ask one chat once."""
        used = {name: value for name, value in options.items() if name not in self._left_out}
        longest = self._patience.longest_try
        try:
            body = within(lambda: self._request(api, chat, used), longest)
        except TimeoutError:
            return _Try(Failure(f"no whole reply within {longest:g} s"))
        except self._api.APIConnectionError as error:
            return self._broken(error)
        except self._api.APIStatusError as error:
            self._reached = True
            unknown = _unknown_option(error, used)
            if unknown:
                self._left_out.add(unknown)
                return self._try(api, chat, options)
            return self._refused(error)
        return self._read(body)

    def _request(self, api: "openai.OpenAI", chat: Prompt, used: dict[str, Any]) -> bytes:
        """The body that a chat gets."""
        raw: Any
        if isinstance(chat, str):
            raw = api.completions.with_raw_response.create(model=self.model, prompt=chat, **used)
        else:
            raw = api.chat.completions.with_raw_response.create(
                model=self.model,
                messages=list(chat),  # type: ignore[arg-type]
                **used,
            )
        body: bytes = raw.http_response.content
        return body

    def _read(self, body: bytes) -> _Try:
        """The outcome of a try that got a body."""
        self._reached = True
        reply = read_reply(body)
        if reply is None:
            said = self._one_line(body[:_MOST_SHOWN].decode(errors="replace"))
            return _Try(Failure(f"not a chat completion: {said}"), again=True)
        return _Try(self._without_secrets(reply), answered=True)

    def _broken(self, error: "openai.APIConnectionError") -> _Try:
        """The outcome of a try whose connection could not be made, or broke."""
        from tsdi.engines.bounded import TooLargeError

        cause = error.__cause__
        if isinstance(error, self._api.APITimeoutError):
            return _Try(Failure(f"no reply within {self._patience.timeout:g} s"), again=True)
        if isinstance(cause, TooLargeError):
            self._reached = True
            return _Try(Failure(f"not a chat completion: {cause}"))
        name = type(cause).__name__
        if name == "ConnectError" and not self._reached:
            raise ModelError(
                f"{self.url} cannot be reached.", "Start the server, or name another URL."
            ) from None
        return _Try(Failure(f"the connection failed ({name})"), again=True)

    def _refused(self, error: "openai.APIStatusError") -> _Try:
        """The outcome of a try that got an error status."""
        status = error.status_code
        said = f"{status} {_phrase(status)}: {self._one_line(_message(error))}"
        remedy = _HOPELESS.get(402 if error.code == "insufficient_quota" else status)
        if remedy:
            raise ModelError(f"{self.url}, model {self.model!r}: {said}.", remedy) from None
        again = status in _AGAIN or status >= 500
        if not again:
            filtered = _is_filtered(error)  # a word on this prompt, not a failing server
            return _Try(Failure(said, "filter" if filtered else "error"), answered=filtered)
        wait = _asked_wait(error.response.headers.get("retry-after", ""))
        return _Try(Failure(said), again, wait)

    def _one_line(self, text: str) -> str:
        """Untrusted text as one short line without the key, for a reason."""
        line = " ".join(self._address.hide(text).split()).removesuffix(".")
        return line if len(line) <= _LONGEST_REASON else line[: _LONGEST_REASON - 1] + "…"

    def _without_secrets(self, reply: Reply) -> Reply:
        """A reply with keys hidden, as a server may echo its request."""
        hide = self._address.hide_in_reply
        return replace(
            reply,
            text=hide(reply.text),
            refusal=hide(reply.refusal),
            thought=hide(reply.thought),
            finish=hide(reply.finish),
        )


def _unknown_option(error: "openai.APIStatusError", used: dict[str, Any]) -> str:
    """The option for which a request was turned down; "" if it was not for one."""
    if error.status_code not in (400, 403, 422):
        return ""
    text = _message(error)
    if "context" in text:  # too long a chat: no fault of max_tokens
        return ""
    named = (name for name in used if name == error.param or re.search(rf"\b{name}\b", text))
    return next(named, "")


def _is_filtered(error: "openai.APIStatusError") -> bool:
    """Whether a content filter turned the prompt down, by the code at any depth of the body."""
    inner = error.body.get("innererror") if isinstance(error.body, dict) else None
    codes = [error.code, inner.get("code") if isinstance(inner, dict) else None]
    return any(isinstance(code, str) and code in _FILTERED for code in codes)


def _message(error: "openai.APIStatusError") -> str:
    """The server's words on an error."""
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


def _import_openai() -> Any:
    try:
        import openai
    except ImportError:
        raise UsageError(
            "Models behind an API need openai, which is not installed.",
            "Run: pip install 'tsdi[openai]'",
        ) from None
    return openai
