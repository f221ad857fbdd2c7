import io
import json
from threading import Event

import pytest
from rich.console import Console
from typer.testing import CliRunner

from tests import tiny
from tests.cli.conftest import tsdi
from tsdi.cli import playground as commands
from tsdi.cli.main import app
from tsdi.playground import Both
from tsdi.playground.side_by_side import Answer, Candidate, Reading, Token
from tsdi.serving.app import bind

PROMPT = "the river runs"


@pytest.fixture(scope="module")
def given(tmp_path_factory):
    """The folders of a model and a bias, as arguments."""
    folder = tmp_path_factory.mktemp("playground")
    tiny.model("llama").save_pretrained(folder / "model")
    tiny.tokenizer().save_pretrained(folder / "model")
    tiny.bias().save_pretrained(folder / "bias")
    return folder / "model", "--bias", folder / "bias"


class TestPlayground:
    def test_without_gradio_it_says_how_to_install_it(self, given, monkeypatch):
        monkeypatch.setattr("tsdi.playground.page.find_spec", lambda name: None)
        result = tsdi("playground", *given)
        assert result.exit_code == 2
        assert "pip install 'tsdi[playground]'" in result.output

    def test_a_port_that_is_taken_is_said_before_anything_is_loaded(self, gradio, given):
        with bind("127.0.0.1", 0) as place:
            place.listen()
            port = place.getsockname()[1]
            result = tsdi("playground", *given, "--port", port)
        assert result.exit_code == 2
        assert f"port {port}" in result.output
        assert "Take another --port." in result.output

    def test_it_opens_a_page(self, gradio, given, monkeypatch):
        with bind("127.0.0.1", 0) as place:
            port = place.getsockname()[1]
        served = Event()
        monkeypatch.setattr("tsdi.serving.app.run", lambda app, place: served.set())
        result = tsdi("playground", *given, "--port", port)
        assert result.exit_code == 0, result.output
        assert f"http://127.0.0.1:{port}" in result.output
        assert served.is_set()

    def test_a_setting_that_does_not_fit_is_one_line(self, gradio, given):
        result = tsdi("playground", *given, "--steps", 9, "--port", 7999)
        assert (result.exit_code, "3 steps, not 9" in result.output) == (2, True)


class TestChat:
    def test_one_prompt_is_answered_twice(self, given):
        chat = ["chat", *given, "--strength", 1.5, "--max-new-tokens", 8, "--prompt", PROMPT]
        result = tsdi(*chat, "--json")
        assert result.exit_code == 0, result.output
        found = json.loads(result.stdout)
        assert (found["prompt"], found["strength"], found["steps"]) == (PROMPT, 1.5, 3)
        plain, debiased = (
            "".join(token["text"] for token in found[name]["tokens"])
            for name in ("plain", "debiased")
        )
        short = ["--max-new-tokens", 8, "--prompt", PROMPT, "--json"]
        alone = (
            tsdi("generate", given[0], *short),
            tsdi("generate", *given, "--strength", 1.5, *short),
        )
        answers = [json.loads(one.stdout)["response"].rstrip("\ufffd") for one in alone]
        assert [plain, debiased] == answers

    def test_every_line_is_a_question(self, given, monkeypatch):
        asked = []
        monkeypatch.setattr(commands, "_watched", _noting(asked))
        lines = f"{PROMPT}\n\n{'a ' * 500}\nthe mill\n"
        result = CliRunner().invoke(app, ["chat", *map(str, given)], input=lines)
        assert result.exit_code == 0, result.output
        assert len(asked) == 2
        assert "do not fit" in result.output  # and the next line is answered all the same

    def test_ctrl_c_stops_an_answer_and_nothing_else(self):
        def answers():
            yield FOUND
            raise KeyboardInterrupt

        assert commands._watched(answers(), shown=False) is FOUND

    @pytest.mark.parametrize(("width", "lines"), [(100, 1), (40, 2)])
    def test_it_looks_right_on_wide_and_narrow_terminals(self, width, lines, monkeypatch):
        text = io.StringIO()
        made = Console(file=text, width=width, force_terminal=True, legacy_windows=False)
        monkeypatch.setattr(commands.console, "out", made)
        made.print(commands._shown(FOUND))
        shown = text.getvalue()
        assert "\x1b[4msure" in shown
        assert "\x1b[9msorry" in shown
        assert "\x1b]" not in shown  # a model's own control characters are shown
        assert "\\x1b]0;title" in shown
        heads = [line for line in shown.splitlines() if "Plain" in line or "Debiased" in line]
        assert len(heads) == lines
        assert "h(x) = 1.20, above the threshold" in shown
        assert "'sorry' 60.0 % → < 0.1 %" in shown


FOUND = Both(
    Answer((Token("sorry", -3.0), Token("\x1b]0;title", 0.0)), "stop"),
    Answer((Token("sure", 3.0), Token(" use", 0.0)), "length"),
    0.3,
    3,
    (Candidate("sorry", 0.6, 0.0002),),
    Reading(1.2, 0.3),
)


def _noting(asked):
    def watched(answers, shown):
        *_, found = answers
        asked.append(found)
        return found

    return watched
