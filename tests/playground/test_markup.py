import html
import math
import re

import pytest

from tsdi.playground import Both
from tsdi.playground.markup import both, factor, problem
from tsdi.playground.side_by_side import Answer, Candidate, Reading, Token

NASTY = "<img src=x onerror=alert(1)>${alert(2)}{{alert}}\"'&`"


def found(*tokens, **changes):
    answer = Answer(tokens, "stop")
    parts = {"strength": 1.0, "steps": 3, "first": (), "reading": None, **changes}
    return Both(answer, answer, **parts)


def text_of(markup):
    return html.unescape(re.sub(r"<[^>]*>", "", markup))


def test_every_word_of_a_model_is_escaped():
    shown = both(
        found(Token(NASTY, 3.0), Token(NASTY, 0.0), first=(Candidate(NASTY, 0.5, 0.1),)), NASTY
    )
    assert "<img" not in shown
    assert not re.search(r"\$\{|\{\{|`", shown)
    assert NASTY in text_of(shown)
    assert "<img" not in problem(NASTY)


@pytest.mark.parametrize(
    ("moved", "words"),
    [
        (math.log(12), "12 times likelier"),
        (-math.log(2.5), "2.5 times less likely"),
        (math.log(5000), "over 1,000 times likelier"),
        (-math.inf, "over 1,000 times less likely"),
        (0.01, "as likely"),
    ],
)
def test_a_change_is_a_factor_in_words(moved, words):
    assert factor(moved) == words


def test_what_moved_is_marked_and_also_said_in_words():
    shown = both(found(Token("Sure", 2.5), Token(" i", -2.5), Token(" use", 0.0)), "")
    assert shown.count('class="up"') == 2  # in both columns
    assert shown.count('class="down"') == 2
    assert "2 of 3 tokens" in text_of(shown)
    assert "12 times likelier" in text_of(shown)
    assert "12 times less likely" in text_of(shown)
    assert 'class="up"' not in both(found(Token("Sure", 0.0)), "")


@pytest.mark.parametrize(
    ("reading", "strength", "words"),
    [
        (Reading(-2.0, 0.9), 0.9, "h(x) = -2.00, below the threshold, 0: rather harmless; so the"),
        (Reading(3.0, 0.1), 0.1, "rather harmful; so the strength is 0.10"),
        (Reading(3.0, 0.1), 2.0, "would set 0.10; the strength that was named wins"),
    ],
)
def test_the_reading_of_the_condition_is_said(reading, strength, words):
    assert words in text_of(both(found(reading=reading, strength=strength), ""))


def test_the_reading_stands_among_those_of_the_labelled_prompts():
    labelled = {"harmful": [-1.0, 2.0, 4.0], "harmless": [-4.0, -3.0], "<b>": [0.0]}
    shown = both(found(reading=Reading(3.0, 0.1, labelled), strength=0.1), "")
    words = "2 of the 3 harmful ones and 2 of the 2 harmless ones are read lower."
    assert f"Of the labelled prompts, held out, {words}" in text_of(shown)
    kinds = ("harmful", "harmless")
    places = {k: re.findall(f'<i class="{k}" style="left:([0-9.]+)%">', shown) for k in kinds}
    assert places == {"harmful": ["40.0", "70.0", "90.0"], "harmless": ["10.0", "20.0"]}  # -5 to 5
    assert '<b style="left:80.0%">' in shown


def test_of_many_labelled_prompts_some_are_marked():
    many = {"harmful": [n / 100 for n in range(1000)], "harmless": []}
    shown = both(found(reading=Reading(3.0, 0.1, many), strength=0.1), "")
    assert shown.count('<i class="harmful"') == 25
    assert "harmless ones are" not in text_of(shown)


def test_bars_have_their_numbers_beside_them():
    shown = both(found(first=(Candidate("sorry", 0.5, 0.0004), Candidate(" sure", 0.1, 0.25))), "")
    assert "50.0 %" in shown
    assert "&lt; 0.1 %" in shown
    assert "' sure'" in text_of(shown)
    assert re.findall(r'<i style="width:([\d.]+)%">', shown) == ["50.0", "0.0", "10.0", "25.0"]


def test_it_says_when_both_are_done():
    growing = Both(Answer(), Answer((), "stop"), 1.0, 3, (), None)
    assert "Answering" in both(growing, "")
    assert "Done" in both(found(), "")
