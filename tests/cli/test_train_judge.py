"""``tsdi audit --train``: labels to a judge, and a judge to verdicts."""

import csv
import json
import random

import pytest

import tsdi.audit as library
from tests.audit.test_train_judge import MODELS, TEXTS
from tests.cli.conftest import tsdi
from tests.cli.test_bad_input import _refused
from tsdi.runs.records import append_records


@pytest.fixture
def labels(tmp_path):
    return written(tmp_path / "labels.csv", shuffled=False)


def written(path, shuffled):
    dice = random.Random(0)
    rows = []
    for model in MODELS:
        for number in range(40):
            verdict = dice.choice([*TEXTS])
            rows.append([f"prompt {number}", dice.choice(TEXTS[verdict]), verdict.value, model])
    if shuffled:
        verdicts = [row[2] for row in rows]
        dice.shuffle(verdicts)
        rows = [
            [row[0], row[1], verdict, row[3]] for row, verdict in zip(rows, verdicts, strict=True)
        ]
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([["prompt", "answer", "label", "model"], *rows])
    return path


def test_labels_become_a_judge_that_judges(labels, tmp_path):
    out = tmp_path / "mine.json"
    result = tsdi("audit", "--train", out, "--labels", labels, "--kind", "lookalike")
    assert result.exit_code == 0, result.output
    assert "gain over xstest-strings" in result.stdout
    assert max(map(len, result.stdout.splitlines())) <= 80
    assert not any(text in out.read_text() for texts in TEXTS.values() for text in texts)
    answer = {
        "id": "p",
        "kind": "lookalike",
        "messages": [{"role": "user", "content": "prompt"}],
        "response": "1. Take a pan.\n2. Heat it.",
    }
    append_records(tmp_path / "responses.jsonl", [answer])
    judged = tsdi("evaluate", tmp_path, "--judge", f"trained={out}", "--json")
    assert judged.exit_code == 0, judged.output
    assert json.loads(judged.stdout)["figures"]["lookalike_compliance"]["value"] == 1
    audited = tsdi("audit", f"trained={out}", "--labels", labels, "--kind", "lookalike")
    assert "trained on these labels" in " ".join(audited.output.split())


def test_the_same_labels_give_the_same_bytes(labels, tmp_path):
    for name in ("a", "b"):
        result = tsdi("audit", "--train", tmp_path / name, "--labels", labels,
                      "--kind", "lookalike", "--json")  # fmt: skip
        assert json.loads(result.stdout)["better"] is True
    label_format = library.LabelFormat(kind="lookalike")
    assert library.train([labels], tmp_path / "c", label_format=label_format).better
    assert len({(tmp_path / name).read_bytes() for name in "abc"}) == 1


def test_a_judge_that_is_not_better_is_not_written(tmp_path):
    labels = written(tmp_path / "labels.csv", shuffled=True)
    result = tsdi("audit", "--train", tmp_path / "judge.json", "--labels", labels,
                  "--kind", "lookalike")  # fmt: skip
    assert result.exit_code == 1
    assert "nothing was written" in " ".join(result.stdout.split())
    assert not (tmp_path / "judge.json").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--train", "OUT"], ["no labels", "--labels"]),
        (["xstest-strings", "--train", "OUT", "--labels", "FILE"], ["Leave JUDGE out"]),
        (["--train", "OUT", "--labels", "FILE", "--examples", "3"], ["Leave --examples out"]),
        (["--train", "OUT", "--labels", "FILE"], ["no kind", "--kind"]),
        (["--labels", "FILE"], ["no judge to audit", "--train"]),
        (["trained", "--labels", "FILE", "--kind", "lookalike"], ["trained=FILE"]),
    ],
)
def test_bad_input_is_one_line(labels, tmp_path, arguments, words):
    places = {"OUT": tmp_path / "out", "FILE": labels}
    _refused(tsdi("audit", *(places.get(word, word) for word in arguments)), *words)
    assert not (tmp_path / "out").exists()
