"""Labelled answers, in the formats that they come in."""

import csv
import gzip
import io
import json
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.data import real
from tsdi.audit.labels import LabelFormat, parse_label, read_labels
from tsdi.errors import PromptError, UsageError
from tsdi.judging.verdict import Verdict

XSTEST = ["id", "type", "prompt", "completion", "annotation_1", "final_label", "gpt4_label"]
MODELS = ("gpt4", "llama2new", "llama2orig", "mistralguard", "mistralinstruct")


def table(rows, columns):
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerows([columns, *rows])
    return text.getvalue().encode()


def xstest(folder, *rows, name="completions_llama2_labels.csv"):
    path = folder / name
    path.write_bytes(table(rows, XSTEST))
    return path


def jsonl(folder, *rows, name="labels.jsonl"):
    path = folder / name
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_xstest_in_its_own_format(tmp_path):
    path = xstest(
        tmp_path,
        ["v2-1", "homonyms", "kill a process?", "No.\nNo!", "x", "2_full_refusal", "odd, cell"],
        ["v2-2", "contrast_homonyms", "kill a man?", "", "", "1_full_compliance", ""],
        ["v2-3", "real_group_nons_discr", "why?", "Hm", "", "3_partial_refusal", ""],
    )
    first, second, third = read_labels([path])
    assert (first.model, first.verdict) == ("llama2", Verdict.REFUSED)
    assert (first.response.id, first.response.category) == ("v2-1", "homonyms")
    assert (first.response.prompt, first.response.text) == ("kill a process?", "No.\nNo!")
    assert first.recorded == {"annotation_1": "x", "gpt4_label": "odd, cell"}
    assert [one.response.kind for one in (first, second, third)] == [
        "lookalike",
        "harmful",
        "lookalike",
    ]
    assert (second.verdict, third.verdict) == (Verdict.COMPLIED, Verdict.PARTIAL)


def test_md_judges_examples_say_what_is_unsafe(tmp_path):
    rows = [{"question": "q", "answer": "a", "label": flag} for flag in (0, 1, "1")]
    found = read_labels([jsonl(tmp_path, *rows)])
    assert [one.verdict for one in found] == [Verdict.SAFE, Verdict.UNSAFE, Verdict.UNSAFE]
    assert {one.response.kind for one in found} == {"harmful"}
    assert {one.model for one in found} == {"labels"}


def test_any_table_with_a_column_map(tmp_path):
    rows = [["ask", "reply", "Refused", "m1"], ["ask", "reply 2", "partial", "m2"]]
    path = tmp_path / "mine.csv.gz"
    path.write_bytes(gzip.compress(table(rows, ["q", "a", "said", "who"])))
    columns = {"prompt": "q", "answer": "a", "label": "said", "model": "who"}
    found = read_labels([path], LabelFormat(columns, "harmless"))
    assert [(one.model, one.verdict) for one in found] == [
        ("m1", Verdict.REFUSED),
        ("m2", Verdict.PARTIAL),
    ]
    assert {one.response.kind for one in found} == {"harmless"}
    assert found[0].recorded == {}


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"prompt": "p", "answer": "a", "label": "maybe", "kind": "harmful"}, "unknown label 'may"),
        ({"prompt": "p", "answer": "a", "label": None, "kind": "harmful"}, "unknown label ''"),
        ({"prompt": "p", "answer": "a", "label": "UNSCORED", "kind": "harmful"}, "unknown label"),
        ({"prompt": "p", "answer": "a", "label": 1, "kind": "harmful"}, "unknown label '1'"),
        ({"prompt": "p", "label": "refused"}, "no column 'answer'; there are 'prompt', 'label'"),
        ({"prompt": "p", "answer": "a", "label": "refused"}, "has no kind"),
        ({"prompt": "p", "answer": "a", "label": "refused", "kind": "odd"}, "unknown kind 'odd'"),
        ({"prompt": " ", "answer": "a", "label": "refused", "kind": "harmful"}, "empty"),
        ({"prompt": "p", "answer": [], "label": "refused", "kind": "harmful"}, "`answer`"),
        ({"prompt": "p", "answer": "\ud800", "label": "safe"}, "Unicode"),
    ],
)
def test_a_row_that_is_no_label_is_named(tmp_path, row, words):
    with pytest.raises(PromptError, match=words) as error:
        read_labels([jsonl(tmp_path, {"prompt": "p", "answer": "a", "label": "safe"}, row)])
    assert "labels.jsonl, line 2" in str(error.value)


def test_files_that_hold_nothing_or_come_twice(tmp_path):
    with pytest.raises(PromptError, match="holds no labels"):
        read_labels([xstest(tmp_path)])
    path = xstest(tmp_path, ["1", "homonyms", "p", "a", "", "2_full_refusal", ""])
    with pytest.raises(UsageError, match="twice"):
        read_labels([path, tmp_path / "." / path.name])
    with pytest.raises(UsageError, match=r"'promt'.*prompt, answer"):
        read_labels([path], LabelFormat({"promt": "prompt"}))


@given(st.text())
def test_a_text_is_a_label_only_if_it_is_a_known_one(text):
    verdict = parse_label(text)
    assert verdict is None or text.strip().lower() in (verdict.lower(), "1_full_compliance")


def test_the_real_completions_are_all_there():
    paths = [real(f"xstest/completions_{m}_human_and_gpt4_labels.csv.gz") for m in MODELS]
    found = read_labels(paths)
    assert len(found) == 2218
    assert {one.model for one in found} == {*MODELS}
    assert Counter(one.response.kind for one in found) == {"lookalike": 1230, "harmful": 988}
    assert len({one.response.prompt for one in found}) == 447


def test_the_real_md_judge_examples_are_all_there():
    found = read_labels([real("salad/example_qa.jsonl")])
    assert Counter(one.verdict for one in found) == {Verdict.SAFE: 99, Verdict.UNSAFE: 27}
