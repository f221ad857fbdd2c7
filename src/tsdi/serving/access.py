"""Access control before a request is read, in our server and in vLLM's.

* ``Origin`` and ``Sec-Fetch-Site``, which browsers send, do not name another site.
* The key is right, where there is one. Where there is none, ``Host`` names this machine, so that a
  page whose name was made to point here (DNS rebinding) is turned away.
"""

import hmac
import os
import re
from typing import Any
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

VLLM_KEY = "VLLM_API_KEY"
OPEN_PATH = "/health"  # tells nothing, and watchdogs have no key
_HERE = re.compile(r"(localhost|127(\.\d{1,3}){3}|\[::1\])(:\d{1,5})?", re.IGNORECASE)


class RefusedError(Exception):
    """A request is refused, with an HTTP status.

    Args:
        status: HTTP's status.
        message: Why, in one line.
        param: The field that is wrong, if it is one.
        code: OpenAI's error code, where it has one.
    """

    def __init__(
        self, status: int, message: str, param: str | None = None, code: str | None = None
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.param, self.code = status, message, param, code

    @property
    def body(self) -> dict[str, Any]:
        """The error as OpenAI words it."""
        kind = "invalid_request_error" if self.status < 500 else "server_error"
        error = {"message": self.message, "type": kind, "param": self.param, "code": self.code}
        return {"error": error}

    def response(self) -> JSONResponse:
        """The error as a response."""
        return JSONResponse(self.body, self.status)


class Door:
    """Lets requests through to an ASGI app, or refuses them.

    A request must bring the key as ``Authorization: Bearer KEY``. A key of None asks for none, and
    is for a server that only this machine reaches.
    """

    def __init__(self, app: ASGIApp, key: str | None = None) -> None:
        self._app = app
        self._key = key

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hand a request on, or answer it."""
        if scope["type"] in ("http", "websocket"):
            try:
                self._check(Headers(scope=scope), scope["path"])
            except RefusedError as refused:
                if scope["type"] == "websocket":
                    await send({"type": "websocket.close", "code": 1008})
                else:
                    await refused.response()(scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _check(self, headers: Headers, path: str) -> None:
        hosts = headers.getlist("host")
        if len(hosts) != 1 or (self._key is None and not _HERE.fullmatch(hosts[0])):
            raise RefusedError(
                403, "The Host header does not name this machine.", code="wrong_host"
            )
        if _of_another_site(headers, hosts[0]):
            raise RefusedError(403, "Pages of other sites may not ask.", code="wrong_origin")
        if self._key is not None and path != OPEN_PATH:
            given = headers.get("authorization", "")
            if not hmac.compare_digest(given.encode(), f"Bearer {self._key}".encode()):
                raise RefusedError(401, "The API key is missing or wrong.", code="invalid_api_key")


class VllmDoor(Door):
    """Access control as vLLM's ``--middleware``; the key is that of its environment.

    vLLM itself asks for its key at some paths only, and looks at neither ``Host`` nor ``Origin``.
    """

    def __init__(self, app: ASGIApp) -> None:
        super().__init__(app, os.environ.get(VLLM_KEY) or None)


def _of_another_site(headers: Headers, host: str) -> bool:
    """Whether a browser says that the request comes from a page that is not this server's own."""
    try:
        origins = [urlsplit(origin).netloc for origin in headers.getlist("origin")]
    except ValueError:
        return True
    fetched = headers.get("sec-fetch-site", "none")
    return any(origin != host for origin in origins) or fetched not in ("none", "same-origin")
