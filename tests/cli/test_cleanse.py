"""``tsdi cleanse``: pairs and scores to fewer pairs."""

import inspect
import json

import pytest

import tsdi as library
from tests.cli.conftest import tsdi
from tests.cli.test_bad_input import _refused
from tests.data import real
from tsdi.cli.cleanse import cleanse
from tsdi.errors import UsageError
from tsdi.judging.base import Judge
from tsdi.judging.registry import JUDGES, Known
from tsdi.judging.verdict import Judgement, Verdict
from tsdi.runs.records import append_records, read_records
from tsdi.training.cleansing import THRESHOLD

ROWS = [
    {"prompt": "a", "chosen": "x", "rejected": "y", "category": "O2", "chosen_safety": 0.9,
     "rejected_safety": 0.1},
    {"prompt": "b", "chosen": "x\u2028z", "rejected": "y", "category": "O10", "chosen_safety": 0.1,
     "rejected_safety": 0.2},
    {"prompt": "c", "chosen": "x", "rejected": "y", "chosen_safety": 0.25, "rejected_safety": 0.9},
    {"prompt": "d", "chosen": "x", "rejected": "y", "chosen_safety": None, "rejected_safety": 0.9},
]  # fmt: skip


@pytest.fixture
def pairs(tmp_path):
    return written(tmp_path / "pairs.jsonl", ROWS)


def written(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def read(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n")[:-1]]


class Apologies(Judge):
    """Takes a word of apology for a refusal, and gives a probability of one."""

    name = "apologies"
    sees_safety = False
    sees_refusal = True

    def settings(self):
        return {}

    def judge_answers(self, answers):
        return [
            Judgement(Verdict.REFUSED, probability=0.95)
            if "sorry" in answer.text
            else Judgement(Verdict.COMPLIED, probability=0.05)
            for answer in answers
        ]


APOLOGIES = Apologies()


@pytest.fixture
def judge(monkeypatch):
    known = Known("tests.cli.test_cleanse:APOLOGIES", "refusals", "nothing")
    monkeypatch.setitem(JUDGES, "apologies", known)
    return "apologies"


@pytest.fixture
def bare(tmp_path):
    sorry = "I'm sorry, but I can't help with that."
    rows = [
        {"prompt": "a", "chosen": sorry, "rejected": "Sure, here it is."},
        {"prompt": "b", "chosen": "Sure, here it is.", "rejected": sorry},
        {"prompt": "c", "chosen": sorry, "rejected": "Yes."},
    ]
    return written(tmp_path / "bare.jsonl", rows)


def test_the_threshold_of_the_command_is_the_papers():
    assert inspect.signature(cleanse).parameters["threshold"].default == THRESHOLD


def test_scores_in_the_file_decide(pairs, tmp_path):
    out = tmp_path / "out.jsonl"
    result = tsdi("cleanse", pairs, "--out", out)
    assert result.exit_code == 0, result.output
    assert read(out) == [ROWS[0], ROWS[2]]
    said = " ".join(result.stdout.split())
    assert "Kept 2 of 4 pairs, dropped 1, 1 without a score." in said
    assert said.index("(no category)") < said.index("O2") < said.index("O10") < said.index("all")
    assert {path.name for path in tmp_path.iterdir()} == {"pairs.jsonl", "out.jsonl", "out.html"}


def test_python_does_what_the_command_does(pairs, tmp_path):
    printed = json.loads(tsdi("cleanse", pairs, "--out", tmp_path / "a.jsonl", "--json").stdout)
    found = library.cleanse(pairs, tmp_path / "b.jsonl")
    assert printed.items() >= found.to_dict().items()
    assert (tmp_path / "a.jsonl").read_bytes() == (tmp_path / "b.jsonl").read_bytes()
    with pytest.raises(UsageError, match="'safety'"):
        library.cleanse(pairs, tmp_path / "b.jsonl", columns={"safety": "p"})


def test_rejected_drops_more_and_says_how_many(pairs, tmp_path):
    result = tsdi("cleanse", pairs, "--out", tmp_path / "out.jsonl", "--rejected")
    assert read(tmp_path / "out.jsonl") == [ROWS[0]]
    assert "dropped 3 (2 for the rejected answer alone)" in " ".join(result.stdout.split())


def test_what_was_cleansed_can_be_cleansed_again(pairs, tmp_path):
    tsdi("cleanse", pairs, "--out", tmp_path / "one.jsonl")
    result = tsdi("cleanse", tmp_path / "one.jsonl", "--out", tmp_path / "two.jsonl",
                  "--threshold", "0.5", "--json")  # fmt: skip
    found = json.loads(result.stdout)
    assert (found["overall"]["kept"], found["overall"]["dropped"], found["judge"]) == (1, 1, None)
    assert read(tmp_path / "two.jsonl") == [ROWS[0]]


def test_columns_may_have_other_names(tmp_path):
    path = tmp_path / "scored.csv"
    path.write_text("question,chosen,rejected,p\nq,x,y,0.9\nr,x,y,0.1\ns,x,y,\n")
    named = f"{path}:prompt=question,chosen_safety=p"
    result = tsdi("cleanse", named, "--out", tmp_path / "out.jsonl", "--json")
    assert result.exit_code == 0, result.output
    assert read(tmp_path / "out.jsonl") == [
        {"prompt": "q", "chosen": "x", "rejected": "y", "chosen_safety": 0.9}
    ]
    assert json.loads(result.stdout)["overall"]["unscored"] == 1


def test_a_judge_scores_and_the_verdicts_serve_another_threshold(bare, judge, tmp_path):
    out = tmp_path / "out.jsonl"
    result = tsdi("cleanse", bare, "--out", out, "--judge", judge)
    assert result.exit_code == 0, result.output
    assert [row["prompt"] for row in read(out)] == ["a", "c"]
    assert all(row["chosen_safety"] > 0.9 for row in read(out))
    assert all(row["rejected_safety"] < 0.2 for row in read(out))
    assert "sees refusals, not safety" in " ".join(result.stderr.split())
    verdicts = tmp_path / "out.jsonl.verdicts.jsonl"
    before = verdicts.read_bytes()
    assert len(read_records(verdicts)) == 6
    _refused(tsdi("cleanse", bare, "--out", out, "--judge", judge), "--resume")
    again = tsdi("cleanse", bare, "--out", out, "--judge", judge, "--resume",
                 "--threshold", "0")  # fmt: skip
    assert again.exit_code == 0, again.output
    assert len(read(out)) == 3
    assert verdicts.read_bytes() == before


def test_a_killed_judging_goes_on(bare, judge, tmp_path):
    whole, out = tmp_path / "whole.jsonl", tmp_path / "out.jsonl"
    for path in (whole, out):
        tsdi("cleanse", bare, "--out", path, "--judge", judge)
    verdicts = tmp_path / "out.jsonl.verdicts.jsonl"
    records = read_records(verdicts)
    verdicts.unlink()
    append_records(verdicts, records[:2])
    out.unlink()
    result = tsdi("cleanse", bare, "--out", out, "--judge", judge, "--resume")
    assert result.exit_code == 0, result.output
    assert out.read_bytes() == whole.read_bytes()


def test_the_table_has_80_columns_whatever_the_categories(tmp_path):
    rows = [
        {**ROWS[0], "category": f"[bold]{n} \x1b[2J{'very ' * 20}", "prompt": str(n)}
        for n in range(3)
    ]
    rows.append({**ROWS[3], "category": "O1"})
    result = tsdi("cleanse", written(tmp_path / "p.jsonl", rows), "--out", tmp_path / "o.jsonl")
    assert max(map(len, result.stdout.splitlines())) <= 80
    assert "[bold]0 \\x1b[2J" in result.stdout
    assert "unscored" in result.stdout
    assert "\x1b[2J" not in result.stdout


def test_the_page_is_one_offline_file(pairs, tmp_path):
    result = tsdi("cleanse", pairs, "--out", tmp_path / "o.jsonl")
    assert result.exit_code == 0, result.output
    assert "Of 4 pairs 1 are dropped" in (tmp_path / "o.html").read_text(encoding="utf-8")


def test_rows_that_teach_nothing_are_left_out_and_counted(tmp_path):
    rows = [ROWS[0], {**ROWS[0], "rejected": "x"}, {**ROWS[0], "chosen": " "}]
    path = written(tmp_path / "p.jsonl", rows)
    result = tsdi("cleanse", path, "--out", tmp_path / "o.jsonl", "--json")
    found = json.loads(result.stdout)
    assert (found["overall"]["pairs"], found["unusable"]) == (1, 2)
    assert "2 rows" in found["notes"][0]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--threshold", "0.95"], ["No pair would be kept", "3 are dropped", "1 have no score"]),
        (["--judge", "refusal-phrases"], ["refusal-phrases gives no probability", "md-judge-v0.1"]),
        (["--judge", "md-judge"], ["no judge 'md-judge'"]),
        (["--judge", "wildguard+refusal-phrases"], ["two judges", "name one"]),
        (["--resume"], ["--resume needs --judge"]),
        (["--dtype", "float32"], ["--dtype needs --judge"]),
        (["--judge-arg", "labels=a=SAFE"], ["--judge-arg needs --judge"]),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(pairs, tmp_path, arguments, words):
    _refused(tsdi("cleanse", pairs, "--out", tmp_path / "out.jsonl", *arguments), *words)
    assert [path.name for path in tmp_path.iterdir()] == ["pairs.jsonl"]


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ("chosen_safety=score", ["pairs.jsonl, line 1", "'score'"]),
        ("safety=score", ["'safety=score'", "chosen_safety"]),
    ],
)
def test_columns_that_are_none_are_named(pairs, tmp_path, columns, words):
    _refused(tsdi("cleanse", f"{pairs}:{columns}", "--out", tmp_path / "out.jsonl"), *words)


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"chosen_safety": "high"}, ["line 1", "'chosen_safety'", "from 0 to 1"]),
        ({"chosen_safety": 1.5}, ["line 1", "'chosen_safety'", "1.5"]),
        ({"rejected_safety": True}, ["line 1", "'rejected_safety'"]),
        ({"prompt": 3}, ["line 1", "'prompt'"]),
    ],
)
def test_rows_that_cannot_be_are_named(tmp_path, row, words):
    path = written(tmp_path / "p.jsonl", [{**ROWS[0], **row}])
    _refused(tsdi("cleanse", path, "--out", tmp_path / "o.jsonl"), "p.jsonl", *words)


def test_scores_that_are_not_there_at_all_are_named(tmp_path):
    row = {key: value for key, value in ROWS[0].items() if "safety" not in key}
    path = written(tmp_path / "p.jsonl", [ROWS[0], row])
    _refused(tsdi("cleanse", path, "--out", tmp_path / "o.jsonl"), "p.jsonl, line 2",
             "'chosen_safety'", "--judge")  # fmt: skip


def test_places_that_cannot_be(pairs, tmp_path):
    _refused(tsdi("cleanse", pairs, "--out", pairs), "is read, and would be written over")
    _refused(tsdi("cleanse", pairs, "--out", tmp_path / "out.json"), ".jsonl")
    _refused(tsdi("cleanse", pairs, "--out", tmp_path / "no" / "out.jsonl"), "--out")
    _refused(tsdi("cleanse", tmp_path / "none.jsonl", "--out", tmp_path / "o.jsonl"), "none.jsonl")
    empty = written(tmp_path / "empty.jsonl", [])
    _refused(tsdi("cleanse", empty, "--out", tmp_path / "o.jsonl"), "empty.jsonl", "no pair")
    assert read(pairs) == ROWS


@pytest.mark.parametrize(
    "name", ["pku_saferlhf_sample32.json", "pku_saferlhf_test_safe_unsafe_pairs_5k.json.gz"]
)
def test_real_pairs_in_their_own_columns(name, judge, tmp_path):
    path = real(f"pku-saferlhf/{name}")
    result = tsdi("cleanse", path, "--out", tmp_path / "o.jsonl", "--judge", judge,
                  "--threshold", "0.01", "--json")  # fmt: skip
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)["overall"]
    assert found["kept"] == len(read(tmp_path / "o.jsonl")) == found["pairs"] - found["dropped"]
