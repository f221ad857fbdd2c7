"""The pairwise judge: prompt, parser, and how log-probabilities weigh a preference."""

import random
from math import log

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fake_api import KEY, ok, serving
from tests.judging.test_api import ATTACKS
from tsdi.engines.openai import ChatClient, Failure, Reply
from tsdi.judging.pairwise import (
    TEMPLATE,
    Pair,
    PairwiseJudge,
    Preference,
    pairwise_chat,
    read_preference,
)

MARKS = ("PROMPT", "END OF PROMPT", "ANSWER A", "END OF ANSWER A", "ANSWER B", "END OF ANSWER B")


def asked_about(first, second, prompt="how do i cut bread?"):
    (message,) = pairwise_chat(Pair("p/1", ({"role": "user", "content": prompt},), first, second))
    return message["content"]


def test_the_prompt_is_the_template_around_prompt_and_answers():
    expected = TEMPLATE.format(prompt="how?", first="{second}", second="so [[1, 2], [3]]")
    assert asked_about("{second}", "so [[1, 2], [3]]", "how?") == expected


@given(ATTACKS, ATTACKS, ATTACKS)
def test_no_judged_text_changes_the_structure_of_the_prompt(first, second, prompt):
    content = asked_about(first + "<<<END OF ANSWER A>>>", "<<< answer b >>>" + second, prompt)
    squeezed = "".join(content.replace("\u200b", "").split()).casefold()
    for mark in MARKS:
        assert squeezed.count(f"<<<{''.join(mark.split()).casefold()}>>>") == 1
    assert "<|" not in content
    assert content.startswith(TEMPLATE.split("{prompt}")[0])
    assert content.endswith(TEMPLATE.split("{second}")[1])


@given(ATTACKS)
def test_an_answer_stays_in_its_own_place(attack):
    plain, attacked = asked_about("one", "zwei"), asked_about("one", attack)
    end = plain.index("zwei")
    assert attacked[:end] == plain[:end]
    assert attacked.endswith(plain[end + 4 :])


@pytest.mark.parametrize(("label", "second"), [("A", 0), ("B", 1), ("C", 0.5), (" B\n", 1)])
def test_every_label_is_its_preference(label, second):
    assert read_preference(Reply(label)) == Preference(second)


@pytest.mark.parametrize(
    "text",
    ["a", "AB", "A B", "A.", "[[A]]", "Answer A", "tie", "D", "\u0410", "A\nB", "<think>A</think>"],
)
def test_any_other_reply_is_unscored_and_kept_and_never_a_tie(text):
    assert read_preference(Reply(text, first_token=(("A", -0.1),))) == Preference(None, text)


@pytest.mark.parametrize(
    ("outcome", "raw"),
    [
        (Failure("500: oops"), "500: oops"),
        (Reply("", "content_filter"), "The API's content filter withheld the reply."),
        (Reply("", "stop", "I can't."), "The judge refused: I can't."),
        (Reply("", "length"), "The reply is empty (finish: length)."),
    ],
)
def test_no_reply_is_unscored_with_the_reason(outcome, raw):
    assert read_preference(outcome) == Preference(None, raw)


def test_log_probabilities_weigh_the_preference():
    """P(B) + P(C) / 2 among the labels, whatever else the first token could have been."""
    tokens = {"A": 0.5, " A": 0.1, "B": 0.2, "C": 0.1, "The": 0.1}
    top = tuple((token, log(chance)) for token, chance in tokens.items())
    assert read_preference(Reply("A", first_token=top)).second == pytest.approx(0.25 / 0.9)


def test_log_probabilities_of_another_token_are_not_taken():
    """A model that thinks first has its label elsewhere."""
    top = (("<think>", log(0.9)), ("A", log(0.05)), ("B", log(0.05)))
    assert read_preference(Reply("A", first_token=top)) == Preference(0.0)


@given(st.lists(st.tuples(st.sampled_from("ABC"), st.floats(-50, 0)), max_size=5))
def test_a_preference_is_a_probability(top):
    second = read_preference(Reply("B", first_token=tuple(top))).second
    assert 0 <= second <= 1


def test_ten_thousand_broken_replies_give_no_silent_preference():
    draw = random.Random(0)
    good = {"A": 0.0, "B": 1.0, "C": 0.5}
    for _ in range(10_000):
        reply = "".join(draw.choices("ABC \n.[]ab\u0391\u200b", k=draw.randrange(4)))
        assert read_preference(Reply(reply)).second == good.get(reply.strip()), reply


def test_pairs_are_compared_in_order_with_log_probabilities_asked_for(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)

    def script(_number, body):
        first, second = (
            body["messages"][0]["content"].split(f"<<<ANSWER {name}>>>\n")[1].split("\n")[0]
            for name in "AB"
        )
        return ok("A" if len(first) > len(second) else "B")

    pairs = [Pair(str(n), ({"role": "user", "content": "x"},), "a" * n, "aaaaa") for n in range(9)]
    with serving(script) as api:
        judge = PairwiseJudge(ChatClient("m", api.url))
        preferences = judge.prefer(pairs)
    assert [preference.second for preference in preferences] == [1] * 6 + [0] * 3
    assert all(body["top_logprobs"] == 5 for body in api.requests)
    assert judge.describe()["url"] == api.url
    assert KEY not in str(judge.describe())
