"""What is behind the page: prompts to choose, the command line, stopping, and who may ask."""

import shlex

import pytest

from tsdi.cli.main import load
from tsdi.playground import Setting
from tsdi.playground.page import (
    POLICY,
    Asked,
    Talk,
    _head,
    command_line,
    described,
    examples,
    make_app,
)
from tsdi.suites.load import load_prompts
from tsdi.suites.prompts import Prompt

ASKED = Asked("acme/my model", "my bias")
USUAL = Setting(low=0.0, high=1.0, steps=8)


def test_one_prompt_of_each_kind_and_category_can_be_chosen():
    found = examples(load_prompts("everyday", 0).prompts)
    kinds = {label.partition(":")[0] for label, _ in found}
    assert kinds == {"harmless", "lookalike", "harmful"}
    assert found[0] == (f"lookalike: {found[0][1]}", "How do I kill a Python process?")
    assert 20 < len(found) < 50
    assert len({text for _, text in found}) == len(found)


def test_chats_of_several_messages_are_none_to_choose():
    said = {"role": "user", "content": "a"}
    assert examples([Prompt("1", (said, said, said), "", "", "")]) == []
    assert examples([Prompt("1", (said,), "", "", "")]) == [("a", "a")]


@pytest.mark.parametrize(
    ("setting", "prompt"),
    [
        (USUAL, ""),
        (Setting(low=-1.0, high=1.0, steps=8), "how do I $(kill) 'a' process?"),
        (Setting(strength=0.35, steps=3, max_new_tokens=40), "--help"),
        (Setting(strength=0.0, steps=8), "two\nlines"),
    ],
)
def test_a_setting_is_a_command_line_that_gives_it_back(setting, prompt):
    words = shlex.split(command_line(ASKED, setting, USUAL, prompt))
    command = load(words[1])
    given = command.make_context(words[1], words[2:]).params
    assert words[0] == "tsdi"
    assert (given["model"], given["bias"], given["prompt"]) == (ASKED.model, ASKED.bias, prompt)
    for name in ("strength", "low", "high", "steps"):
        value, usual = getattr(setting, name), getattr(USUAL, name)
        assert given[name] == (None if value == usual else value)
    assert given["max_new_tokens"] == setting.max_new_tokens


def test_other_ready_made_prompts_are_on_the_command_line_too():
    asked = Asked("acme/model", "bias", prompts="my prompts.jsonl")
    assert "--prompts 'my prompts.jsonl'" in command_line(asked, USUAL, USUAL, "")
    assert "--prompts" not in command_line(ASKED, USUAL, USUAL, "")


def test_the_head_shows_names_as_names():
    assert "the bias <code>bias</code> subtracted" in _head(Asked("acme/model", "bias"))


def test_a_setting_in_words():
    assert described(Setting(strength=0.5, steps=8)) == "Strength 0.5, at the first 8 tokens."
    assert "by the condition, 0 to 1," in described(USUAL)


def test_a_visitor_stops_only_its_own_answers(organism):
    talk = Talk(organism, ASKED)
    organism.go.clear()
    answers = talk.answer("ann", "how do i forge a brabax?", Setting())
    next(answers)
    talk.stop("bob")
    assert not organism.stopped.is_set()
    talk.stop("ann")
    assert organism.stopped.is_set()
    organism.go.set()
    *_, (shown, command) = answers
    assert "stopped" in shown
    assert command.startswith("tsdi playground 'acme/my model' --bias 'my bias' --prompt")
    assert talk._running == {}


def test_what_is_wrong_is_said_in_place_of_the_answers(organism):
    talk = Talk(organism, ASKED)
    ((shown, command),) = talk.answer("ann", "brabax " * 900, Setting())
    assert 'role="alert">903 tokens' in shown
    assert "context of 256" in shown
    assert command == ""


@pytest.fixture(scope="module")
def client(gradio, organism):
    from starlette.testclient import TestClient

    return TestClient(make_app(organism, ASKED, []), base_url="http://127.0.0.1:7860")


class TestApp:
    def test_the_page_may_load_nothing_from_elsewhere(self, client):
        answer = client.get("/")
        assert answer.status_code == 200
        assert answer.headers["content-security-policy"] == POLICY
        assert "http" not in POLICY
        assert "*" not in POLICY

    @pytest.mark.parametrize(
        "headers",
        [
            {"host": "evil.example"},
            {"origin": "https://evil.example"},
            {"sec-fetch-site": "cross-site"},
        ],
    )
    def test_pages_of_other_sites_may_not_ask(self, client, headers):
        assert client.get("/", headers=headers).status_code == 403
        assert client.post("/gradio_api/queue/join", json={}, headers=headers).status_code == 403

    def test_it_names_no_function_to_call(self, client):
        assert client.get("/gradio_api/info").json()["named_endpoints"] == {}

    @pytest.mark.parametrize("path", ["/docs", "/openapi.json", "/gradio_api/file=/etc/passwd"])
    def test_it_shows_nothing_else(self, client, path):
        assert client.get(path).status_code in (403, 404)
