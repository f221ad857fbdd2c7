"""Names, categories and answers come from anywhere: they are shown, never run as markup."""

import io
import json
import re
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from rich.table import Table

from tests.cli.conftest import tsdi
from tsdi.cli import console, main
from tsdi.cli.figures import category_title
from tsdi.cli.tune import _show as show_tuning
from tsdi.evaluation.tuning import Knobs, Trial, Tuning

OUR_LOOKS = re.compile(r"\x1b\[[0-9;]*[mK]|\x1b\[\?25[lh]|\x1b\[1A|\x1b\[2K|\r")
CONTROLS = re.compile(
    r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)
PIECES = ["[/x]", "[red]", "[/]", "[link=x]", "\\[", "[", "]", "\x1b[2J", "\x1b]0;x\x07", "\x9b2J"]
PIECES += [
    "\r",
    "\n",
    "\t",
    "\x00",
    "\x7f",
    "\u202e",
    "\u2028",
    "\ud800",
    ":smile:",
    "O3",
    "=1+1",
    "ü三",
]
NAMES = st.lists(st.sampled_from(PIECES), min_size=1, max_size=6).map("".join) | st.text()
BAD = "\x1b[2J[/x][red]\u202e"


@contextmanager
def screen():
    """What reaches a terminal, of both consoles."""
    shown = io.StringIO()
    with pytest.MonkeyPatch.context() as patch:
        for one in (console.out, console.err):
            patch.setattr(one, "_file", shown)
            patch.setattr(one, "_force_terminal", True)
        yield shown


def is_harmless(text):
    return not CONTROLS.search(OUR_LOOKS.sub("", text))


@given(NAMES)
@example(BAD)
def test_no_text_is_taken_for_markup_or_reaches_the_terminal_raw(name):
    table = Table(title=f"judged by {name}")
    table.add_column(name, no_wrap=True)
    table.add_row(category_title(name, {"name": name}, 23))
    table.add_row(console.red(name))
    table.add_row(name, style="red")
    with screen() as shown:
        console.out.print(table)
        console.say(name)
        console.note(name)
        with console.bar(name) as update:
            update(name, 1, 2)
    assert is_harmless(shown.getvalue())


def test_markup_is_shown_as_it_is():
    table = Table(title="[bold]title[/bold]")
    table.add_column("[/x]")
    table.add_row(category_title("[red]O3[/red]", {"name": "x"}, 23))
    with screen() as shown:
        console.out.print(table)
    text = OUR_LOOKS.sub("", shown.getvalue())
    assert "[bold]title[/bold]" in text
    assert "[/x]" in text
    assert "[red]O3[/red]" in text


def test_commands_print_through_the_console_alone():
    for path in Path(console.__file__).parent.glob("*.py"):
        text = path.read_text()
        if path.name not in ("console.py", "frame.py", "main.py"):
            assert not re.search(r"(?<![.\w])print\(|rich\.markup|Console\(|Text\(", text), path


@pytest.fixture
def runs(tmp_path):
    """Two run folders of answers with names of any kind, judged."""
    for name, refused in (("before", "Sure, here it is."), ("after", "I cannot help with that.")):
        rows = [
            {"id": f"{kind}{n}{BAD}", "kind": kind, "category": f"{kind}{BAD}", "finish": "stop",
             "messages": [{"role": "user", "content": "x"}], "response": refused}
            for kind in ("harmful", "harmless")
            for n in range(8)
        ]  # fmt: skip
        (tmp_path / name).mkdir()
        lines = "".join(json.dumps(row) + "\n" for row in rows)
        (tmp_path / name / "responses.jsonl").write_text(lines)
    return tmp_path


def test_categories_of_judged_runs(runs):
    for name in ("before", "after"):
        result = tsdi("evaluate", runs / name, "--judge", "refusal-phrases")
        assert result.exit_code == 0, result.output
        assert "harmless\\x1b[2J" in result.stdout
        assert is_harmless(result.output)
    result = tsdi("compare", runs / "after", runs / "before", "--gate")
    assert result.exit_code == 1, result.output
    assert "Safety gate: lost in" in result.stdout
    assert is_harmless(result.output)


def test_floors_of_a_search(tmp_path):
    trial = Trial(Knobs(1.0, 4, 1.0), 0.9, {"all": 0.8, BAD: 0.7}, {"all": 9, BAD: 9})
    found = Tuning({"all": 0.7, BAD: 0.75}, trial, trial, [trial], 4, [trial])
    with screen() as shown:
        judge = {"name": f"judge{BAD}", "sees_safety": False, "sees_refusal": True}
        show_tuning(found, f"model{BAD}", tmp_path / "out[/x]", judge, json=False)
    assert is_harmless(shown.getvalue())
    assert "\\x1b[2J[/x]" in shown.getvalue()


def test_errors_that_echo_names(tmp_path):
    result = tsdi("compare", tmp_path / f"a{BAD}".replace("/", ""), tmp_path)
    assert result.exit_code == 2
    assert is_harmless(result.stderr)
    assert "\\x1b[2J" in result.stderr


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_any_encoding_of_standard_output_will_do(bias, monkeypatch, encoding):
    streams = {}
    for name in ("stdout", "stderr"):
        streams[name] = io.TextIOWrapper(io.BytesIO(), encoding=encoding, errors="strict")
        monkeypatch.setattr(sys, name, streams[name])
    for more in ([], ["--json"]):
        monkeypatch.setattr(sys, "argv", ["tsdi", "show", str(bias), *more])
        with pytest.raises(SystemExit) as ended:
            main.run()
        assert not ended.value.code
    streams["stdout"].flush()
    shown = streams["stdout"].buffer.getvalue().decode(encoding)
    assert ("?" if encoding == "ascii" else "±") in shown
    assert json.loads(shown.splitlines()[-1])["steps"] == 3


def test_json_says_everything_in_any_encoding(monkeypatch):
    for encoding in ("ascii", "utf-8"):
        stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding, errors="replace")
        monkeypatch.setattr(sys, "stdout", stream)
        console.show_json({"response": f"± 三 {BAD}"})
        stream.flush()
        text = stream.buffer.getvalue().decode(encoding)
        assert json.loads(text) == {"response": f"± 三 {BAD}"}
        assert is_harmless(text)


def test_an_error_that_quotes_something_endless_is_short_and_keeps_its_remedy(runs):
    rows = '{"prompt": "x", "kind": "' + "x" * 100_000 + '"}'
    (runs / "prompts.jsonl").write_text(rows)
    asked = ("--prompts", runs / "prompts.jsonl", "--out", runs / "out")
    result = tsdi("evaluate", "organism/aligned", *asked)
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1)
    assert len(result.stderr) < 2100
    assert result.stderr.endswith("Use harmless, lookalike, harmful.\n")


@pytest.mark.parametrize("text", ["NaN", "1e999", "9" * 5000, "[" * 5000, "[1]", "null", '"x'])
def test_a_run_note_that_is_none_is_told_before_anything_is_judged(runs, text):
    (runs / "before" / "run.json").write_text(text if text[0] == "[" else f'{{"seed": {text}}}')
    if text == "null":
        (runs / "before" / "run.json").write_text(text)
    result = tsdi("evaluate", runs / "before", "--judge", "refusal-phrases")
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1)
    assert "run.json" in result.stderr
    assert not (runs / "before" / "verdicts.jsonl").exists()
