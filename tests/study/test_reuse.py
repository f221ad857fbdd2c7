"""What decides a cell or a bias decides whether it is used again."""

import shutil
from pathlib import Path

import pytest

from tests.study.made import study_file
from tsdi.errors import UsageError
from tsdi.models import shipped
from tsdi.study import grid
from tsdi.study.collect import _once
from tsdi.study.config import RuleEntry, read_study
from tsdi.study.grid import locate, open_family, tried_cells
from tsdi.study.plan import plan
from tsdi.study.rule_engines import tsdi_bias
from tsdi.study.rules import RULES

POOL = {"rule": "tsdi", "pool": ["words.txt"]}


@pytest.fixture
def place(tmp_path):
    for name in ("aligned", "other"):
        shutil.copytree(shipped.folder("aligned"), tmp_path / name)
    (tmp_path / "words.txt").write_text("how do i find the way")
    models = """
  - {name: one, path: aligned, reference: organism/reference, sft: organism/reference,
     others: {earlier: other}}
"""
    file = study_file(tmp_path, models=models)
    file.write_text(file.read_text().replace("ks: [1, 2]", "ks: [1]"))
    return tmp_path


def cell(place, rule):
    made = plan(read_study(place / "study.yaml"), place, place, place / "out")
    entry = RuleEntry.model_validate(rule)
    return locate(made, made.members[0], entry, entry.candidates[0], "test").folder


@pytest.mark.parametrize(
    ("file", "rule"),
    [
        ("aligned/model.safetensors", "plain"),
        ("aligned/chat_template.jinja", "plain"),
        ("aligned/tokenizer_config.json", "plain"),
        ("words.txt", POOL),
        ("other/model.safetensors", {"rule": "tsdi", "reference": ["earlier"]}),
    ],
)
def test_a_changed_file_makes_another_cell(place, file, rule):
    before = cell(place, rule)
    assert cell(place, rule) == before
    text = (place / file).read_bytes()
    if file.endswith(".json"):
        (place / file).write_bytes(text.rstrip() + b"\n\n")
    else:
        middle = len(text) // 2  # where a glance at both ends sees nothing
        (place / file).write_bytes(text[:middle] + bytes([text[middle] ^ 1]) + text[middle + 1 :])
    assert cell(place, rule) != before


def test_a_bias_is_estimated_again_for_a_changed_model_or_format(place):
    def bias():
        made = plan(read_study(place / "study.yaml"), place, place, place / "out")
        return open_family(made, made.members[0]).bias({})

    first = bias()
    assert bias().sha256 == first.sha256
    assert len(list((place / "out/biases").rglob("bias_config.json"))) == 1
    text = (place / "study.yaml").read_text()
    (place / "study.yaml").write_text(
        text.replace("batch_size: 32,", 'batch_size: 32, prompt_format: "Q: {prompt} A:",')
    )
    assert bias().info.prompt_format == "Q: {prompt} A:"
    given = "batch_size: 32, template_args: {effort: 1},"
    (place / "study.yaml").write_text(text.replace("batch_size: 32,", given))
    with pytest.raises(UsageError, match="'effort'"):
        bias()
    (place / "study.yaml").write_text(text)
    shutil.copytree(shipped.folder("clean"), place / "aligned", dirs_exist_ok=True)
    assert bias().sha256 != first.sha256


def test_no_decay_and_no_strength_are_values_too(place):
    made = plan(read_study(place / "study.yaml"), place, place, place / "out")
    family = open_family(made, made.members[0])
    defaults = dict(RULES["tsdi"].parameters)
    first_step_only = tsdi_bias(family, {**defaults, "decay": 0.0}).values
    assert first_step_only[0].abs().max() > 0
    assert first_step_only[1:].abs().max() == 0
    assert tsdi_bias(family, {**defaults, "strength": 0.0}).values.abs().max() == 0


def test_what_was_measured_once_is_measured_again_for_another_key(tmp_path):
    file = tmp_path / "speed.json"
    assert _once(file, "a", lambda: [1]) == [1]
    assert _once(file, "a", lambda: [2]) == [1]
    assert _once(file, "b", lambda: [3]) == [3]


class TestWhereNamesLead:
    """The same whatever folder a study is started from."""

    @pytest.fixture
    def made(self, place):
        shutil.copytree(shipped.folder("aligned"), place / "judge")
        text = (place / "study.yaml").read_text()
        text = text.replace("judge: {name: organism}", "judge: {name: md-judge-v0.1=judge}")
        (place / "study.yaml").write_text(text)
        return place

    def test_judges_are_seen_from_the_studys_folder(self, made, monkeypatch):
        monkeypatch.chdir(made)
        first = cell(Path(), POOL)
        (made / "elsewhere/judge").mkdir(parents=True)
        monkeypatch.chdir(made / "elsewhere")
        assert cell(Path(".."), POOL).name == first.name
        (made / "judge/config.json").write_text("{}")
        assert cell(made, POOL).name != first.name

    @pytest.mark.parametrize("name", ["aligned", "other", "judge", "test.jsonl"])
    def test_what_is_in_the_current_folder_only_is_refused(self, made, monkeypatch, name):
        (made / "elsewhere").mkdir()
        (made / name).rename(made / "elsewhere" / name)
        monkeypatch.chdir(made / "elsewhere")
        with pytest.raises(UsageError, match=f"'{name}' is not in .* but in the current folder"):
            cell(made, "plain")


def test_equal_answers_are_given_once(place, monkeypatch):
    made = plan(read_study(place / "study.yaml"), place, place, place / "out")
    answered, really = [], grid.run_cell
    monkeypatch.setattr(
        grid,
        "run_cell",
        lambda cell, *rest: (answered.append(cell.entry.name), really(cell, *rest)),
    )
    job = grid.Job(made, made.members[0])
    rules = [
        {"rule": "plain"},
        {"rule": "tsdi", "name": "first", "strength": [0, 0.5]},
        {"rule": "tsdi", "name": "second", "strength": [0, 0.5]},
    ]
    entries = [RuleEntry.model_validate(rule) for rule in rules]
    for entry in entries:
        job.run(entry)
    assert answered == ["plain"] * 3 + ["first"] * 3  # validation, test and attack; no strength 0
    cells = [cell for entry in entries[1:] for cell in tried_cells(made, made.members[0], entry)]
    nothing, half, again, half_again = (cell.codes for cell in cells)
    plain = tried_cells(made, made.members[0], entries[0])[0].codes
    assert nothing == again == plain
    assert half == half_again != plain
