import errno
import json
import math
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.locks import at_work
from tsdi import files
from tsdi.errors import FormatError, RunExistsError, TsdiError, UsageError
from tsdi.files import (
    LOCK,
    is_unused,
    parse_json,
    read_object,
    to_json,
    working_in,
    working_on,
    write_json,
)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs the full device of Linux")
def test_a_full_disk_is_one_clear_error_and_leaves_no_rest(tmp_path):
    (tmp_path / ".run.json.part").symlink_to("/dev/full")
    with pytest.raises(TsdiError, match="No space left"):
        write_json(tmp_path / "run.json", {})
    assert not list(tmp_path.iterdir())


def test_json_is_replaced_whole(tmp_path):
    path = tmp_path / "run.json"
    write_json(path, {"seed": 1})
    with pytest.raises(ValueError, match="JSON compliant"):
        write_json(path, {"seed": float("nan")})
    assert json.loads(path.read_text()) == {"seed": 1}
    write_json(path, {"seed": 2})
    assert json.loads(path.read_text()) == {"seed": 2}
    assert not path.read_bytes().endswith(b"}")


def test_a_crash_while_writing_keeps_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "run.json"
    write_json(path, {"seed": 1})

    def crash(_descriptor):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", crash)
    with pytest.raises(KeyboardInterrupt):
        write_json(path, {"seed": 2})
    assert json.loads(path.read_text()) == {"seed": 1}


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[" * 100_000, "nested too deeply"),
        ("[" * 101 + "]" * 101, "nested too deeply"),
        ("{", "Expecting"),
        (b"\xff", "invalid start byte"),
        ("1" * 5000, "a number is NaN, infinite or of more than 100 digits"),
        (f'{{"a": [{{"category": {"1" * 4301}}}]}}', "`category` is NaN, infinite or of more"),
        ('{"seed": [1, 1e999]}', "`seed` is NaN"),
        ('{"seed": -Infinity}', "`seed` is NaN"),
        ("[NaN]", "a number is NaN"),
    ],
)
def test_whatever_is_wrong_with_json_is_a_value_error_that_names_the_key(text, problem):
    with pytest.raises(ValueError, match=problem) as caught:
        parse_json(text)
    assert "\n" not in str(caught.value)


def test_configs_of_models_may_hold_infinity():
    assert parse_json('{"time_step_limit": [0.0, Infinity]}', finite=False) == {
        "time_step_limit": [0.0, math.inf]
    }


PIECES = ["[", "]", "{", "}", ",", ":", '"a"', "null", "NaN", "-Infinity", "1e999", "-1e-999"]
PIECES += ["9" * 100, "-" + "9" * 101, "9" * 5000, "0.1", "[" * 99, '"\\ud800"', "\ufeff", "\x00"]


@given(st.lists(st.sampled_from(PIECES)).map("".join) | st.text() | st.binary())
def test_what_is_parsed_can_be_written_again(text):
    try:
        value = parse_json(text)
    except ValueError:
        return
    assert parse_json(to_json(value)) == value


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b'{"seed": NaN}', "`seed` is NaN"),
        (b"[1]", "no JSON object"),
        (b"null", "no JSON object"),
        (b"{", "Expecting"),
        (None, "Cannot read"),
    ],
)
def test_a_damaged_file_of_ours_is_one_line_with_a_remedy(tmp_path, data, problem):
    path = tmp_path / "run.json"
    if data is not None:
        path.write_bytes(data)
    with pytest.raises(FormatError, match=rf"run\.json.*{problem}|{problem}.*run\.json") as caught:
        read_object(path, "Restore it.")
    assert str(caught.value).endswith("Restore it.")


class TestALock:
    def test_a_second_process_is_kept_out_in_one_line(self, tmp_path, monkeypatch):
        monkeypatch.setattr(files, "DYING", 0.1)
        with (
            at_work(tmp_path / "run"),
            pytest.raises(RunExistsError, match=r"Another process is at work in .*run"),
            working_in(tmp_path / "run"),
        ):
            pass
        with working_in(tmp_path / "run"):
            assert not is_unused(tmp_path)

    @pytest.mark.parametrize("kind", ["working_in", "working_on"])
    def test_death_lets_go(self, tmp_path, kind):
        with at_work(tmp_path / "run", kind) as process:
            process.kill()
            with {"working_in": working_in, "working_on": working_on}[kind](tmp_path / "run"):
                pass

    def test_one_thread_may_hold_it_twice_and_nothing_is_left_behind(self, tmp_path):
        folder = tmp_path / "some" / "run"
        with working_in(folder), working_in(tmp_path / "some/../some/run"):
            assert is_unused(folder)
        assert not list(tmp_path.iterdir())
        with working_in(folder):
            (folder / "run.json").touch()
        assert [path.name for path in folder.iterdir()] == ["run.json"]

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
    def test_a_child_that_outlives_its_parent_does_not_hold_it(self, tmp_path):
        forked = "import os; os.fork() or os._exit(bool(sys.stdin.read()))"
        with at_work(tmp_path / "run", more=forked) as process:
            process.kill()  # its child reads on
            with working_in(tmp_path / "run"):
                pass

    def test_a_folder_that_cannot_be_made_is_one_line(self, tmp_path):
        (tmp_path / "file").touch()
        with (
            pytest.raises(UsageError, match="Cannot make the folder"),
            working_in(tmp_path / "file"),
        ):
            pass

    def test_what_a_kill_left_half_written_is_no_use(self, tmp_path):
        (tmp_path / ".run.json.part").touch()
        (tmp_path / LOCK).touch()
        assert is_unused(tmp_path)
        (tmp_path / "mine").touch()
        assert not is_unused(tmp_path)


def test_a_file_that_cannot_be_written_is_named_itself(tmp_path, monkeypatch):
    def read_only(*_given, **_more):
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(Path, "open", read_only)
    monkeypatch.setattr(Path, "unlink", read_only)
    with pytest.raises(TsdiError, match=r"Cannot write .*/metrics\.json: Read-only"):
        write_json(tmp_path / "metrics.json", {})
