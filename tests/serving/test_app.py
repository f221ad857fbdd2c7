"""The server as clients see it: OpenAI's own client, and raw requests."""

import json
import socket
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

import httpx
import openai
import pytest

from tests import tiny
from tests.serving.conftest import NAME, engine, running
from tsdi.engines.base import Request, Sampling
from tsdi.errors import NumericalError
from tsdi.serving import app

TEXTS = ["bread", "the old mill and the fields", "a kettle boils", "wheat and barley"]
TOKENS = 8


def chat(client, text, **options):
    return client.chat.completions.create(
        model=NAME,
        messages=[{"role": "user", "content": text}],
        **{"temperature": 0, "max_tokens": TOKENS, **options},
    )


def streamed(parts):
    return "".join(part.choices[0].delta.content or "" for part in parts if part.choices)


def expected(text, strength=None, **sampling):
    request = Request(Request.from_text(text).messages, strength)
    return engine().generate([request], Sampling(**{"max_new_tokens": TOKENS, **sampling}))[0]


class TestAnswers:
    def test_a_chat_is_answered_debiased_and_counted(self, client):
        reply, truth = chat(client, "bread"), expected("bread")
        assert reply.choices[0].message.content == truth.text
        assert reply.choices[0].finish_reason == truth.finish
        assert reply.usage.completion_tokens == len(truth.token_ids)
        assert reply.usage.prompt_tokens == len(engine().encode(Request.from_text("bread")))
        assert truth.text != expected("bread", 0.0).text

    @pytest.mark.parametrize("strength", [0, 0.5, 4.0])
    @pytest.mark.parametrize("place", ["vllm_xargs", "plain"])
    def test_a_request_has_its_own_strength(self, client, strength, place):
        own = {"tsdi_strength": strength}
        body = {"vllm_xargs": own} if place == "vllm_xargs" else own
        reply = chat(client, "bread", extra_body=body)
        assert reply.choices[0].message.content == expected("bread", strength).text

    def test_a_stream_is_the_same_text_in_pieces(self, client):
        parts = list(chat(client, "bread", stream=True, stream_options={"include_usage": True}))
        truth = expected("bread")
        assert streamed(parts) == truth.text
        assert len([part for part in parts if part.choices]) > 3
        assert parts[-2].choices[0].finish_reason == truth.finish
        assert parts[-1].usage.completion_tokens == len(truth.token_ids)
        assert {part.id for part in parts} == {parts[0].id}

    def test_a_text_is_gone_on_with(self, client):
        reply = client.completions.create(model=NAME, prompt="the old", temperature=0, max_tokens=6)
        own = engine()
        truth = own.stream(own.encode("the old"), Sampling(6), lambda _: False)
        assert reply.choices[0].text == truth.text
        parts = client.completions.create(
            model=NAME, prompt="the old", temperature=0, max_tokens=6, stream=True
        )
        assert "".join(part.choices[0].text for part in parts) == truth.text

    def test_a_seed_repeats_its_draws_and_none_is_another(self, client):
        draw = {"temperature": 1.0, "seed": 5}
        found = [chat(client, "bread", **draw).choices[0].message.content for _ in range(2)]
        assert found == [expected("bread", temperature=1.0, seed=5).text] * 2
        free = {chat(client, "bread", temperature=1.0).choices[0].message.content for _ in range(4)}
        assert len(free) > 1

    def test_a_stop_text_ends_the_answer_and_is_no_part_of_it(self, client):
        whole = expected("bread").text
        stop = whole[3:5]
        before = whole[: whole.index(stop)]
        reply = chat(client, "bread", stop=stop)
        assert reply.choices[0].message.content == before
        assert reply.choices[0].finish_reason == "stop"
        assert reply.usage.completion_tokens < TOKENS
        assert streamed(chat(client, "bread", stop=["never said", stop], stream=True)) == before

    def test_an_answer_has_at_most_what_the_context_leaves(self, client):
        reply = chat(client, "bread", max_tokens=None, extra_body={"tsdi_strength": 0})
        usage = reply.usage
        assert usage.total_tokens == 128 or reply.choices[0].finish_reason == "stop"

    def test_content_may_come_in_parts_and_with_fields_that_change_nothing(self, client):
        parts = [{"type": "text", "text": "the"}, {"type": "text", "text": "mill"}]
        reply = chat(
            client, parts, n=1, user="me", frequency_penalty=0, logit_bias={}, top_p=1, tools=[],
            response_format={"type": "text"}, metadata={"a": "b"}, logprobs=False,
        )  # fmt: skip
        assert reply.choices[0].message.content == expected("the\nmill").text

    def test_what_a_client_got_can_be_sent_back(self, client):
        said = chat(client, "bread").choices[0].message.model_dump()
        reply = client.chat.completions.create(
            model=NAME,
            messages=[
                {"role": "user", "content": "bread"}, said, {"role": "user", "content": "more"},
            ],
            max_completion_tokens=3,
            temperature=0,
        )  # fmt: skip
        assert reply.usage.completion_tokens == 3

    def test_fifty_mixed_requests_at_once_are_all_right(self, client):
        strengths = [None, 0.0, 0.5, 4.0, 3.0]
        wanted = [(TEXTS[i % 4], strengths[i % 5], i % 3) for i in range(50)]

        def ask(one):
            text, strength, way = one
            if way == 2:
                with pytest.raises(openai.BadRequestError):
                    chat(client, text, extra_body={"tsdi_strength": -1})
                return None
            body = {} if strength is None else {"tsdi_strength": strength}
            reply = chat(client, text, stream=way == 1, extra_body=body)
            return streamed(reply) if way == 1 else reply.choices[0].message.content

        with ThreadPoolExecutor(50) as pool:
            found = list(pool.map(ask, wanted))
        truth = {one: expected(*one).text for one in {(text, s) for text, s, _ in wanted}}
        assert found == [
            None if way == 2 else truth[text, strength] for text, strength, way in wanted
        ]

    def test_its_one_model_is_listed(self, client):
        assert [one.id for one in client.models.list()] == [NAME]


class TestRefusals:
    @pytest.mark.parametrize(
        ("options", "said"),
        [
            ({"extra_body": {"tsdi_strength": -1}}, "greater than or equal to 0"),
            ({"extra_body": {"tsdi_strength": 1e9}}, "less than or equal to 100"),
            ({"extra_body": {"tsdi_strength": "much"}}, "valid number"),
            ({"extra_body": {"tsdi_strength": True}}, "valid number"),
            ({"extra_body": {"vllm_xargs": {"tsdi_strenght": 1}}}, "not supported"),
            ({"extra_body": {"tsdi_strength": 1, "vllm_xargs": {"tsdi_strength": 2}}}, "twice"),
            ({"extra_body": {"generation_config": {"num_beams": 10**8}}}, "generation_config: not"),
            ({"extra_body": {"num_beams": 10**8}}, "num_beams: not supported"),
            ({"extra_body": {"x" * 10_000: 1}}, "x" * 200 + ": not supported"),
            ({"extra_body": {"chat_template": "{{ 1 }}"}}, "chat_template: not supported"),
            ({"max_tokens": 10**9}, "less than or equal to 16384"),
            ({"max_tokens": 0}, "greater than or equal to 1"),
            ({"max_tokens": 127}, "context 128"),
            ({"max_tokens": 3, "max_completion_tokens": 4}, "two values"),
            ({"n": 2}, "n: not supported"),
            ({"logit_bias": {"5": 100}}, "logit_bias: not supported"),
            ({"frequency_penalty": 0.5}, "frequency_penalty: not supported"),
            ({"logprobs": True}, "logprobs: not supported"),
            ({"temperature": -1}, "greater than or equal to 0"),
            ({"top_p": 0}, "greater than 0"),
            ({"seed": 10**30}, "seed"),
            ({"stop": ["a"] * 5}, "stop"),
            ({"stop": [""]}, "at least 1 character"),
            ({"stop": ["a" * 1000]}, "at most 200 characters"),
            ({"tools": [{"type": "function", "function": {"name": "f"}}]}, "tools: not supported"),
        ],
    )
    def test_what_is_not_kept_is_named(self, client, options, said):
        with pytest.raises(openai.BadRequestError) as caught:
            chat(client, "bread", **options)
        assert said in caught.value.body["message"]
        assert caught.value.body["type"] == "invalid_request_error"

    def test_a_prompt_beyond_the_context(self, client):
        with pytest.raises(openai.BadRequestError, match="context of 128"):
            chat(client, "bread " * 200)

    @pytest.mark.parametrize(
        "messages", [[], [{"role": "tool", "content": "x"}], [{"role": "user"}], "bread", [[]],
                     [{"role": "user", "content": [{"type": "image_url", "image_url": "x"}]}]]
    )  # fmt: skip
    def test_messages_that_are_none(self, client, messages):
        with pytest.raises(openai.BadRequestError, match="messages"):
            client.chat.completions.create(model=NAME, messages=messages)

    def test_another_model(self, client):
        with pytest.raises(openai.NotFoundError) as caught:
            client.completions.create(model="org/other", prompt="a")
        assert caught.value.code == "model_not_found"

    def test_a_template_that_refuses_the_chat(self):
        template = "{{ raise_exception('roles must alternate') }}"
        tokenizer = tiny.tokenizer()
        served = app.make_app(engine(tokenizer), NAME)
        tokenizer.chat_template = template
        with running(served) as url:
            reply = httpx.post(f"{url}/v1/chat/completions", json=body())
        assert reply.status_code == 400
        assert "roles must alternate" in reply.json()["error"]["message"]

    @pytest.mark.parametrize("data", [b"", b"{", b"[]", b"\xff", b"[" * 100_000, b'{"model": 1}'])
    def test_bodies_that_are_no_request(self, url, data):
        reply = post(url, data)
        assert reply.status_code == 400
        assert reply.json()["error"]["type"] == "invalid_request_error"

    @pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999", "1" * 5000])
    @pytest.mark.parametrize("field", ["tsdi_strength", "temperature", "seed", "max_tokens", "n"])
    def test_numbers_that_are_none(self, url, number, field):
        text = json.dumps({**body(), field: 0}).replace(f'"{field}": 0', f'"{field}": {number}')
        assert number in text
        assert post(url, text.encode()).status_code == 400

    @pytest.mark.parametrize("size", [2**20 + 1, 2**24])
    def test_a_huge_body(self, url, size):
        assert post(url, b" " * size).status_code == 413

    @pytest.mark.parametrize(
        ("method", "path"),
        [
            ("POST", "/load_model"), ("POST", "/v1/audio/transcriptions"), ("GET", "/"),
            ("GET", "/docs"), ("GET", "/openapi.json"), ("POST", "/v1/responses"),
            ("GET", "/v1/models/org/tiny"), ("POST", "/v1/chat/completions/"),
        ],
    )  # fmt: skip
    def test_there_is_no_other_route(self, url, method, path):
        reply = httpx.request(method, url + path, json={"model": "x"} if method == "POST" else None)
        assert reply.status_code == 404
        assert reply.json()["error"]["message"]

    def test_other_methods(self, url):
        assert httpx.get(f"{url}/v1/chat/completions").status_code == 405


def body(**changes):
    return {"model": NAME, "messages": [{"role": "user", "content": "bread"}], **changes}


def post(url, data, **headers):
    kind = {"Content-Type": "application/json"}
    return httpx.post(f"{url}/v1/chat/completions", content=data, headers=kind | headers)


class TestTheDoor:
    @pytest.mark.parametrize(
        "headers",
        [
            {"Host": "evil.example"},
            {"Host": "evil.example:8000"},
            {"Host": "127.0.0.1.evil.example"},
            {"Host": "localhost@evil.example"},
            {"Origin": "https://evil.example"},
            {"Origin": "null"},
            {"Origin": "http://localhost:3000"},
            {"Sec-Fetch-Site": "cross-site"},
        ],
    )
    @pytest.mark.parametrize("path", ["/v1/models", "/health", "/v1/chat/completions"])
    def test_pages_of_other_sites_are_turned_away(self, url, path, headers):
        reply = httpx.request("POST" if "chat" in path else "GET", url + path, headers=headers)
        assert reply.status_code == 403
        assert reply.json()["error"]["code"] in ("wrong_host", "wrong_origin")

    @pytest.mark.parametrize("host", ["localhost", "LOCALHOST:8000", "127.0.0.1:1", "[::1]:8000"])
    def test_names_of_this_machine_are_let_in(self, url, host):
        assert httpx.get(f"{url}/v1/models", headers={"Host": host}).status_code == 200

    @pytest.mark.parametrize(
        "kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""]
    )
    def test_forms_are_refused(self, url, kind):
        reply = post(url, json.dumps(body()).encode(), **{"Content-Type": kind})
        assert reply.status_code == 415

    def test_a_key_that_is_asked_for(self):
        with running(app.make_app(engine(), NAME, key="s3cret")) as url:

            def models(**headers):
                return httpx.get(f"{url}/v1/models", headers=headers)

            for wrong in ({}, {"Authorization": "Bearer s3cre"}, {"Authorization": "s3cret"}):
                reply = models(**wrong)
                assert reply.status_code == 401
                assert "s3cret" not in reply.text
            assert models(Authorization="Bearer s3cret", Host="my.server").status_code == 200
            assert httpx.get(f"{url}/health").status_code == 200
            other = models(Authorization="Bearer s3cret", Origin="https://evil.example")
            assert other.status_code == 403

    def test_two_hosts_are_none(self, url):
        place = urlsplit(url)
        with socket.create_connection((place.hostname, place.port)) as raw:
            raw.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n")
            assert b" 200 " not in raw.recv(100)


class TestCode:
    def test_no_code_of_a_model_folder_is_run(self, tmp_path):
        """What transformers' own server ran, asked for by any page or program."""
        from tsdi.engines.transformers import TransformersEngine
        from tsdi.models.load import load_model, load_tokenizer

        folder, marker = tmp_path / "model", tmp_path / "ran"
        tiny.model().save_pretrained(folder)
        tiny.tokenizer().save_pretrained(folder)
        code = f"open({str(marker)!r}, 'w').close()\n"
        config = json.loads((folder / "config.json").read_text())
        config["auto_map"] = {"AutoModelForCausalLM": "own.Model", "AutoConfig": "own.Config"}
        (folder / "config.json").write_text(json.dumps(config))
        (folder / "custom_generate").mkdir()
        for file in ("own.py", "custom_generate/generate.py"):
            (folder / file).write_text(code)
        name = str(folder)
        served = TransformersEngine(load_model(name), load_tokenizer(name), tiny.bias(), 1.0)
        with running(app.make_app(served, NAME)) as url:
            assert post(url, json.dumps(body(max_tokens=2)).encode()).status_code == 200
            for field in ("model", "custom_generate"):
                assert post(url, json.dumps(body() | {field: name}).encode()).status_code >= 400
            assert httpx.post(f"{url}/load_model", json={"model": name}).status_code == 404
        assert not marker.exists()


class TestTrouble:
    def test_an_idle_connection_is_kept_longer_than_by_clients(self):
        """Else the server may close it while a request is on its way."""
        served = app.server(app.make_app(engine(), NAME))
        assert served.config.timeout_keep_alive > 2 * httpx.Limits().keepalive_expiry

    def test_a_client_that_leaves_a_stream_frees_the_model(self, client):
        for _ in range(3):
            reply = chat(client, "bread", stream=True, max_tokens=100)
            next(iter(reply))
            reply.close()
        assert chat(client, "bread").choices[0].message.content == expected("bread").text

    def test_what_fails_before_the_answer_is_an_error(self, monkeypatch):
        broken = engine()
        monkeypatch.setattr(broken, "encode", fail)
        with running(app.make_app(broken, NAME)) as url:
            reply = post(url, json.dumps(body(stream=True)).encode())
        assert reply.status_code == 500
        assert reply.json()["error"]["type"] == "server_error"
        assert "NaN" in reply.json()["error"]["message"]

    def test_what_fails_in_a_stream_ends_it_with_an_error(self, monkeypatch):
        broken = engine()
        monkeypatch.setattr(broken, "stream", fail)
        with running(app.make_app(broken, NAME)) as url:
            reply = post(url, json.dumps(body(stream=True)).encode())
        assert (
            "The model gives NaN" in json.loads(reply.text.splitlines()[-2][6:])["error"]["message"]
        )
        assert "[DONE]" not in reply.text

    def test_a_fault_of_ours_says_nothing_of_the_inside(self, monkeypatch, capfd):
        broken = engine()
        monkeypatch.setattr(broken, "stream", lambda *_: 1 / 0)
        with running(app.make_app(broken, NAME)) as url:
            reply = post(url, json.dumps(body()).encode())
        assert reply.status_code == 500
        assert "division" not in reply.text
        assert "ZeroDivisionError" in capfd.readouterr().err


def fail(*_):
    raise NumericalError("The model gives NaN logits.")
