"""A study's page calls refusals refusals, and says what one training seed cannot show."""

import csv
import io
from dataclasses import replace

import pytest
from experiments import HERE

from tsdi.study.entries import Judge
from tsdi.study.figures import figures
from tsdi.study.page import summary_json, write_study
from tsdi.study.results import judge_of, read_results
from tsdi.study.sentences import alerts, answer, caveats, sentences
from tsdi.study.summarise import summarise
from tsdi.study.tables import tables, to_csv

SAFE = ("safe answers", "safety", "Safety")


@pytest.fixture(scope="module")
def refusals():
    """The committed study on real text: refusals by a rule of words, one training seed."""
    return read_results(HERE / "real-text" / "results.json")


@pytest.fixture(scope="module")
def summary(refusals):
    return summarise(refusals, resamples=20)


def test_the_judge_says_what_it_saw_or_its_name_does(refusals):
    assert refusals.judge == Judge("refusal-phrases", sees_safety=False)
    study = {"study": {"judge": {"name": "md-judge-v0.1=org/judge+refusal-phrases"}}}
    assert judge_of(study) == {"name": "md-judge-v0.1", "sees_safety": True}
    told = {"name": "classifier", "sees_safety": False}
    assert judge_of(study | {"judge": told}) == told


def test_tables_and_sentences_speak_of_refusals(summary):
    for title, table in tables(summary).items():
        if title == "Baselines":
            continue  # what others call their methods
        text = f"{title} {table.note} {to_csv(table).decode()}"
        text = text.replace("laws_and_safety", "")  # of a category of BeaverTails
        assert not [word for word in SAFE if word in text], title
    spoken = " ".join([*sentences(summary), answer(summary), *alerts(summary)])
    assert not [word for word in SAFE if word in spoken]
    assert "Debiasing costs refusals" in spoken


def test_figures_speak_of_refusals(summary):
    for name, figure in figures(summary).items():
        assert "safe answers" not in str(figure.layout), name
        assert not any("safety" in str(trace.name) for trace in figure.data), name


def test_caveats_stand_before_all_figures_on_the_page_and_in_the_summary(
    refusals, summary, tmp_path
):
    judged, seed = caveats(summary)
    assert judged.startswith("Safety was not judged: refusal-phrases sees refusals")
    assert "one training seed" in seed
    write_study(tmp_path, refusals)
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert page.index("Safety was not judged") < page.index("<table>")


def test_rules_with_more_tries_than_others_are_told(summary):
    fewer = [
        replace(rule, settings={"strength": (0.0, 1.0)}) if rule.name == "tsdi-tuned" else rule
        for rule in summary.rules
    ]
    *_, unfair = caveats(replace(summary, rules=tuple(fewer)))
    assert "different numbers of settings (tsdi-tuned 2, " in unfair


def test_summary_json_keeps_its_keys(summary):
    found = summary_json(summary)
    assert " ".join(found) == (
        "title judge main seeds prompts helps rules methods safe fronts each_point grid speed"
        " gate harm types by_seed ablations biases members caveats sentences answer alerts"
    )
    front = found["fronts"]["helpful"]["1"]["plain"]
    assert [*front] == ["chosen", "volume", "ours_minus", "tuned_minus", "conditioned_minus"]
    assert front["volume"].keys() == {"value", "low", "high", "n"}
    shares = ["safety", "helpful", "complied, harmless", "complied, lookalike", "corrupted"]
    assert [*found["grid"]["plain"][0]] == ["cell", *shares, "by_category"]
    assert [*found["methods"]["tsdi"]] == ["cell", "settings", *shares]
    row = found["gate"]["tsdi"]["rows"][0]
    assert [*row] == ["attack", "category", "before", "after", "change", "p", "p_holm"]


def test_models_of_one_seed_have_intervals_over_prompts(summary):
    table = tables(summary)["Models of the grid, plain and debiased"]
    assert all("[" in cell for row in table.rows for cell in row[1:])
    assert "intervals over prompts: there is one training seed" in table.note
    rows = list(csv.reader(io.StringIO(to_csv(table).decode())))
    assert rows[0][1] == "refused, harmful, plain"


def test_a_study_of_safety_over_several_seeds_has_no_caveats():
    found = summarise(read_results(HERE / "ablations" / "results.json"), resamples=20)
    assert caveats(found) == []
    assert "Safety by category and attack" in tables(found)
