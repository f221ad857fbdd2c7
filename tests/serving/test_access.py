"""The door of vLLM's server, which makes it without arguments."""

import asyncio

import pytest

from tsdi.serving.access import VLLM_KEY, VllmDoor


def through(kind="http", path="/invocations", **headers):
    """What passes the door: the app's mark, or the message that refuses."""
    sent = []

    async def app(scope, receive, send):
        sent.append("let in")

    async def send(message):
        sent.append(message)

    raw = [(name.encode(), value.encode()) for name, value in headers.items()]
    scope = {"type": kind, "path": path, "method": "POST", "headers": raw}
    asyncio.run(VllmDoor(app)(scope, None, send))
    return sent[0]


@pytest.fixture(autouse=True)
def _no_key(monkeypatch):
    monkeypatch.delenv(VLLM_KEY, raising=False)


def test_without_a_key_this_machine_is_let_in_by_its_names_only():
    assert through(host="localhost:8000") == "let in"
    assert through(host="evil.example")["status"] == 403
    assert through(host="localhost", origin="https://evil.example")["status"] == 403


def test_with_a_key_no_path_is_without(monkeypatch):
    monkeypatch.setenv(VLLM_KEY, "s3cret")
    assert through(host="my.server")["status"] == 401
    assert through(host="my.server", authorization="Bearer s3cret") == "let in"
    assert through(host="my.server", path="/health") == "let in"


def test_web_sockets_too():
    assert through("websocket", host="evil.example")["type"] == "websocket.close"


def test_what_is_no_request_is_handed_on():
    assert through("lifespan") == "let in"
