import errno
import json
import math
import os
import shutil
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
    unwritable,
    working_in,
    working_on,
    write_bytes,
    write_folder,
    write_json,
    write_set,
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
        ('[{"strength": 0, "pool": 1, "strength": 1}]', "`strength` is there twice"),
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


class TestAFolderThatGetsItsNameWhenWhole:
    def fill(self, path):
        with write_folder(path) as folder:
            (folder / "model").write_text("new")

    def test_it_holds_what_was_put_there(self, tmp_path):
        self.fill(tmp_path / "out")
        assert [path.name for path in tmp_path.iterdir()] == ["out"]
        assert [path.name for path in (tmp_path / "out").iterdir()] == ["model"]

    def test_what_a_killed_process_left_is_removed(self, tmp_path):
        def killed():
            with write_folder(tmp_path / "out") as folder:
                (folder / "half").touch()
                shutil.copytree(folder, tmp_path / "left")

        killed()
        shutil.rmtree(tmp_path / "out")
        (tmp_path / "left").rename(tmp_path / "out.unfinished")
        self.fill(tmp_path / "out")
        assert [path.name for path in (tmp_path / "out").iterdir()] == ["model"]

    def test_what_somebody_else_put_there_is_left_alone(self, tmp_path):
        (tmp_path / "out.unfinished").mkdir()
        (tmp_path / "out.unfinished/thesis").touch()
        with pytest.raises(RunExistsError, match=r"out\.unfinished is in the way"):
            self.fill(tmp_path / "out")
        assert (tmp_path / "out.unfinished/thesis").exists()


class TestASetOfFiles:
    def test_earlier_ones_are_replaced_and_others_left_alone(self, tmp_path):
        write_set(tmp_path, {"page": b"1", "tables/a": b"1", "tables/b": b"1"})
        (tmp_path / "tables/mine").touch()
        write_set(tmp_path, {"page": b"2", "tables/a": b"2"})
        files = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("[!.]*")}
        assert files == {"page", "tables", "tables/a", "tables/mine"}
        assert (tmp_path / "page").read_bytes() == b"2"

    def test_nothing_is_written_where_something_else_is_in_the_way(self, tmp_path):
        (tmp_path / "page").write_text("mine")
        with pytest.raises(RunExistsError, match="page is in the way"):
            write_set(tmp_path, {"tables/a": b"1", "page": b"1"})
        assert [path.name for path in tmp_path.iterdir()] == ["page"]
        write_set(tmp_path, {"page": b"1"}, own=True)
        assert (tmp_path / "page").read_text() == "1"

    @pytest.mark.parametrize(
        "names", ['["../mine"]', '["/etc/passwd", 3]', "{", '{"mine": 1}', "[1"]
    )
    def test_a_list_of_names_that_somebody_else_wrote_deletes_nothing(self, tmp_path, names):
        (tmp_path / "mine").touch()
        write_set(tmp_path / "out", {"page": b"1"})
        (tmp_path / "out/.tsdi-written.json").write_text(names)
        write_set(tmp_path / "out", {"table": b"1"})
        assert (tmp_path / "mine").exists()
        assert (tmp_path / "out/page").exists()

    def test_a_kill_between_two_files_is_gone_on_from(self, tmp_path, monkeypatch):
        write_set(tmp_path, {"a": b"1", "old": b"1"})
        with monkeypatch.context() as patch:
            patch.setattr(files, "write_bytes", killed_at("b"))
            with pytest.raises(KeyboardInterrupt):
                write_set(tmp_path, {"a": b"2", "b": b"2"})
        write_set(tmp_path, {"a": b"2", "b": b"2"})
        assert {path.name for path in tmp_path.glob("[!.]*")} == {"a", "b"}


def killed_at(name, write=write_bytes):
    """A function that writes files, in which a process is killed before one of that name."""

    def killed(path, data):
        if path.name == name:
            raise KeyboardInterrupt
        write(path, data)

    return killed


def test_of_many_files_that_could_not_be_copied_the_first_ones_reason_is_said():
    why = "[Errno 28] No space left on device: 'model/a' -> 'out/a'"
    error = unwritable(Path("out"), shutil.Error([(f"model/{n}", f"out/{n}", why) for n in "abcd"]))
    assert error.problem == "Cannot write out: [Errno 28] No space left on device."
