"""A queue of requests that one model answers, one at a time.

A model runs in one thread. What it writes comes out piece by piece; a client that leaves, or stops
waiting, ends its answer at the next token.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from threading import Event
from typing import Any, Literal

from tsdi.engines.base import Completion, Request, Sampling
from tsdi.engines.transformers import TransformersEngine
from tsdi.serving.access import RefusedError

ORDINARY_ANSWER = 1024  # most tokens where a request names no number


@dataclass(frozen=True)
class Asked:
    """A request for one answer, with its options of decoding.

    The prompt is a chat, or a text to go on with. Without `most_tokens` an answer takes what the
    context leaves, at most `ORDINARY_ANSWER`. Stop texts end it, and do not belong to it.
    """

    prompt: Request | str
    most_tokens: int | None = None
    temperature: float = 1.0
    seed: int = 0
    top_p: float = 1.0
    stops: tuple[str, ...] = ()
    strength: float | None = None


@dataclass(frozen=True)
class End:
    """A complete answer: its text, why it ended, and how many tokens it took."""

    text: str
    finish: Literal["stop", "length"]
    prompt_tokens: int
    tokens: int


Part = str | End
"""What `Answerer.answer` gives: an empty text when work begins, pieces of text, and the end."""


class Answerer:
    """Runs an engine for many clients, one request at a time.

    More than `most_waiting` requests are refused, and so are those that wait for `longest_wait`
    seconds.
    """

    def __init__(
        self, engine: TransformersEngine, most_waiting: int = 64, longest_wait: float = 600.0
    ) -> None:
        self._engine = engine
        self._most_waiting = most_waiting
        self._longest_wait = longest_wait
        self._pool = ThreadPoolExecutor(1, "tsdi-answers")
        self._unfinished = 0

    async def answer(
        self, asked: Asked, left: Callable[[], Coroutine[Any, Any, None]]
    ) -> AsyncGenerator[Part, None]:
        """Answer one request, until the client has left.

        Raises:
            RefusedError: If too many wait, or for too long, or the answer cannot fit the context.
            TsdiError: If the model cannot answer.
        """
        if self._unfinished > self._most_waiting:
            raise RefusedError(503, "Too many requests are waiting. Try again later.", code="busy")
        loop = asyncio.get_running_loop()
        parts: asyncio.Queue[Part | Exception] = asyncio.Queue()
        stop = Event()

        def put(part: Part | Exception) -> None:
            loop.call_soon_threadsafe(parts.put_nowait, part)

        async def watch() -> None:
            await left()
            stop.set()
            parts.put_nowait(RefusedError(499, "The client has gone."))

        self._unfinished += 1
        loop.run_in_executor(self._pool, self._work, asked, put, stop).add_done_callback(
            self._finished
        )
        watching = asyncio.create_task(watch())
        try:
            part = await self._first(parts)
            while not isinstance(part, End):
                yield part
                part = _raised(await parts.get())
            yield part
        finally:
            watching.cancel()
            stop.set()

    def _finished(self, _: Any) -> None:
        self._unfinished -= 1

    async def _first(self, parts: "asyncio.Queue[Part | Exception]") -> Part:
        try:
            async with asyncio.timeout(self._longest_wait):
                return _raised(await parts.get())
        except TimeoutError:
            raise RefusedError(503, "The model is busy. Try again later.", code="busy") from None

    def _work(self, asked: Asked, put: Callable[[Part | Exception], None], stop: Event) -> None:
        """Answer one request in the model's thread; parts and errors go to ``put``."""
        try:
            if not stop.is_set():
                put(self._write(asked, put, stop))
        except Exception as error:
            put(error)

    def _write(self, asked: Asked, put: Callable[[Part], None], stop: Event) -> End:
        prompt = self._engine.encode(asked.prompt)
        sampling = Sampling(self._most_tokens(asked, len(prompt)), asked.temperature, asked.seed)
        put("")
        sent = ""

        def seen(answer: Completion) -> bool:
            nonlocal sent
            text, ended = settled(answer.text, asked.stops)
            if text.startswith(sent) and text != sent:
                put(text.removeprefix(sent))
                sent = text
            return ended or stop.is_set()

        answer = self._engine.stream(prompt, sampling, seen, asked.strength, asked.top_p)
        text, ended = settled(answer.text, asked.stops, whole=True)
        put(text[len(sent) :])
        finish: Literal["stop", "length"] = "length" if answer.finish == "length" else "stop"
        if ended:
            finish = "stop"
        return End(text, finish, len(prompt), len(answer.token_ids))

    def _most_tokens(self, asked: Asked, prompt_length: int) -> int:
        context = self._engine.context
        room = None if context is None else context - prompt_length
        if asked.most_tokens is None:
            return ORDINARY_ANSWER if room is None else min(room, ORDINARY_ANSWER)
        if room is not None and asked.most_tokens > room:
            raise RefusedError(
                400,
                f"The prompt has {prompt_length} tokens and the context {context}, so that an "
                f"answer has {room} at most, not {asked.most_tokens}.",
                "max_tokens",
                "context_length_exceeded",
            )
        return asked.most_tokens


def _raised(part: Part | Exception) -> Part:
    if isinstance(part, Exception):
        raise part
    return part


def settled(text: str, stops: tuple[str, ...], whole: bool = False) -> tuple[str, bool]:
    """The prefix of a growing text that is final, and whether a stop text ended it.

    Stop texts do not belong to the answer; of a whole one nothing more comes.
    """
    places = [place for stop in stops if (place := text.find(stop)) >= 0]
    if places:
        return text[: min(places)], True
    if whole:
        return text, False
    text = text.rstrip("\ufffd")  # a character of which some bytes are still to come
    begun = (n for stop in stops for n in range(1, len(stop)) if text.endswith(stop[:n]))
    return text[: len(text) - max(begun, default=0)], False
