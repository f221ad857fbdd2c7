"""The server's routes: chat and text completions, models, and health."""

import asyncio
import json
import secrets
import socket
import time
import uuid
from collections.abc import AsyncGenerator
from contextlib import suppress
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect
from starlette.requests import Request as HttpRequest
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from tsdi.engines.base import Request
from tsdi.engines.transformers import TransformersEngine
from tsdi.errors import PromptError, TsdiError, UsageError
from tsdi.serving.access import Door, RefusedError
from tsdi.serving.answering import Answerer, Asked, End, Part
from tsdi.serving.request_body import Body, ChatBody, TextBody, read_body

LARGEST_BODY = 2**20  # bytes
_SLOWEST_BODY = 30.0  # seconds
_CONNECTIONS = 256
# Seconds that an idle connection is kept. Longer than clients keep theirs (httpx 5, aiohttp 15):
# a server that closes first may close while a request is on its way.
_IDLE = 30


class _Routes:
    """The handlers of the paths, for one model under one name."""

    def __init__(self, engine: TransformersEngine, name: str) -> None:
        self._answerer = Answerer(engine)
        self._name = name
        self._since = int(time.time())

    async def models(self, _: HttpRequest) -> Response:
        one = {"id": self._name, "object": "model", "created": self._since, "owned_by": "tsdi"}
        return JSONResponse({"object": "list", "data": [one]})

    async def health(self, _: HttpRequest) -> Response:
        return JSONResponse({})

    async def chat(self, http: HttpRequest) -> Response:
        body = read_body(ChatBody, await _read(http))
        messages = tuple({"role": one.role, "content": one.content} for one in body.messages)
        return await self._respond(http, body, Request(messages), body.most_tokens)

    async def text(self, http: HttpRequest) -> Response:
        body = read_body(TextBody, await _read(http))
        return await self._respond(http, body, body.prompt, body.most_tokens)

    async def _respond(
        self, http: HttpRequest, body: Body, prompt: Request | str, most_tokens: int | None
    ) -> Response:
        if body.model != self._name:
            raise RefusedError(
                404, f"The model here is {self._name!r}.", "model", "model_not_found"
            )
        seed = secrets.randbits(32) if body.seed is None else body.seed
        asked = Asked(
            prompt, most_tokens, body.temperature, seed, body.top_p, tuple(body.stop), body.strength
        )
        shape = _Shape(self._name, chat=isinstance(prompt, Request))
        parts = self._answerer.answer(asked, lambda: _left(http))
        part = await anext(parts)  # errors of the request come here, before any answer
        if body.stream:
            events = _events(parts, shape, body.stream_options.include_usage)
            return StreamingResponse(events, media_type="text/event-stream")
        while not isinstance(part, End):
            part = await anext(parts)
        return JSONResponse(shape.whole(part))


class _Shape:
    """One answer as OpenAI's JSON objects."""

    def __init__(self, model: str, chat: bool) -> None:
        self._chat = chat
        self._head = {
            "id": f"{'chatcmpl' if chat else 'cmpl'}-{uuid.uuid4().hex}",
            "created": int(time.time()),
            "model": model,
        }

    def whole(self, end: End) -> dict[str, Any]:
        """A complete answer as one object."""
        said: dict[str, Any] = {"text": end.text}
        if self._chat:
            said = {"message": {"role": "assistant", "content": end.text, "refusal": None}}
        return self._object("chat.completion", [_choice(said, end.finish)]) | _usage(end)

    def piece(self, text: str, finish: str | None = None) -> dict[str, Any]:
        """A piece of a streamed answer."""
        said: dict[str, Any] = {"text": text}
        if self._chat:
            said = {"delta": {"role": "assistant", "content": text} if finish is None else {}}
        return self._object("chat.completion.chunk", [_choice(said, finish)])

    def usage(self, end: End) -> dict[str, Any]:
        """The token counts, as a streamed piece without text."""
        return self._object("chat.completion.chunk", []) | _usage(end)

    def _object(self, kind: str, choices: list[dict[str, Any]]) -> dict[str, Any]:
        kind = kind if self._chat else "text_completion"
        return {**self._head, "object": kind, "choices": choices}


def _choice(said: dict[str, Any], finish: str | None) -> dict[str, Any]:
    return {"index": 0, **said, "logprobs": None, "finish_reason": finish}


def _usage(end: End) -> dict[str, Any]:
    counts = {"prompt_tokens": end.prompt_tokens, "completion_tokens": end.tokens}
    return {"usage": {**counts, "total_tokens": sum(counts.values())}}


async def _events(
    parts: AsyncGenerator[Part, None], shape: _Shape, with_usage: bool
) -> AsyncGenerator[str, None]:
    """An answer as server-sent events."""
    yield _event(shape.piece(""))
    try:
        async for part in parts:
            if isinstance(part, End):
                yield _event(shape.piece("", part.finish))
                if with_usage:
                    yield _event(shape.usage(part))
            elif part:
                yield _event(shape.piece(part))
    except (TsdiError, RefusedError) as error:
        yield _event(_refusal(error).body)
        return
    finally:
        await parts.aclose()
    yield "data: [DONE]\n\n"


def _event(content: dict[str, Any]) -> str:
    return f"data: {json.dumps(content)}\n\n"


async def _read(http: HttpRequest) -> bytes:
    """The body of a request whose content type is JSON, which forms of other sites cannot send."""
    kind = http.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise RefusedError(415, "The Content-Type must be application/json.")
    data = bytearray()
    try:
        async with asyncio.timeout(_SLOWEST_BODY):
            async for chunk in http.stream():
                data += chunk
                if len(data) > LARGEST_BODY:
                    raise RefusedError(413, f"A request has {LARGEST_BODY} bytes at most.")
    except TimeoutError:
        raise RefusedError(408, "The request did not arrive in time.") from None
    except ClientDisconnect:
        raise RefusedError(499, "The client has gone.") from None
    return bytes(data)


async def _left(http: HttpRequest) -> None:
    while (await http.receive())["type"] != "http.disconnect":
        pass


def _refusal(error: Exception) -> RefusedError:
    """An error as a `RefusedError`."""
    if isinstance(error, RefusedError):
        return error
    if isinstance(error, HTTPException):
        return RefusedError(error.status_code, f"{error.detail}.")
    if isinstance(error, PromptError):
        return RefusedError(400, error.problem)
    if isinstance(error, TsdiError):
        return RefusedError(500, str(error))
    return RefusedError(500, "The server failed; its log says why.")


async def _refuse(_: HttpRequest, error: Exception) -> Response:
    return _refusal(error).response()


def make_app(engine: TransformersEngine, name: str, key: str | None = None) -> Starlette:
    """The ASGI app of a model, under the name that requests call it."""
    routes = _Routes(engine, name)
    app = Starlette(
        routes=[
            Route("/v1/chat/completions", routes.chat, methods=["POST"]),
            Route("/v1/completions", routes.text, methods=["POST"]),
            Route("/v1/models", routes.models),
            Route("/health", routes.health),
        ],
        middleware=[Middleware(Door, key=key)],
        exception_handlers={
            kind: _refuse for kind in (RefusedError, TsdiError, HTTPException, Exception)
        },
    )
    app.router.redirect_slashes = False
    return app


def bind(host: str, port: int) -> socket.socket:
    """A socket bound to host and port, not listening yet.

    Raises:
        UsageError: If it is taken, or not this machine's.
    """
    made = None
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        made = socket.socket(family, kind, protocol)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind(address)
        return made
    except OSError as error:
        if made is not None:
            made.close()
        raise UsageError(
            f"Nothing can listen at {host}, port {port}: {error.strerror or error}.",
            f"Take another --port{'' if host == '127.0.0.1' else ' or --host'}.",
        ) from error


def run(app: Starlette, place: socket.socket) -> None:
    """Serve until the process is interrupted or told to end."""
    with suppress(KeyboardInterrupt):
        server(app).run([place])


def server(app: Starlette) -> uvicorn.Server:
    """The HTTP server of an app."""
    return uvicorn.Server(
        uvicorn.Config(
            app,
            http="h11",
            ws="none",
            log_level="warning",
            access_log=False,
            proxy_headers=False,
            server_header=False,
            limit_concurrency=_CONNECTIONS,
            timeout_keep_alive=_IDLE,
            timeout_graceful_shutdown=3,
        )
    )
