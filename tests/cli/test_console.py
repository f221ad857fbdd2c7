"""What all commands share."""

import threading

import pytest

from tsdi.cli import console
from tsdi.cli.console import SignOfLife


class Clock:
    """Seconds that pass when the test says so."""

    now = 1000.0

    def __call__(self):
        return self.now


def sign():
    clock = Clock()
    return SignOfLife("training", clock), clock


def test_work_that_has_told_nothing_yet_says_for_how_long_it_goes_on():
    found, clock = sign()
    clock.now += 90
    assert found.line() == "training: at work for 90 s"


def test_work_says_how_much_is_done_and_how_long_the_rest_takes():
    found, clock = sign()
    found.update("safety", 0, 400)
    clock.now += 30
    found.update("safety", 10, 400)  # the first steps count from the first call
    clock.now += 600
    found.update("safety", 100, 400)
    assert found.line() == "safety: 100 of 400, at work for 10 min, about 32 min left"


def test_what_a_resumed_run_finds_done_does_not_make_it_look_fast():
    found, clock = sign()
    found.update("generate", 9000, 10000)
    assert found.line() == "generate: 9000 of 10000, at work for 0 s"
    clock.now += 60
    found.update("generate", 9100, 10000)
    assert found.line() == "generate: 9100 of 10000, at work for 60 s, about 9 min left"


def test_what_is_found_done_after_the_start_does_not_count_either():
    found, clock = sign()
    found.update("train", 0, 9)
    clock.now += 0.5
    found.update("train", 1, 9)  # found done
    assert found.left() == "about 4 s left"
    clock.now += 300
    assert found.left() == ""
    clock.now += 300
    found.update("train", 2, 9)
    assert found.left() == "about 70 min left"


def test_each_part_has_its_own_pace():
    found, clock = sign()
    found.update("reference", 0, 10)
    clock.now += 7200
    found.update("safety", 0, 100)
    clock.now += 10
    found.update("safety", 10, 100)
    assert found.line() == "safety: 10 of 100, at work for 2.0 h, about 90 s left"


def test_what_is_left_counts_down_until_the_next_call():
    found, clock = sign()
    found.update("diagnose", 0, 64)
    assert found.left() == ""
    clock.now += 30
    found.update("diagnose", 32, 64)  # the first that is done says how fast
    assert console._Left(found).render(None).plain == "about 30 s left"
    clock.now += 20
    assert found.left() == "about 10 s left"
    clock.now += 20
    assert found.left() == "about 0 s left"
    found.update("diagnose", 64, 64)
    assert found.left() == ""


@pytest.fixture
def said(monkeypatch):
    """An event that is set when something is said on standard error."""
    heard = threading.Event()
    monkeypatch.setattr(console, "_SIGN_EVERY", 0.0)
    monkeypatch.setattr(console, "note", lambda _line: heard.set())
    return heard


def test_without_a_terminal_long_work_gives_signs_of_life_until_it_ends(said):
    with console.bar("training"):
        assert said.wait(60)
    said.clear()
    assert not any(thread.name == console.SIGNS for thread in threading.enumerate())


def test_other_processes_of_a_training_are_silent(said):
    with console.bar("training", shown=False) as update:
        update("training", 1, 2)
        assert not any(thread.name == console.SIGNS for thread in threading.enumerate())


def test_numbers_stay_whole_in_a_narrow_terminal(monkeypatch, capsys):
    table = console.table("changes", ["", "before", "after", "change"])
    table.add_row("complied, lookalikes that sound harmful", ".96", ".99", "+.03 [+.01 +.05]")
    monkeypatch.setattr(console.out, "width", 56)
    console.out.print(table)
    shown = capsys.readouterr().out
    assert "+.03 [+.01 +.05]" in shown
    assert max(map(len, shown.splitlines())) <= 56
    assert "lookalikes" in shown


@pytest.mark.parametrize("width", [20, 40, 60])
def test_where_they_do_not_fit_the_frame_goes_and_nothing_is_cut(width, monkeypatch, capsys):
    table = console.table("changes", ["", "before", "after", "change", "p", "Holm"])
    cells = ("Misrepresentations of fact", ".96", ".99", "+.03 [+.01 +.05]", "<.001", "1.000")
    table.add_row(*cells)
    monkeypatch.setattr(console.out, "width", width)
    console.out.print(table)
    shown = capsys.readouterr().out
    assert all(cell in shown for cell in (*cells[1:], "Misrepresentations", "before", "Holm"))
    assert "…" not in shown
    assert "│" not in shown
