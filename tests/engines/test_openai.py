"""Chats to outcomes against a local server that misbehaves."""

import base64
import gzip
import json
import random
import socket
import threading
import time
import traceback

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fake_api import KEY, TROUBLES, UNSENT, Answer, error, ok, reply, serving
from tsdi.engines import bounded
from tsdi.engines.address import Address
from tsdi.engines.openai import ChatClient, Patience, _asked_wait
from tsdi.engines.replies import Failure, Reply, read_reply
from tsdi.engines.threads import in_threads
from tsdi.errors import ModelError, UsageError

FAST = Patience(
    threads=8, timeout=5.0, retries=5, first_wait=0.002, longest_wait=0.05, give_up=1000
)


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)


def client(url, **changes):
    return ChatClient("judge", url, Patience(**{**vars(FAST), **changes}))


def chats(*texts):
    return [({"role": "user", "content": text},) for text in texts]


def said(body):
    return body["messages"][-1]["content"]


def echo(_number, body):
    return ok(said(body))


def test_replies_come_in_the_order_of_the_chats_however_slow_each_is():
    def script(number, body):
        time.sleep(0.01 * (number % 3))
        return echo(number, body)

    texts = [f"text {number}" for number in range(40)]
    with serving(script) as api:
        replies = client(api.url).ask(chats(*texts), max_tokens=5)
    assert replies == [Reply(text) for text in texts]
    assert 2 <= api.most_at_once <= 8
    assert sorted(api.said) == sorted(texts)


def test_what_is_asked_is_greedy_and_bounded():
    with serving(echo) as api:
        client(api.url).ask(chats("hello"), max_tokens=5)
        client(api.url).ask(chats("hello"), max_tokens=1, top_logprobs=5)
    asked = {"model": "judge", "temperature": 0.0, "seed": 0}
    asked["messages"] = [{"role": "user", "content": "hello"}]
    assert api.requests[0] == {**asked, "max_tokens": 5}
    assert api.requests[1] == {**asked, "max_tokens": 1, "logprobs": True, "top_logprobs": 5}
    assert api.headers[0]["authorization"] == f"Bearer {KEY}"


def test_first_tokens_come_with_their_log_probabilities_where_offered():
    with serving(lambda *_: ok("A", top={"A": -0.1, " B": -2.5})) as api:
        (got,) = client(api.url).ask(chats("x"), max_tokens=1, top_logprobs=2)
    assert got == Reply("A", first_token=(("A", -0.1), (" B", -2.5)))


@pytest.mark.parametrize("trouble", TROUBLES)
def test_a_trouble_that_passes_is_not_seen(trouble):
    def script(number, body):
        return TROUBLES[trouble]() if number < 2 else echo(number, body)

    with serving(script) as api:
        assert client(api.url).ask(chats("x"), max_tokens=5) == [Reply("x")]
    assert len(api.requests) == 3


@pytest.mark.parametrize(
    ("trouble", "reason"),
    [
        ("429", "429 Too Many Requests: slow down"),
        ("500", "500 Internal Server Error: oops"),
        ("502 from a proxy", "502 Bad Gateway: <html>Bad gateway</html>"),
        ("hang", "no reply within 0.2 s"),
        ("closed", "the connection failed (RemoteProtocolError)"),
        ("half a body", "the connection failed (RemoteProtocolError)"),
        ("a page", "not a chat completion: <html>Please log in</html>"),
        ("no choice", 'not a chat completion: {"choices": []}'),
    ],
)
def test_a_trouble_that_stays_is_a_failure_with_its_reason(trouble, reason):
    with serving(lambda *_: TROUBLES[trouble]()) as api:
        found = client(api.url, retries=1, timeout=0.2 if trouble == "hang" else 5.0)
        assert found.ask(chats("x"), max_tokens=5) == [Failure(reason)]
    assert len(api.requests) == 2


@pytest.mark.parametrize("seed", range(3))
def test_every_record_ends_under_a_random_mix_of_troubles(seed):
    """None is lost, none doubled, none has another one's reply."""
    draw = random.Random(seed)
    texts = [f"record {number}" for number in range(150)]
    names = [name for name in TROUBLES if name != "hang"]
    doomed = {text: draw.choice(names) for text in texts if draw.random() < 0.1}
    first = {text: [draw.choice(names) for _ in range(draw.randrange(3))] for text in texts}
    first["record 1"], first["record 2"] = ["hang"], ["hang", "429"]
    left, lock = {text: list(names) for text, names in first.items()}, threading.Lock()

    def script(number, body):
        text = said(body)
        with lock:
            trouble = doomed.get(text) or (left[text].pop() if left[text] else None)
        return TROUBLES[trouble]() if trouble else echo(number, body)

    with serving(script) as api:
        outcomes = client(api.url, timeout=0.5, retries=20).ask(chats(*texts), max_tokens=5)
    assert len(outcomes) == len(texts)
    for text, outcome in zip(texts, outcomes, strict=True):
        if text in doomed:
            assert isinstance(outcome, Failure)
            assert outcome.reason
        else:
            assert outcome == Reply(text)
    assert len(doomed) > 5


def test_a_server_that_sends_no_completions_ends_the_run(caplog):
    with serving(lambda *_: TROUBLES["a page"]()) as api, pytest.raises(ModelError) as raised:
        client(api.url, give_up=3, retries=2).ask(chats(*map(str, range(500))), max_tokens=5)
    assert "3 requests in a row no reply" in str(raised.value)
    assert "not a chat completion: <html>Please log in" in str(raised.value)
    assert len(api.requests) <= 3 * (3 + FAST.threads)
    (said,) = caplog.messages  # one word on it, not one for each try
    assert (
        said == f"{api.url}: not a chat completion: <html>Please log in</html>. Another try in 0 s."
    )


@pytest.mark.parametrize("status", [200, 400, 503])
def test_a_body_too_large_to_be_a_reply_is_not_read_and_not_asked_for_again(monkeypatch, status):
    monkeypatch.setattr(bounded, "LARGEST_BODY", 1000)
    with serving(lambda *_: Answer(b"x" * 1001, status)) as api:
        (outcome,) = client(api.url).ask(chats("x"), max_tokens=5)
    assert outcome == Failure("not a chat completion: a body of more than 0.000953674 MiB")
    assert len(api.requests) == 1


def test_a_body_that_may_unpack_to_anything_is_not_read():
    packed = Answer(gzip.compress(b"x" * 1000), headers={"Content-Encoding": "gzip"})
    with serving(lambda *_: packed) as api:
        (outcome,) = client(api.url).ask(chats("x"), max_tokens=5)
    assert outcome == Failure("not a chat completion: a compressed body, which was not asked for")
    assert api.headers[0]["accept-encoding"] == "identity"


def test_a_server_that_drips_is_not_waited_for():
    whole = json.dumps(reply("x")).encode()
    with serving(lambda *_: Answer(whole, pause=0.05)) as api:
        (outcome,) = client(api.url, longest_try=0.2).ask(chats("x"), max_tokens=5)
    assert outcome == Failure("no whole reply within 0.2 s")
    assert len(api.requests) == 1


def test_the_server_says_how_long_to_wait():
    def script(number, body):
        return error(429, headers={"Retry-After": "0.3"}) if number == 0 else echo(number, body)

    with serving(script) as api:
        start = time.monotonic()
        client(api.url, longest_wait=5).ask(chats("x"), max_tokens=5)
    assert time.monotonic() - start >= 0.3


def test_a_server_that_asks_for_too_long_a_wait_is_not_asked_again():
    with serving(lambda *_: error(429, "tomorrow", headers={"Retry-After": "86400"})) as api:
        (outcome,) = client(api.url).ask(chats("x"), max_tokens=5)
    assert outcome == Failure("429 Too Many Requests: tomorrow")
    assert len(api.requests) == 1


def test_a_wait_is_a_number_of_seconds_or_a_date():
    assert _asked_wait("1.5") == 1.5
    assert _asked_wait("Fri, 31 Dec 2100 23:59:59 GMT") > 1e9
    assert [_asked_wait(text) for text in ("", "-3", "nan", "soon", "Fri, 31 Dec 1999")] == [0] * 5


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (error(401, f"Incorrect key {KEY}"), ("401 Unauthorized", "***", "OPENAI_API_KEY")),
        (error(404, "no such model"), ("404 Not Found", "'judge'", "no such model", "/v1")),
        (error(402, "pay"), ("402", "--resume")),
        (error(429, "quota", code="insufficient_quota"), ("429", "quota", "--resume")),
    ],
)
def test_what_no_try_can_mend_ends_the_run_at_once(answer, words):
    with serving(lambda *_: answer) as api, pytest.raises(ModelError) as raised:
        client(api.url).ask(chats(*map(str, range(500))), max_tokens=5)
    assert len(api.requests) <= 2 * FAST.threads
    for word in (api.url, *words):
        assert word in str(raised.value)
    assert KEY not in "".join(traceback.format_exception(raised.value))  # tsdi --debug


def test_a_server_that_is_not_there_is_one_error_at_once():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/v1"
    start = time.monotonic()
    with pytest.raises(ModelError, match=r"cannot be reached.*Start the server"):
        client(url, first_wait=60, longest_wait=60).ask(chats("a", "b"), max_tokens=5)
    assert time.monotonic() - start < 30


def test_a_server_that_dies_midway_ends_the_run_after_some_requests():
    def script(number, body):
        return UNSENT if number >= 20 else echo(number, body)

    with serving(script) as api, pytest.raises(ModelError, match=r"10 requests in a row.*--resume"):
        client(api.url, give_up=10, threads=1, retries=1).ask(
            chats(*map(str, range(100))), max_tokens=5
        )
    assert len(api.requests) == 20 + 2 * 10


def test_requests_that_are_turned_down_now_and_then_do_not_end_the_run():
    def script(number, body):
        return error(400, "too long a chat") if number % 3 else echo(number, body)

    with serving(script) as api:
        outcomes = client(api.url, give_up=3, threads=1).ask(chats(*"abcdefghi"), max_tokens=5)
    assert [type(outcome) for outcome in outcomes] == [Reply, Failure, Failure] * 3
    assert outcomes[1] == Failure("400 Bad Request: too long a chat", "error")
    assert len(api.requests) == 9  # trying again would not help


@pytest.mark.parametrize(
    "fields",
    [
        {"code": "content_filter"},
        {"code": "content_policy_violation"},
        {"code": "x", "innererror": {"code": "ResponsibleAIPolicyViolation"}},
    ],
)
def test_prompts_that_a_filter_turns_down_are_no_sign_of_a_broken_server(fields):
    with serving(lambda *_: error(400, "filtered", **fields)) as api:
        outcomes = client(api.url, give_up=3).ask(chats(*"abcdefghi"), max_tokens=5)
    assert outcomes == [Failure("400 Bad Request: filtered", "filter")] * 9
    assert len(api.requests) == 9


@pytest.mark.parametrize("by", ["param", "message"])
def test_options_that_a_model_does_not_take_are_left_out(by):
    def script(number, body):
        for name in ("temperature", "logprobs", "max_tokens"):
            if name in body:
                fields = {"param": name} if by == "param" else {}
                return error(400, "no" if fields else f"'{name}' is not supported", **fields)
        return echo(number, body)

    with serving(script) as api:
        asking = client(api.url, threads=1)
        outcomes = asking.ask(chats(*"ab"), max_tokens=5, top_logprobs=5)
        outcomes += asking.ask(chats("c"), max_tokens=5, top_logprobs=5)
    assert outcomes == [Reply("a"), Reply("b"), Reply("c")]
    assert len(api.requests) == 3 + 3  # each is left out once and for all
    assert set(api.requests[-1]) == {"model", "messages", "seed", "top_logprobs"}


def test_too_long_a_chat_is_not_blamed_on_an_option():
    said = "max_tokens is too large: the context length is 4096"
    with serving(lambda *_: error(400, said)) as api:
        assert client(api.url).ask(chats("x"), max_tokens=5) == [
            Failure(f"400 Bad Request: {said}", "error")
        ]
    assert len(api.requests) == 1


def test_a_reason_is_one_short_line_without_the_key():
    with serving(lambda *_: error(400, f"line\nline {KEY} \x1b[2J " + "x" * 1000)) as api:
        (outcome,) = client(api.url).ask(chats("x"), max_tokens=5)
    assert outcome.reason.startswith("400 Bad Request: line line *** ")
    assert len(outcome.reason) < 330


def test_a_missing_key_is_named(monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY")
    for url in (None, "http://10.0.0.7:8000/v1"):
        with pytest.raises(UsageError, match="OPENAI_API_KEY is not set"):
            ChatClient("judge", url)


def test_a_server_on_this_machine_needs_no_key(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "  ")
    with serving(echo) as api:
        assert client(api.url).ask(chats("x"), max_tokens=5) == [Reply("x")]
    for host in ("localhost", "[::1]"):
        assert ChatClient("judge", f"http://{host}:1/v1").url == f"http://{host}:1/v1"


def test_a_key_that_can_be_none_is_refused_without_showing_it(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "secret words")
    with pytest.raises(UsageError, match="OPENAI_API_KEY holds what no key can") as raised:
        ChatClient("judge")
    assert "secret" not in str(raised.value)


def test_what_stands_behind_the_question_mark_goes_to_the_server_and_nowhere_else():
    with serving(lambda *_: error(400, f"no token-0123 {KEY}")) as api:
        asking = client(f"{api.url}?token=token-0123")
        (outcome,) = asking.ask(chats("x"), max_tokens=5)
    assert asking.url == api.url
    assert api.paths == ["/v1/chat/completions?token=token-0123"]
    assert outcome == Failure("400 Bad Request: no *** ***", "error")


def test_passwords_and_keys_that_a_server_echoes_are_hidden():
    address = Address("https://me:p%40ss-word@example.org/v1?token=t0ken-t0ken&v=1")
    sent = base64.b64encode(b"me:p@ss-word").decode()
    for secret in (KEY, "p%40ss-word", "p@ss-word", sent, "t0ken-t0ken"):
        assert address.hide(f"no: {secret}.") == "no: ***."
        assert address.hide_in_reply(f"no: {secret}.") == "no: ***."
    assert address.hide_in_reply("v=1") == "v=1"  # too short to be told from any word


def test_a_reply_that_echoes_the_key_is_kept_without_it():
    with serving(lambda *_: ok(f"your key is {KEY}", refusal=KEY, reasoning=f"{KEY}?")) as api:
        (outcome,) = client(api.url).ask(chats("x"), max_tokens=5)
    assert outcome == Reply("your key is ***", refusal="***", thought="***?")


def test_the_url_is_known_without_credentials(monkeypatch):
    assert ChatClient("judge").url == "https://api.openai.com/v1"
    monkeypatch.setenv("OPENAI_BASE_URL", "https://me:pass@example.org:8443/v1/?token=t")
    assert ChatClient("judge").url == "https://example.org:8443/v1"
    for url in ("nowhere", "ftp://x/v1", "http://", "http://x:port/v1"):
        with pytest.raises(UsageError, match="URL is none"):
            ChatClient("judge", url)


def test_a_missing_package_names_the_install_line(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "openai", None)
    with pytest.raises(UsageError, match=r"pip install 'tsdi\[openai\]'"):
        ChatClient("judge")


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (reply(None, finish="content_filter"), Reply("", "content_filter")),
        (reply(None, refusal="I won't."), Reply("", "stop", "I won't.")),
        (reply(None, reasoning_content="Hm"), Reply("", thought="Hm")),
        (reply("x", reasoning="Hm"), Reply("x", thought="Hm")),
        (reply("cut", finish="length"), Reply("cut", "length")),
        ({"choices": [{"message": {"content": "x"}}]}, Reply("x", "unknown")),
        ({"choices": [{"message": {"content": 3}}]}, None),
        ({"choices": [{"message": "x"}]}, None),
        ({"error": "x"}, None),
    ],
)
def test_a_body_is_a_reply_or_none(body, expected):
    assert read_reply(json.dumps(body).encode()) == expected


@pytest.mark.parametrize(
    "logprob", ["NaN", "0.5", '"x"', "null", "Infinity", "9" * 400, f"-{'9' * 400}"]
)
def test_numbers_that_are_no_log_probabilities_are_not_taken(logprob):
    body = json.dumps(reply("A", top={"A": -0.1})).replace("-0.1", logprob)
    assert read_reply(body.encode()) == Reply("A")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(
        st.sampled_from(["choices", "message", "content", "logprobs", "finish_reason"]), inner
    ),
)  # fmt: skip


@given(st.one_of(st.binary(), JSON.map(lambda value: json.dumps(value).encode())))
def test_no_body_makes_it_fail(body):
    got = read_reply(body)
    assert got is None or isinstance(got.text, str)


def test_an_error_in_a_thread_ends_the_others_and_is_raised():
    begun = []

    def work(item, stop):
        begun.append(item)
        if item == 3:
            raise ModelError("three")
        stop.wait(60)

    start = time.monotonic()
    with pytest.raises(ModelError, match="three"):
        in_threads(work, range(100), 4)
    assert time.monotonic() - start < 30
    assert sorted(begun) == [0, 1, 2, 3]
    assert in_threads(work, [], 4) == []


def test_a_killed_run_does_not_wait_for_the_server(monkeypatch):
    release = threading.Event()

    def work(_item, _stop):
        release.wait(60)

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("tsdi.engines.threads._results", interrupted)
    start = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        in_threads(work, range(3), 3)
    assert time.monotonic() - start < 30
    release.set()


def test_answers_of_any_kind_can_be_sent():
    with serving(lambda *_: Answer(b"{}", status=418)) as api:
        (outcome,) = client(api.url).ask(chats("x"), max_tokens=5)
    assert outcome == Failure("418 I'm a Teapot: {}", "error")
