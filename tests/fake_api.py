"""An OpenAI-compatible API on loopback that misbehaves as it is told."""

import json
import threading
import time
from collections.abc import Callable
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

KEY = "sk-test-0123456789"
HANG = 0.4  # seconds, longer than a test's client waits
UNSENT = object()


def reply(text, finish="stop", top=None, **message):
    """A chat completion; `top` maps the likeliest first tokens to their log-probabilities."""
    tops = [{"token": token, "logprob": logprob} for token, logprob in (top or {}).items()]
    return {
        "object": "chat.completion",
        "choices": [
            {
                "index": 0,
                "finish_reason": finish,
                "message": {"role": "assistant", "content": text, **message},
                "logprobs": {"content": [{"token": text, "top_logprobs": tops}]} if top else None,
            }
        ],
    }


def error(status, message="no", headers=None, **fields):
    """An error as OpenAI words it."""
    body = json.dumps({"error": {"message": message, "type": "x", **fields}}).encode()
    return Answer(status=status, body=body, headers=headers or {})


class Answer:
    """What the server sends: a status, headers and a body, of which it may promise too much."""

    def __init__(
        self, body=b"", status=200, headers=None, missing=0, kind="application/json", pause=0.0
    ):
        self.body = body
        self.status = status
        self.headers = headers or {}
        self.missing = missing  # bytes that are promised and not sent
        self.kind = kind
        self.pause = pause  # seconds before each byte of the body


def ok(text, **options):
    return Answer(json.dumps(reply(text, **options)).encode())


def hang():
    """Sends nothing until the client has gone."""
    time.sleep(HANG)
    return UNSENT


TROUBLES: dict[str, Callable[[], object]] = {
    "429": lambda: error(429, "slow down"),
    "429 in a moment": lambda: error(429, "slow down", {"Retry-After": "0.01"}),
    "500": lambda: error(500, "oops"),
    "502 from a proxy": lambda: Answer(b"<html>Bad gateway</html>", 502, kind="text/html"),
    "503": lambda: error(503, "overloaded"),
    "hang": hang,
    "closed": lambda: UNSENT,
    "half a body": lambda: Answer(b'{"choices": [{"mess', missing=200),
    "headers only": lambda: Answer(b"", missing=100),
    "no JSON": lambda: Answer(b"\xff\xfe{{{ not json", kind="application/json"),
    "a page": lambda: Answer(b"<html>Please log in</html>", kind="text/html"),
    "a list": lambda: Answer(b"[1, 2]"),
    "null": lambda: Answer(b"null"),
    "no choice": lambda: Answer(b'{"choices": []}'),
    "choices of another shape": lambda: Answer(b'{"choices": {"message": 3}}'),
    "content of another shape": lambda: Answer(json.dumps(reply(["a"])).encode()),
}
"""What more tries may mend, by name."""


class FakeAPI:
    """The server's script and its record.

    Args:
        script: Called with the number of the request (from 0) and its body; returns an `Answer`, or
            UNSENT to close the connection.
    """

    def __init__(self, script):
        self.script = script
        self.requests = []  # bodies
        self.headers = []
        self.paths = []
        self.most_at_once = 0
        self._at_once = 0
        self._lock = threading.Lock()

    @property
    def said(self):
        """What each request's user said last."""
        return [body["messages"][-1]["content"] for body in self.requests]

    def answer(self, body, headers):
        with self._lock:
            number = len(self.requests)
            self.requests.append(body)
            self.headers.append(headers)
            self._at_once += 1
            self.most_at_once = max(self.most_at_once, self._at_once)
        try:
            return self.script(number, body)
        finally:
            with self._lock:
                self._at_once -= 1


@contextmanager
def serving(script):
    """A fake API, with its base URL as `url`, until the end of the block."""
    api = FakeAPI(script)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            api.paths.append(self.path)
            answer = api.answer(body, {name.lower(): value for name, value in self.headers.items()})
            if answer is UNSENT:
                self.close_connection = True
                return
            self.send_response(answer.status)
            self.send_header("Content-Type", answer.kind)
            self.send_header("Content-Length", str(len(answer.body) + answer.missing))
            for name, value in answer.headers.items():
                self.send_header(name, value)
            self.end_headers()
            for part in [answer.body] if not answer.pause else map(bytes, zip(answer.body)):
                time.sleep(answer.pause)
                self.wfile.write(part)
            self.close_connection = bool(answer.missing)

        def log_message(self, *_):
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_):  # clients that have gone
            pass

    server = Server(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    api.url = f"http://127.0.0.1:{server.server_address[1]}/v1"
    try:
        yield api
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
