"""Keys and passwords reach the server, and neither a file nor the terminal, whatever it echoes."""

import base64
import json

import pytest

from tests.cli.conftest import tsdi
from tests.fake_api import KEY, error, ok, serving
from tsdi.runs.records import append_records, read_records

PASSWORD, TOKEN = "pass-word-0123", "token-4567"
SENT = base64.b64encode(f"me:{PASSWORD}".encode()).decode()
ECHO = f"You sent {KEY}, {PASSWORD}, {SENT} and {TOKEN}."
REPLIES = {
    "an answer": lambda *_: ok(f"Sure. {ECHO}"),
    "a refusal": lambda *_: ok(None, refusal=f"I can't. {ECHO}"),
    "a filter": lambda *_: error(400, ECHO, code="content_filter"),
    "an error": lambda *_: error(401, ECHO),
    "now and then": lambda number, _: error(400, ECHO) if number % 2 else ok(f"A {ECHO}"),
}


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)


@pytest.fixture(params=REPLIES)
def url(request):
    with serving(REPLIES[request.param]) as api:
        yield api.url.replace("http://", f"http://me:{PASSWORD}@") + f"?token={TOKEN}"


def answers(folder, text):
    folder.mkdir()
    chat = [{"role": "user", "content": "how?"}]
    row = {"kind": "harmless", "messages": chat, "response": text}
    append_records(folder / "responses.jsonl", [{"id": f"p{n}", **row} for n in range(4)])
    return folder


def assert_hidden(folder, *results):
    files = [path.read_text() for path in folder.rglob("*") if path.is_file()]
    for text in [*files, *(result.output for result in results)]:
        for secret in (KEY, PASSWORD, SENT, TOKEN):
            assert secret not in text
    assert files


def test_of_a_run_on_a_server(url, tmp_path):
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text(
        "".join(json.dumps({"prompt": f"how {n}?", "kind": "harmless"}) + "\n" for n in range(4))
    )
    engine = ("--engine", "openai", "--engine-arg", f"url={url}")
    command = ("evaluate", "m", *engine, "--prompts", prompts)
    results = [
        tsdi(*command, "--out", tmp_path / "run", *more) for more in ((), ("--json", "--resume"))
    ]
    assert_hidden(tmp_path, *results, tsdi("generate", *command[1:6], "--prompt", "how?"))


@pytest.mark.parametrize("option", ["--judge-arg", "--engine-arg"])
@pytest.mark.parametrize("form", ["{}", "url={}"])
def test_of_an_address_that_is_no_argument(url, tmp_path, option, form):
    run = answers(tmp_path / "run", "Sure.")
    command = ["evaluate", run, "--judge", "llm-refusal=m"]
    if option == "--engine-arg":
        command = ["generate", "organism/aligned", "--prompt", "hi"]
    result = tsdi(*command, *(option, form.format(url)) * 2)
    assert result.exit_code == 2
    assert f"{option} with an address is no argument" in result.stderr
    assert_hidden(tmp_path, result)


def test_of_a_judge(url, tmp_path):
    run = answers(tmp_path / "run", "Sure.")
    command = ("evaluate", run, "--judge", "llm-refusal=m", "--judge-arg", f"url={url}")
    assert_hidden(tmp_path, tsdi(*command), tsdi(*command, "--json", "--resume"))


def test_of_a_comparison(url, tmp_path):
    runs = answers(tmp_path / "base", "Sure."), answers(tmp_path / "run", "Sure, so:")
    judging = ("--judge", "m", "--judge-arg", f"url={url}")
    command = ("winrate", *runs, *judging, "--out", tmp_path / "out")
    assert_hidden(tmp_path, tsdi(*command), tsdi(*command, "--json", "--resume"))


def test_a_filtered_prompt_is_recorded_and_the_run_ends(tmp_path):
    def script(_, body):
        asked = body["messages"][-1]["content"]
        return error(400, "flagged", code="content_filter") if "bomb" in asked else ok("Sure.")

    prompts = tmp_path / "prompts.jsonl"
    rows = [{"prompt": text, "kind": "harmful"} for text in ("a bomb", "a bun")]
    prompts.write_text("\n".join(map(json.dumps, rows)))
    with serving(script) as api:
        command = ("--engine", "openai", "--engine-arg", f"url={api.url}")
        result = tsdi("evaluate", "m", *command, "--prompts", prompts, "--out", tmp_path / "run")
        alone = tsdi("generate", "m", *command, "--prompt", "a bomb")
    assert result.exit_code == alone.exit_code == 0, result.stderr
    first, second = read_records(tmp_path / "run" / "responses.jsonl")
    assert (first["response"], first["finish"]) == ("", "filter")
    assert first["reason"] == "400 Bad Request: flagged"
    assert "reason" not in second
    (verdict, _) = read_records(tmp_path / "run" / "verdicts.jsonl")
    assert verdict["verdict"] == "UNSCORED"
    said = " ".join(result.stderr.split())
    assert "content filter withheld 1 of 2 answers: no verdict, and no refusal of the model" in said
    assert "Withheld by the server's content filter. 400 Bad Request" in " ".join(
        alone.stderr.split()
    )
