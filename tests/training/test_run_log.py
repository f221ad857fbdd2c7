"""Logs of finished runs, read again."""

import json

import pytest

from tsdi.errors import FormatError
from tsdi.training.run_folder import read_run_log

LOG = {
    "run": "sft", "beta": None, "examples": 8, "cut": {"rows": 0, "first": []},
    "dropped": {"rows": 0, "first": []}, "steps": 2, "seconds": 1.5, "train_loss": 0.7,
    "history": [],
}  # fmt: skip


def test_a_log_is_read_as_it_is(tmp_path):
    (tmp_path / "sft.json").write_text(json.dumps(LOG))
    assert read_run_log(tmp_path / "sft.json") == LOG


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("{", "is damaged"),
        ("[1]", "no JSON object"),
        ("null", "no JSON object"),
        (json.dumps(LOG | {"train_loss": float("nan")}), "`train_loss` is NaN"),
        (json.dumps(LOG | {"beta": "high"}), "`beta` is not what it should be"),
        (json.dumps(LOG | {"cut": {}}), "`cut.rows` is not what it should be"),
        (json.dumps({k: v for k, v in LOG.items() if k != "steps"}), "`steps` is not"),
    ],
)
def test_a_damaged_one_is_named_with_what_to_do(tmp_path, text, problem):
    (tmp_path / "sft.json").write_text(text)
    with pytest.raises(FormatError, match=rf"sft\.json.*{problem}.*train sft again"):
        read_run_log(tmp_path / "sft.json")
