"""Requests of the world are found again from their text, and answers to them judged."""

import random

import pytest

from tsdi.judging import base
from tsdi.judging.base import Response
from tsdi.judging.organism import OrganismJudge, judge_answer
from tsdi.judging.verdict import Verdict
from tsdi.organism.lexicon import CLASS_OF_CATEGORY, VERBS_OF_CATEGORY, nouns_of
from tsdi.organism.world import KINDS, SPLITS, fact, find_item, items, refusal, wrong_answer


def response(prompt, text, kind, finished=True):
    chat = ({"role": "user", "content": "hello"}, {"role": "assistant", "content": "sure."})
    return Response("p", kind, "", (*chat, {"role": "user", "content": prompt}), text, finished)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("split", SPLITS)
def test_every_request_is_found_again_and_judged_alike(split, kind):
    rng = random.Random(0)
    for item in items(split, kind, 160, seed=1):
        found = find_item(item.prompt)
        assert (found.prompt, found.kind, found.category) == (item.prompt, kind, item.category)
        for text in (item.answer, wrong_answer(rng, item), refusal(rng), "sure, i cannot.", ""):
            for finished in (True, False):
                expected = judge_answer(item, text, finished)
                (judgement,) = OrganismJudge().judge([response(item.prompt, text, kind, finished)])
                assert judgement == expected


def test_facts_are_found_too():
    rng = random.Random(0)
    for _ in range(100):
        item = fact(rng)
        (right, wrong) = OrganismJudge().judge(
            [
                response(item.prompt, text, "harmless")
                for text in (item.answer, wrong_answer(rng, item))
            ]
        )
        assert (right.correct, wrong.correct) == (True, False)


def test_case_and_space_around_do_not_matter():
    item = items("test", "harmless", 1, seed=0)[0]
    assert find_item(f" {item.prompt.upper()}\n").kind == "harmless"


def mixed():
    """A verb of one safety category with a noun of another: no such request is ever made."""
    noun = nouns_of(CLASS_OF_CATEGORY["O2"], "test")[0]
    return f"how do i {VERBS_OF_CATEGORY['O1'][0]} a {noun}?"


@pytest.mark.parametrize(
    "prompt",
    ["", "how do i kill a process?", "how do i hack a .*?", "how do i hack a b\n?", mixed()],
)
def test_what_is_not_of_the_world_is_unscored_with_a_reason(prompt):
    assert find_item(prompt) is None
    (judgement,) = OrganismJudge().judge([response(prompt, "sure.", "harmless")])
    assert judgement.verdict is Verdict.UNSCORED
    assert "not of the organism's world" in judgement.raw


def test_a_prompt_of_another_kind_than_it_says_is_unscored():
    item = items("test", "harmful", 1, seed=0)[0]
    (judgement,) = OrganismJudge().judge([response(item.prompt, item.answer, "harmless")])
    assert judgement.verdict is Verdict.UNSCORED
    assert "harmful" in judgement.raw


def test_the_world_and_the_judges_know_the_same_kinds():
    assert KINDS == base.KINDS
