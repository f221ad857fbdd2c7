import errno
import json
import os
from pathlib import Path

import pytest

from tests.locks import at_work
from tsdi import files
from tsdi.errors import RunExistsError, TsdiError, UsageError
from tsdi.files import LOCK, is_unused, parse_json, working_in, working_on, write_json


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


@pytest.mark.parametrize("text", ["[" * 100_000, "{", b"\xff", "1" * 5000])
def test_whatever_is_wrong_with_json_is_a_value_error(text):
    with pytest.raises(ValueError, match=r"."):
        parse_json(text)


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
