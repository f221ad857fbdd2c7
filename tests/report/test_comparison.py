"""The page of two runs side by side: what changed, worst first, escaped, harm behind a click."""

import json
import re

import pytest

from tests.cli.conftest import tsdi
from tests.cli.test_bad_input import _refused
from tests.evaluation.test_evaluate import ByNumber
from tests.evaluation.test_labelled import answers, labels
from tests.report.test_page import EVIL, Page
from tsdi.evaluation.compare import LABELLED_HEADER, labelled_rows
from tsdi.evaluation.evaluate import Judging, judge_responses
from tsdi.evaluation.gate import compare
from tsdi.report.comparison import write_comparison
from tsdi.runs.records import read_records, write_records


def judged(folder, turned=(), more=()):
    """A run judged by number; verdicts of the turned questions are the other way round."""
    answers(folder, 12, more=more)
    judge_responses(ByNumber(), folder, Judging(), resume=False)
    records = read_records(folder / "verdicts.jsonl")
    other = {"REFUSED": "COMPLIED", "COMPLIED": "REFUSED", "UNSCORED": "UNSCORED"}
    for one in records:
        if int(one["id"][1:]) in turned:
            one["verdict"] = other[one["verdict"]]
    write_records(folder / "verdicts.jsonl", records)
    return folder


@pytest.fixture
def runs(tmp_path):
    evil = {
        "id": "p99",
        "kind": "harmless",
        "category": EVIL,
        "messages": [
            {"role": "system", "content": "be kind"},
            {"role": "user", "content": f"question 99 {EVIL}"},
        ],
        "response": EVIL,
    }
    return judged(tmp_path / "one", more=[evil]), judged(tmp_path / "two", {2, 5, 6}, more=[evil])


def page_of(runs, tmp_path, **more):
    path = tmp_path / "page.html"
    write_comparison(path, *runs, compare(*runs, **more))
    return path.read_text(encoding="utf-8")


def test_every_pair_is_on_the_page_worst_first(runs, tmp_path):
    text = page_of(runs, tmp_path)
    page = Page(text)
    facets = [json.loads(one) for one in page.attributes("data-facets")]
    # Harmful p2 and p5 turn to refused and complied, harmless p6 to refused; p3 and p10 unscored.
    assert [one[0] for one in facets] == [
        *("worse", "worse", "better", "no verdict", "no verdict"),
        *["other words"] * 7,
        "the same",
    ]
    assert facets[0][1:] == ["refused → complied", "harmful", "O2"]
    assert "worse 2, better 1, no verdict 2, other words 7, the same 1." in page.text
    for n in range(12):
        assert f"answer {n} of one" in page.text
        assert f"answer {n} of two" in page.text
    assert "system: be kind" in page.text
    assert "one: refused" in page.text


def test_answers_to_harmful_prompts_are_behind_a_click(runs, tmp_path):
    text = page_of(runs, tmp_path)
    assert text.count("<details>") == 4
    outside = "".join(part.partition("</details>")[2] for part in text.split("<details>")[1:])
    for n in (2, 5, 8, 11):
        assert f"answer {n} of" in text
        assert f"answer {n} of" not in outside


def test_texts_are_escaped_and_one_script_runs(runs, tmp_path):
    text = page_of(runs, tmp_path)
    page = Page(text)
    assert len(page.scripts) == 1
    assert "plotly" not in text.lower()
    assert "img" not in {tag for tag, _ in page.tags}
    assert page.text.count(EVIL) >= 4
    assert not page.attributes("src")
    options = [attributes["value"] for tag, attributes in page.tags if tag == "option"]
    assert {"", "worse", "harmful", EVIL} <= {*options}
    assert any(json.loads(one)[3] == EVIL for one in page.attributes("data-facets"))


def test_the_tables_are_those_of_the_comparison(runs, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    page = Page(page_of(runs, tmp_path, fewest_prompts=1))
    assert "refused, harmful" in page.text or "safe, harmful" in page.text
    assert "judged by by-number" in page.text
    assert "with labels" not in page.text
    files = tuple(labels(run, range(9), name=f"{run.name}.jsonl") for run in runs)
    found = compare(*runs, labels=files).comparison
    figures, categories = labelled_rows(found, found.labelled)
    assert [row[0] for row in categories] == ["2 categories"]
    shown = tsdi("compare", *runs, "--labels", "=".join(map(str, files)), "--out", "a.html")
    page = Page((tmp_path / "a.html").read_text(encoding="utf-8"))
    for text in (page.text, shown.stdout):
        words = re.sub(r"[\s│┃]", "", text)
        rows = (LABELLED_HEADER, *figures, *categories)
        assert all("".join(row).replace(" ", "") in words for row in rows)


def test_the_command_writes_it_and_nothing_over_other_files(runs, tmp_path):
    path = tmp_path / "page.html"
    for _ in range(2):
        result = tsdi("compare", *runs, "--out", path)
        assert result.exit_code == 0, result.output
        assert "Saved in" in result.stdout
    page = Page(path.read_text(encoding="utf-8"))
    assert "one and two" in page.text
    own = tmp_path / "own.html"
    own.write_text("my page")
    _refused(tsdi("compare", *runs, "--out", own), "is not a report of tsdi's")
    assert own.read_text() == "my page"
