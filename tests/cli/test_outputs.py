"""No command writes over what it reads, or over another kind of file; an empty path is none."""

import json
import os

import pytest

from tests.cli.conftest import estimate, tsdi
from tests.cli.test_bad_input import _refused
from tests.cli.test_cleanse import ROWS, written
from tests.study.made import study_file
from tests.training.made import STAGES, recipe_file
from tsdi.runs.records import append_records

OTHERS = {"mine.csv": "a,b\n1,2\n", "mine.json": '{"judge": "mine"}', "mine.txt": "notes"}
LABELS = "prompt,answer,label,kind,model\n" + "".join(
    f"p{n},No.,{'refused' if n % 2 else 'complied'},harmless,m\n" for n in range(4)
)


@pytest.fixture(autouse=True)
def _place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, text in OTHERS.items():
        (tmp_path / name).write_text(text)
    (tmp_path / "labels.csv").write_text(LABELS)
    written(tmp_path / "pairs.jsonl", ROWS)
    written(tmp_path / "raw.jsonl", [{"prompt": "a", "chosen": "x", "rejected": "y"}])


@pytest.fixture
def unchanged(tmp_path):
    """Nothing that was there is another, and nothing is there that was not."""

    def state():
        files = (path for path in tmp_path.rglob("*") if path.is_file())
        return {path: path.read_bytes() for path in files}

    before = state()
    yield
    assert state() == before


AUDIT = ["audit", "refusal-phrases", "--labels", "labels.csv", "--out"]
CLEANSE = ["cleanse", "pairs.jsonl", "--out"]


@pytest.mark.usefixtures("unchanged")
@pytest.mark.parametrize("out", ["labels.csv", "./labels.csv", *OTHERS])
def test_an_audit_takes_the_place_of_an_audit_only(out):
    said = "is read" if "labels" in out else "is there already, and is not"
    _refused(tsdi(*AUDIT, out), said, "Name another")


@pytest.mark.usefixtures("unchanged")
def test_pairs_take_the_place_of_cleansed_pairs_only(tmp_path):
    _refused(tsdi(*CLEANSE, "pairs.jsonl"), "is read")
    _refused(tsdi(*CLEANSE, "raw.jsonl"), "is not a file of cleansed pairs")


def test_a_link_to_what_is_read_is_what_is_read(tmp_path):
    os.link("pairs.jsonl", "same.jsonl")
    _refused(tsdi(*CLEANSE, "same.jsonl"), "is read")


def test_a_figure_takes_the_place_of_a_figure_only(tmp_path):
    (tmp_path / "mine.html").write_text("<html>tsdi</html>")
    _refused(
        tsdi(*CLEANSE, "mine.jsonl"), "mine.html is there already", "is not a report of tsdi's"
    )
    for _ in range(2):
        result = tsdi(*CLEANSE, "f3.jsonl")
        assert result.exit_code == 0, result.stderr


def test_an_earlier_result_is_replaced():
    for _ in range(2):
        assert tsdi(*AUDIT, "audit.json").exit_code == 0
        assert tsdi(*CLEANSE, "kept.jsonl").exit_code == 0


def test_the_demo_does_not_write_over_a_report_of_others(tmp_path):
    (tmp_path / "report.html").write_text("mine")
    _refused(tsdi("demo", "--out", "."), "report.html", "is not a report of tsdi's")


@pytest.mark.usefixtures("unchanged")
def test_nothing_goes_on_in_a_folder_of_other_things(models, bias, tmp_path):
    _refused(tsdi(*estimate(models, tmp_path, "--resume")), "holds other files and no estimate")
    tune = ["tune", models / "aligned", "--bias", bias, "--prompts", "everyday", "--out", tmp_path]
    _refused(tsdi(*tune, "--resume"), "holds other files and no search")


def test_a_study_does_not_go_on_in_a_folder_of_other_things(tmp_path):
    file = study_file(tmp_path)
    (tmp_path / "out").mkdir()
    (tmp_path / "out/mine.txt").touch()
    command = ["study", file, "--out", "out", "--resume"]
    _refused(tsdi(*command), "holds other files and no study")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["mine.txt"]


@pytest.mark.parametrize(
    ("name", "command"),
    [
        ("run.json", ["generate", "MODEL", "--prompts", "mine.txt:kind=harmless", "--out", "run"]),
        ("judge.json", ["evaluate", "run"]),
        ("metrics.json", ["evaluate", "run"]),
    ],
)
def test_descriptions_of_other_things_are_left_alone(models, tmp_path, name, command):
    (tmp_path / "run").mkdir()
    if command[0] == "evaluate":
        messages = [{"role": "user", "content": "hello"}]
        answer = {"id": "1", "messages": messages, "response": "Hello.", "kind": "harmless"}
        append_records(tmp_path / "run/responses.jsonl", [answer])
    (tmp_path / "run" / name).write_text('{"recipe": {}, "versions": {}}')
    given = [models / "aligned" if word == "MODEL" else word for word in command]
    more = ["--max-new-tokens", 1] if command[0] == "generate" else []
    _refused(tsdi(*given, *more), name, "tsdi wrote no such thing")
    assert json.loads((tmp_path / "run" / name).read_text()) == {"recipe": {}, "versions": {}}


@pytest.mark.usefixtures("unchanged")
@pytest.mark.parametrize(
    "command",
    [
        ["demo", "--out", ""],
        ["estimate", "A", "B", "--out", ""],
        ["generate", "M", "--prompts", "p", "--out="],
        ["evaluate", "M", "--prompts", "p", "--out", ""],
        ["evaluate", ""],
        ["winrate", "A", "B", "--judge", "m", "--out", ""],
        ["tune", "M", "--bias", "b", "--prompts", "p", "--out", ""],
        ["study", "s.yaml", "--out", ""],
        ["study", "results.json", "--out", ""],
        ["export", "b", "M", ""],
        ["train", "r.yaml", "--out", ""],
        ["merge", "A=1", "B=1", "--out", ""],
        [*AUDIT, ""],
        [*CLEANSE, ""],
        ["audit", "refusal-phrases", "--labels", ""],
        ["generate", "M", "--prompt", "hello", "--bias", ""],
        ["serve", "M", "--bias", ""],
    ],
)
def test_an_empty_path_is_refused_everywhere(command):
    _refused(tsdi(*command), "is empty")


def test_what_is_empty_without_being_given_may_be_given_empty():
    assert tsdi(*AUDIT, "audit.json", "--end-of-thinking", "").exit_code == 0


def test_a_training_run_is_not_described_anew(tmp_path):
    recipe = recipe_file(tmp_path, STAGES)
    (tmp_path / "out").mkdir()
    (tmp_path / "out/run.json").write_text("[1]")
    _refused(tsdi("train", recipe, "--out", "out", "--resume"), "run.json is damaged")
