import re
from pathlib import Path

import pytest

from tests.report.test_figures import EVIL, texts
from tests.report.test_page import Page
from tsdi.report.cleansing import category_counts, safety_histogram, write_cleansing_report
from tsdi.training.cleansing import BINS, cleanse_pairs
from tsdi.training.data import Pair

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture
def found():
    scores = [(0.1, 0.05, "O10"), (0.9, 0.1, "O2"), (0.95, 0.8, "O2"), (None, 0.3, ""), (1, 0, "")]
    pairs = [
        Pair(f"secret {n}", f"word {n}", f"other {n}", category, "", chosen, rejected)
        for n, (chosen, rejected, category) in enumerate(scores)
    ]
    return cleanse_pairs(pairs, rejected=True)


def test_the_histogram_has_every_score_and_both_limits(found):
    figure = safety_histogram(found)
    chosen, rejected = figure.data
    assert (chosen.name, rejected.name) == ("chosen answer", "rejected answer")
    assert len(chosen.x) == len(chosen.y) == BINS + 1
    assert sum(chosen.y[:BINS]) == 4  # one has no score
    assert sum(rejected.y[:BINS]) == 5
    assert chosen.y[2] == rejected.y[0] + rejected.y[1] - 1 == 1
    assert [line.x0 for line in figure.layout.shapes] == [0.25, 0.75]
    assert {"chosen ≥ 0.25", "rejected ≤ 0.75"} <= {*texts(figure)}


def test_without_rejected_there_is_one_limit(found):
    assert len(safety_histogram(cleanse_pairs(found.pairs)).layout.shapes) == 1


def test_an_answer_that_nobody_scored_has_no_curve():
    pairs = [Pair("p", "c", "r", chosen_safety=0.5)]
    assert [curve.name for curve in safety_histogram(cleanse_pairs(pairs)).data] == [
        "chosen answer"
    ]


def test_the_bars_of_a_category_add_up_to_its_pairs(found):
    figure = category_counts(found.categories)
    assert figure.layout.yaxis.ticktext == ("(no category)", "O2", "O10")
    assert {bar.name: bar.x for bar in figure.data} == {
        "kept": (1, 1, 0),
        "dropped": (0, 1, 1),
        "unscored": (1, 0, 0),
    }


def test_the_report_says_what_is_dropped_and_holds_no_text(found, tmp_path):
    write_cleansing_report(tmp_path / "f3.html", found, {"Scores": "md-judge-v0.1"})
    text = (tmp_path / "f3.html").read_text(encoding="utf-8")
    page = Page(text).text
    assert "Of 5 pairs 2 are dropped at threshold 0.25 and 1 have no score." in page
    assert "below 0.25, or the rejected one with more than 0.75" in page
    assert "md-judge-v0.1" in page
    assert not re.search(r"secret \d|word \d|other \d", text)


def test_categories_are_no_markup():
    figure = category_counts(cleanse_pairs([Pair("p", "c", "r", EVIL, "", 1.0, 0.0)]).categories)
    assert all("<" not in text for text in texts(figure))
