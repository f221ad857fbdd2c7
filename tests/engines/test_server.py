"""The engine of a running server, against a local one that is told what to say."""

import json

import pytest

from tests.fake_api import Answer, error, ok, serving
from tsdi.engines.base import Request, Sampling
from tsdi.engines.openai import ChatClient, Patience
from tsdi.engines.server import ServerEngine
from tsdi.errors import ModelError, PromptError, UsageError
from tsdi.models.chat import ChatFormat

FAST = Patience(threads=8, timeout=5, retries=3, first_wait=0.002, longest_wait=0.05)
TWO = [Request.from_text("one"), Request.from_text("two")]


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)


def engine(api, **options):
    return ServerEngine(ChatClient("m", api.url, FAST), **options)


def echo(_, body):
    return ok(body["messages"][-1]["content"].upper(), finish="length")


def test_answers_come_in_the_order_of_the_requests():
    with serving(echo) as api:
        found = engine(api).generate(TWO, Sampling(max_new_tokens=7, temperature=0.5, seed=3))
    assert [(one.text, one.finish) for one in found] == [("ONE", "length"), ("TWO", "length")]
    body = api.requests[0]
    assert (body["model"], body["max_tokens"]) == ("m", 7)
    assert (body["temperature"], body["seed"]) == (0.5, 3)
    assert "vllm_xargs" not in body


def test_a_request_may_have_its_own_strength():
    with serving(echo) as api:
        asked = [TWO[0], Request(TWO[1].messages, strength=0.0)]
        engine(api, strength=0.5).generate(asked, Sampling())
    found = {b["messages"][0]["content"]: b["vllm_xargs"]["tsdi_strength"] for b in api.requests}
    assert found == {"one": 0.5, "two": 0.0}


def test_arguments_of_the_template_go_with_every_chat():
    given = ChatFormat(template_args={"enable_thinking": False})
    with serving(echo) as api:
        engine(api, chat_format=given).generate(TWO, Sampling())
    assert [b["chat_template_kwargs"] for b in api.requests] == [{"enable_thinking": False}] * 2


def test_a_prompt_format_asks_for_completions():
    def complete(_, body):
        text = body["prompt"]
        return Answer(json.dumps({"choices": [{"text": text, "finish_reason": "stop"}]}).encode())

    with serving(complete) as api:
        found = engine(api, chat_format=ChatFormat("Q: {prompt} A:")).generate(TWO, Sampling())
    assert [one.text for one in found] == ["Q: one A:", "Q: two A:"]


def test_troubles_pass():
    def script(number, body):
        return error(503) if number < 2 else echo(number, body)

    with serving(script) as api:
        assert len(engine(api).generate(TWO, Sampling())) == 2


def test_a_prompt_without_an_answer_ends_the_run_with_what_came_before_kept():
    def script(number, body):
        asked = body["messages"][-1]["content"]
        return error(503, "overloaded") if asked == "two" else echo(number, body)

    with serving(script) as api, pytest.raises(ModelError, match="overloaded") as failed:
        engine(api).generate(TWO, Sampling())
    assert "--resume" in str(failed.value)


@pytest.mark.parametrize(
    ("fields", "finish"), [({"code": "content_filter"}, "filter"), ({}, "error")]
)
def test_a_prompt_that_the_server_turns_down_is_recorded_and_the_run_goes_on(fields, finish):
    def script(number, body):
        asked = body["messages"][-1]["content"]
        return error(400, "not this", **fields) if asked == "two" else echo(number, body)

    with serving(script) as api:
        first, second = engine(api).generate(TWO, Sampling())
    assert (first.text, first.reason) == ("ONE", "")
    assert (second.text, second.finish) == ("", finish)
    assert second.reason == "400 Bad Request: not this"


def test_a_server_that_turns_everything_down_is_an_error():
    refusing = serving(lambda *_: error(400, "no such thing"))
    with refusing as api, pytest.raises(ModelError, match="no such thing"):
        engine(api).generate(TWO, Sampling())


@pytest.mark.parametrize(
    ("answer", "text", "finish", "in_thought"),
    [
        (ok(None, refusal="I can't."), "I can't.", "stop", False),
        (ok("Sure", finish="content_filter"), "Sure", "filter", False),
        (ok(None, finish="content_filter"), "", "filter", False),
        (ok(None), "", "error", False),
        (ok("Sure", reasoning_content="Hm"), "Sure", "stop", False),
        (ok(None, reasoning_content="Hm", finish="length"), "Hm", "length", True),
        (ok("Sure", finish="eos_token"), "Sure", "stop", False),
    ],
)
def test_what_a_server_says_of_an_answer_is_kept(answer, text, finish, in_thought):
    with serving(lambda *_: answer) as api:
        (found,) = engine(api).generate(TWO[:1], Sampling())
    assert (found.text, found.finish, found.in_thought) == (text, finish, in_thought)


def test_what_a_server_cannot_do_is_refused():
    with serving(echo) as api:
        with pytest.raises(UsageError, match="no logits"):
            engine(api).generate(TWO, Sampling(keep_logits=True))
        with pytest.raises(PromptError, match="no text"):
            engine(api).check(Request.from_text("  "), Sampling())
        with pytest.raises(UsageError, match=r"\{prompt\}"):
            engine(api, chat_format=ChatFormat("Q:"))
    assert api.requests == []
