"""Two processes on one output: the second says so in one line, and harms nothing."""

import json

import pytest

from tests.cli.conftest import estimate, tsdi
from tests.cli.test_bad_input import _refused
from tests.locks import at_work
from tests.study.made import study_file
from tests.training.made import STAGES, recipe_file
from tsdi import files

FOLDERS = {
    "generate": ["MODEL", "--prompts", "everyday", "--out", "OUT", "--resume"],
    "evaluate": ["MODEL", "--prompts", "everyday", "--out", "OUT", "--resume"],
    "evaluate OUT": ["--resume"],
    "tune": ["MODEL", "--bias", "BIAS", "--prompts", "everyday", "--out", "OUT", "--resume"],
    "winrate": ["BASE", "RUN", "--judge", "m", "--out", "OUT", "--resume"],
    "study": ["results.json", "--out", "OUT"],
    "demo": ["--out", "OUT"],
}
FILES = {
    "merge": ["ONE=1", "TWO=1", "--out", "OUT"],
    "export": ["BIAS", "MODEL", "OUT", "--to", "transformers"],
    "cleanse": ["pairs.jsonl", "--out", "OUT.jsonl", "--resume"],
    "audit refusal-phrases": ["--labels", "l.csv", "--out", "OUT", "--resume"],
}


@pytest.fixture(autouse=True)
def _at_once(monkeypatch, tmp_path):
    monkeypatch.setattr(files, "DYING", 0.05)
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("kind", ["working_in", "working_on"])
def test_a_second_process_is_kept_out_of_every_output(tmp_path, kind):
    commands = FOLDERS if kind == "working_in" else FILES
    (tmp_path / "MODEL").mkdir()
    (tmp_path / "BIAS").mkdir()
    (tmp_path / "BIAS/bias_config.json").touch()
    for out in ("OUT", "OUT.jsonl")[: 1 + (kind == "working_on")]:
        with at_work(tmp_path / out, kind):
            for command, arguments in commands.items():
                if out in (*command.split(), *arguments):
                    result = tsdi(*command.split(), *arguments)
                    _refused(result, "Another process is at work in", out)


def test_nor_do_two_train_or_estimate_or_study_in_one_folder(tmp_path, models):
    recipe, study = recipe_file(tmp_path, STAGES), study_file(tmp_path)
    with at_work(tmp_path / "OUT"):
        _refused(tsdi("train", recipe, "--out", "OUT", "--resume"), "Another process")
        _refused(tsdi(*estimate(models, "OUT", "--resume")), "Another process")
        _refused(tsdi("study", study, "--out", "OUT", "--resume"), "Another process")


def test_jobs_share_a_training_folder_but_no_run(tmp_path):
    recipe = recipe_file(tmp_path, STAGES[: STAGES.index("  helpful:")])
    assert tsdi("train", recipe, "--out", "OUT").exit_code == 0
    (tmp_path / "OUT/logs/sft.json").unlink()
    with at_work(tmp_path / "OUT/sft", "working_on"):
        _refused(tsdi("train", recipe, "--out", "OUT", "--resume"), "Another process", "sft")
    with at_work(tmp_path / "OUT/other", "working_on"):
        assert tsdi("train", recipe, "--out", "OUT", "--resume").exit_code == 0


def test_a_command_lets_go_at_its_end_and_leaves_no_lock(tmp_path, models):
    (tmp_path / "p.txt").write_text("mill")
    command = ["generate", models / "aligned", "--prompts", "p.txt", "--max-new-tokens", 1]
    assert tsdi(*command, "--out", "OUT").exit_code == 0
    assert sorted(path.name for path in (tmp_path / "OUT").iterdir()) == [
        "responses.jsonl",
        "run.json",
    ]
    assert tsdi(*command, "--out", "OUT", "--resume").exit_code == 0
    assert json.loads((tmp_path / "OUT/run.json").read_text())["prompts"]["count"] == 1


def test_a_command_that_fails_leaves_no_folder(tmp_path):
    assert tsdi("generate", "./none", "--prompts", "p.txt", "--out", "some/OUT").exit_code == 2
    assert not list(tmp_path.iterdir())
