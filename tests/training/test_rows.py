"""Rows that are longer than `max_length`: counted, named, and never left out without a word."""

import pytest

from tests.cli.conftest import tsdi
from tests.training.made import PAIRS, recipe_file
from tests.training.test_run import refused
from tsdi.files import parse_json
from tsdi.training.rows import Fit

# TRL still calls it by its old name.
pytestmark = pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing:FutureWarning")
LONG = " and so on and on" * 20
MIXED = [
    row | {"prompt": row["prompt"] + LONG * (n % 2), "chosen": row["chosen"] + LONG * (n < 4)}
    for n, row in enumerate(PAIRS)
]
STAGE = """
  made:
    method: {method}
    data: [pairs]
    prefer: safe
    {more}
    steps: 2
    batch_size: 2
    learning_rate: 1.0e-3
    max_length: 60
"""
METHODS = {
    "sft": STAGE.format(method="sft", more="schedule: cosine"),
    "dpo": STAGE.format(method="dpo", more="beta: 0.1\n    monitor: false"),
    "kto": STAGE.format(method="kto", more="beta: 0.1\n    monitor: false"),
}


def train(folder, method, pairs):
    recipe = recipe_file(folder, METHODS[method], pairs=pairs, hold_out="{}")
    return tsdi("train", recipe, "--out", folder / "out")


@pytest.mark.parametrize("method", METHODS)
def test_rows_that_are_too_long_are_counted_and_named(tmp_path, method, caplog):
    result = train(tmp_path, method, MIXED)
    assert result.exit_code == 0, result.output
    log = parse_json((tmp_path / "out/logs/made.json").read_bytes())
    gone = [f"pairs.jsonl, line {line}" for line in (2, 4, 6, 8, 10)]
    rows, left_out = (48, 24) if method == "kto" else (24, 12)
    assert log["cut"] == {"rows": 2, "first": ["pairs.jsonl, line 1", "pairs.jsonl, line 3"]}
    assert (log["examples"], log["dropped"]) == (left_out, {"rows": left_out, "first": gone})
    assert parse_json((tmp_path / "out/run.json").read_bytes())["rows"]["made"] == {
        key: log[key] for key in ("examples", "cut", "dropped")
    }
    assert f"{left_out + 2} of {rows} rows are longer than max_length 60: 2 lose" in caplog.text
    assert f"{left_out} are left out (first: pairs.jsonl, line 2; " in caplog.text
    assert f" {rows - left_out} │   2 │       {left_out} " in result.stdout


@pytest.mark.parametrize("method", ["sft", "dpo"])
def test_where_no_row_is_left_one_line_says_so(tmp_path, method):
    pairs = [row | {"prompt": row["prompt"] + LONG} for row in PAIRS]
    result = train(tmp_path, method, pairs)
    refused(result, "'made'", "max_length 60", "Raise max_length")
    assert "in any of its" in result.stderr


def test_rows_that_fit_are_not_spoken_of():
    assert Fit(24).words("made", 60) == ""


def test_a_late_stage_without_rows_is_found_before_the_first_is_trained(tmp_path):
    late = METHODS["dpo"].replace("  made:", "  late:").replace("max_length: 60", "max_length: 4")
    recipe = recipe_file(tmp_path, METHODS["sft"] + late.lstrip("\n"), hold_out="{}")
    refused(tsdi("train", recipe, "--out", tmp_path / "out"), "'late'", "max_length 4")
    assert not (tmp_path / "out/made").exists()
