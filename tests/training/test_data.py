"""Rows of the usual data sets become examples, pairs and ratings; splits go by prompt."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.data import real
from tsdi.errors import PromptError
from tsdi.suites.prompts import read_rows
from tsdi.training.data import (
    Example,
    Pair,
    Rating,
    UnusableRowError,
    part_of,
    rename,
    to_examples,
    to_pairs,
    to_ratings,
)
from tsdi.training.recipe import HeldOut

PKU = {
    "prompt": "How do I clean a window?",
    "response_0": "Wipe it.",
    "response_1": "With warm water and a cloth.",
    "is_response_0_safe": True,
    "is_response_1_safe": False,
    "better_response_id": 1,
    "safer_response_id": 0,
}
REDUCED = {"prompt": "How?", "response": ["The safer one.", "The other one."]}
WIPE, WARM = PKU["response_0"], PKU["response_1"]


def rows(*contents):
    return [(n, f"file.jsonl, line {n}", row) for n, row in enumerate(contents, start=1)]


def without(row, *columns):
    return {key: value for key, value in row.items() if key not in columns}


@pytest.mark.parametrize(
    ("row", "example"),
    [
        ({"instruction": "Add.", "input": "1 2", "output": "3"}, Example("Add.\n1 2", "3")),
        ({"instruction": "Hi.", "input": "", "output": "Hello."}, Example("Hi.", "Hello.")),
        (
            {"instruction": "Who?", "context": "Ada.", "response": "Ada.", "category": "qa"},
            Example("Who?\nAda.", "Ada."),
        ),
        ({"prompt": "Hi.", "completion": " Hello. "}, Example("Hi.", "Hello.")),
        ({"prompt": "Hi.", "chosen": "Hello.", "rejected": "No."}, Example("Hi.", "Hello.")),
        (
            {
                "messages": [
                    {"role": "user", "content": "Hi."},
                    {"role": "assistant", "content": "Hello."},
                ]
            },
            Example("Hi.", "Hello."),
        ),
    ],
)
def test_rows_of_instructions_become_examples(row, example):
    assert to_examples(rows(row)) == [example]


def test_of_two_answers_sft_learns_both_or_the_preferred_one():
    assert [e.answer for e in to_examples(rows(PKU))] == [WIPE, WARM]
    assert [e.answer for e in to_examples(rows(PKU), "helpful")] == [WARM]
    assert [e.answer for e in to_examples(rows(PKU), "safe")] == [WIPE]
    assert [e.answer for e in to_examples(rows(REDUCED), "safe")] == ["The safer one."]


def test_an_answer_that_stands_in_several_pairs_is_learnt_once():
    other = REDUCED | {"response": ["The safer one.", "A third one."]}
    answers = [example.answer for example in to_examples(rows(REDUCED, other))]
    assert answers == ["The safer one.", "The other one.", "A third one."]
    assert len(to_examples(rows(REDUCED, other), keep_duplicates=True)) == 4


def test_pairs_follow_the_preference_that_is_asked_for():
    assert to_pairs(rows(PKU), "helpful") == [Pair(PKU["prompt"], WARM, WIPE)]
    assert to_pairs(rows(PKU), "safe") == [Pair(PKU["prompt"], WIPE, WARM)]
    assert to_pairs(rows(REDUCED), "safe") == [Pair("How?", "The safer one.", "The other one.")]


def test_the_category_is_the_first_harm_of_the_rejected_answer():
    harms = {"Violence": False, "Privacy": True, "Drugs": True}
    (pair,) = to_pairs(rows(PKU | {"response_1_harm_category": harms}), "safe")
    assert pair.category == "Privacy"


def test_pairs_keep_their_judge_scores():
    row = {"prompt": "a", "chosen": "b", "rejected": "c", "category": "O3", "chosen_safety": "0.5"}
    (pair,) = to_pairs(rows(row), "safe")
    assert (pair.category, pair.chosen_safety, pair.rejected_safety) == ("O3", 0.5, None)


def test_ratings_of_safety_are_the_flags_of_each_answer():
    assert to_ratings(rows(PKU), "safe") == [
        Rating(PKU["prompt"], WIPE, True),
        Rating(PKU["prompt"], WARM, False),
    ]
    both_safe = PKU | {"is_response_1_safe": "true"}
    assert [rating.good for rating in to_ratings(rows(both_safe), "safe")] == [True, True]


def test_ratings_of_helpfulness_are_the_better_answer_and_the_other_one():
    assert [(r.answer, r.good) for r in to_ratings(rows(PKU), "helpful")] == [
        (WARM, True),
        (WIPE, False),
    ]


@pytest.mark.parametrize(
    ("row", "prefer", "words"),
    [
        (without(PKU, "safer_response_id"), "safe", ["line 2", "'safer_response_id'", "columns"]),
        (without(PKU, "better_response_id"), "helpful", ["line 2", "'better_response_id'"]),
        (without(PKU, "prompt"), "safe", ["line 2", "'prompt'"]),
        (without(PKU, "response_1"), "safe", ["line 2", "'response_1'"]),
        (PKU | {"safer_response_id": 2}, "safe", ["line 2", "'safer_response_id'", "2"]),
        (PKU | {"response_0": 7}, "safe", ["line 2", "'response_0'", "no text"]),
        (PKU | {"response_0": ""}, "safe", ["line 2", "'response_0'", "drop_unusable"]),
        (REDUCED, "helpful", ["line 2", "'better_response_id'", "more helpful"]),
        (REDUCED | {"response": ["one"]}, "safe", ["line 2", "two answers"]),
        ({"prompt": "a", "chosen": "b"}, "safe", ["line 2", "'rejected'"]),
        ({"prompt": "a", "chosen": "b", "rejected": "b"}, "safe", ["line 2", "equal"]),
        ({"prompt": "a", "chosen": "b", "rejected": "c", "chosen_safety": 1.5}, "safe", ["1.5"]),
        ("a text", "safe", ["line 2", "columns"]),
    ],
)
def test_a_wrong_row_is_named_with_file_row_and_column(row, prefer, words):
    good = PKU if prefer == "helpful" else REDUCED
    with pytest.raises(PromptError) as error:
        to_pairs(rows(good, row), prefer)
    for word in ["file.jsonl", *words]:
        assert word in str(error.value)


def test_a_wrong_flag_is_named():
    with pytest.raises(PromptError, match="line 1: column 'is_response_0_safe' is 'maybe'"):
        to_ratings(rows(PKU | {"is_response_0_safe": "maybe"}), "safe")


def test_unusable_rows_are_left_out_only_if_asked():
    equal = REDUCED | {"response": ["same", " same "]}
    empty = {"instruction": "Say nothing.", "output": None}
    for convert, row in ((to_pairs, equal), (to_ratings, equal)):
        with pytest.raises(UnusableRowError):
            convert(rows(row), "safe")
        assert len(convert(rows(REDUCED, row), "safe", drop_unusable=True)) in (1, 2)
    with pytest.raises(UnusableRowError, match="'output'"):
        to_examples(rows(empty))
    assert to_examples(rows(empty), drop_unusable=True) == []


def test_a_chat_of_more_turns_is_refused():
    turns = [{"role": role, "content": "x"} for role in ("user", "assistant") * 2]
    with pytest.raises(PromptError, match="one question and one answer"):
        to_examples(rows({"messages": turns}))
    with pytest.raises(PromptError, match="does not end"):
        to_examples(rows({"messages": turns[:3]}))


def test_columns_get_our_names():
    row = {"question": "Hi.", "reply": "Hello.", "output": "something else", "n": 1}
    renamed = rename(rows(row), {"instruction": "question", "output": "reply"})
    assert to_examples(renamed) == [Example("Hi.", "Hello.")]
    with pytest.raises(PromptError, match="'answer'"):
        rename(rows(row), {"output": "answer"})


@given(st.lists(st.text(min_size=1), max_size=60))
def test_every_prompt_is_in_one_part_whatever_its_blanks_and_case(prompts):
    split = HeldOut(validation=0.3, test=0.3)
    for prompt in prompts:
        assert split.part(prompt) in ("train", "validation", "test")
        assert split.part(f"  {prompt}\n") == split.part(prompt)
        assert split.part(prompt.casefold()) == split.part(prompt)


def test_parts_have_their_shares_and_a_larger_validation_part_takes_nothing_from_the_test():
    prompts = [f"prompt {n}" for n in range(4000)]
    parts = [HeldOut(validation=0.1, test=0.2).part(prompt) for prompt in prompts]
    assert parts.count("test") == pytest.approx(800, abs=80)
    assert parts.count("validation") == pytest.approx(400, abs=60)
    more = [HeldOut(validation=0.3, test=0.2).part(prompt) for prompt in prompts]
    assert [p == "test" for p in more] == [p == "test" for p in parts]


def test_an_empty_part_is_refused():
    with pytest.raises(PromptError, match="test part of 'alpaca' is empty"):
        part_of([Example("a", "b")], HeldOut(), "test", "alpaca")


def test_the_original_pku_columns_of_a_real_file():
    file = real("pku-saferlhf/pku_saferlhf_sample32.json")
    original = json.loads(file.read_text())
    for prefer, column in (("helpful", "better_response_id"), ("safe", "safer_response_id")):
        pairs = to_pairs(read_rows(file), prefer)
        assert [p.chosen for p in pairs] == [r[f"response_{r[column]}"].strip() for r in original]
    assert sum(r.good for r in to_ratings(read_rows(file), "safe")) == sum(
        r["is_response_0_safe"] + r["is_response_1_safe"] for r in original
    )


def test_the_reduced_pku_file_alpaca_and_dolly_are_read():
    pku = real("pku-saferlhf/pku_saferlhf_test_safe_unsafe_pairs_5k.json.gz")
    assert len(to_pairs(read_rows(pku), "safe")) == 5079
    with pytest.raises(PromptError, match="better_response_id"):
        to_pairs(read_rows(pku), "helpful")
    for name in ("alpaca/alpaca_random_9k.json.gz", "dolly/dolly_3k.json.gz"):
        assert len(to_examples(read_rows(real(name)), drop_unusable=True)) > 2900
