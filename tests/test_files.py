import json
import os
from pathlib import Path

import pytest

from tsdi.errors import TsdiError
from tsdi.files import parse_json, write_json


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
