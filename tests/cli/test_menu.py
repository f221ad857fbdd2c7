"""The menu after `tsdi debias`: every entry, wrong input, and both ways out."""

import pytest

import tsdi
from tests import tiny
from tsdi.cli import menu

END = EOFError  # Ctrl-D
STOP = KeyboardInterrupt  # Ctrl-C


@pytest.fixture
def bias(tmp_path):
    tiny.bias().save_pretrained(tmp_path / "bias")
    return tmp_path / "bias"


@pytest.fixture
def said(bias, monkeypatch, capsys):
    """What is printed when these lines are typed into the menu; then the terminal is closed."""

    def type_in(*lines):
        typed = iter([*lines, END])

        def answer(question=""):
            line = next(typed)
            if isinstance(line, str):
                return line
            raise line

        monkeypatch.setattr("builtins.input", answer)
        menu.offer("acme/model", bias, tsdi.LoadOptions())
        assert next(typed, None) is None, "not everything was asked for"
        found = capsys.readouterr()
        return " ".join((found.out + found.err).split())

    return type_in


@pytest.fixture
def hub(monkeypatch):
    """A hub with one model, to which somebody is logged in; it keeps what is pushed."""
    pushed = []

    def push(self, name, private=False):
        pushed.append((name, private))
        return f"https://hub.example/{name}"

    monkeypatch.setattr("huggingface_hub.get_token", lambda: "a token")
    monkeypatch.setattr("huggingface_hub.file_exists", lambda name, file: name == "acme/model")
    monkeypatch.setattr(tsdi.SafetyBias, "push_to_hub", push)
    return pushed


@pytest.mark.parametrize("line", ["", "x", "0", "6", "saves", "1 2"])
def test_what_is_no_entry_is_asked_again(said, line):
    assert "Give a number from 1 to 5." in said(line)


@pytest.mark.parametrize("leave", ["5", " Quit ", STOP])
def test_it_is_left(bias, monkeypatch, leave):
    def answer(question=""):
        if isinstance(leave, str):
            return leave
        raise leave

    monkeypatch.setattr("builtins.input", answer)
    menu.offer("acme/model", bias, tsdi.LoadOptions())


def test_a_copy_is_saved_to_a_new_folder_only(said, bias, tmp_path):
    shown = said("save", "", str(tmp_path / "copy"), "2", str(tmp_path / "copy"))
    assert f"Saved in {tmp_path / 'copy'}." in shown
    assert "copy is there already. Name a new folder." in shown
    files = {file.name: file.read_bytes() for file in bias.iterdir()}
    assert {file.name: file.read_bytes() for file in (tmp_path / "copy").iterdir()} == files


@pytest.mark.parametrize("key", [STOP, END])
def test_an_entry_is_left_for_the_menu(said, key):
    assert said("save", key).count("What next?") == 2


def test_what_the_system_refuses_is_said_and_the_menu_comes_again(said, tmp_path):
    (tmp_path / "file").touch()
    shown = said("2", str(tmp_path / "file" / "copy"))
    assert "cannot be used: Not a directory." in shown
    assert shown.count("What next?") == 2


def test_a_new_repository_is_private(said, hub):
    assert "Pushed: https://hub.example/acme/my-bias" in said("3", "acme/my-bias")
    assert hub == [("acme/my-bias", True)]


def test_a_models_repository_is_left_alone(said, hub):
    assert "acme/model holds a model. Push the bias to a repository of its own." in said(
        "push", "acme/model"
    )
    assert hub == []


def test_what_the_hub_says_is_one_line(said, hub, monkeypatch):
    def push(self, name, private):
        raise RuntimeError("403 Forbidden\n\n\x1b[31mNo right to write")

    monkeypatch.setattr(tsdi.SafetyBias, "push_to_hub", push)
    shown = said("3", "acme/my-bias")
    assert "Not pushed to acme/my-bias: 403 Forbidden \\x1b[31mNo right to write" in shown
    assert shown.count("What next?") == 2


def test_who_is_not_logged_in_is_told_how(said, monkeypatch):
    monkeypatch.setattr("huggingface_hub.get_token", lambda: None)
    assert "You are not logged in to the hub. Run: hf auth login" in said("3")


def test_chat_has_the_model_the_bias_and_how_it_is_loaded(bias, said, monkeypatch):
    asked = []
    monkeypatch.setattr(menu, "chat", lambda *given, **how: asked.append((given, how)))
    said("chat")
    assert asked == [(("acme/model", str(bias)), {"dtype": "auto", "device_map": None})]


@pytest.mark.parametrize(("vllm", "engine"), [(object(), "vllm"), (None, "transformers")])
def test_it_serves_by_vllm_where_it_is_installed(bias, said, monkeypatch, vllm, engine):
    class Server:
        lines = ("curl it",)

        def run(self, ready):
            ready()
            raise KeyboardInterrupt

    asked = []

    def serve(*given, **how):
        asked.append((given, how["engine"]))
        return Server()

    monkeypatch.setattr(menu, "find_spec", lambda name: vllm)
    monkeypatch.setattr("tsdi.serving.serve", serve)
    assert "curl it" in said("4")
    assert asked == [(("acme/model", str(bias)), engine)]
