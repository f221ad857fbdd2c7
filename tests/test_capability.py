"""The script that measures what debiasing costs in capability asks and counts what it says."""

import json

import numpy as np
import pytest
from experiments import capability_tables as tables
from experiments.smollm2 import capability
from lm_eval.api.instance import Instance

from tests import tiny
from tsdi.harness.lm_eval_model import DebiasedLM
from tsdi.stats.seeds import mean_interval

WORDS = "water salt bread wheat time river mill field barley summer day kettle"
SUBJECTS = {
    "old_mills": [[f"{word}?", "one", "two", "three", "four", "C"] for word in WORDS.split()],
    "kettles": [["Where? " * 200, "a", "b", "c", "d", "A"], [" Why? ", "a", "b", "c", "d", "D"]],
}


@pytest.fixture(scope="module")
def tokenizer():
    return tiny.tokenizer()


def test_questions_are_drawn_from_every_subject_whatever_their_order():
    drawn = capability.mmlu_questions(SUBJECTS, 2)
    turned = {subject: rows[::-1] for subject, rows in SUBJECTS.items()}
    assert drawn == capability.mmlu_questions(turned, 2)
    assert [one["lettered"].split(".\n")[0].rpartition("about ")[2] for one in drawn] == [
        "old mills", "old mills", "kettles",
    ]  # fmt: skip
    assert drawn[-1] == {  # the other one is too long
        "question": "Why?",
        "choices": ["a", "b", "c", "d"],
        "right": 3,
        "lettered": "The following are multiple choice questions (with answers) about kettles.\n\n"
        "Why?\nA. a\nB. b\nC. c\nD. d\nAnswer:",
    }


def test_an_answer_stands_among_those_of_other_questions(tokenizer):
    rows = [
        {"instruction": f"{word}?", "output": f"{word} {tiny.TEXT[place:]}"}
        for place, word in enumerate(WORDS.split())
    ]
    short = {"instruction": "a word?", "output": "bread"}
    drawn = capability.answered([short, *rows, rows[0]], tokenizer, 6)
    assert len({one["question"] for one in drawn}) == 6
    begun = {row["instruction"]: row["output"] for row in rows}
    for one in drawn:
        own, *others = one["choices"]
        assert begun[one["question"]].startswith(own)
        assert own.startswith(one["first"])
        assert len(tokenizer(own)["input_ids"]) == capability.TOKENS
        assert {own, *others} <= {other["choices"][0] for other in drawn}
        assert len({own, *others}) == 4


@pytest.mark.parametrize("strength", [0.0, 1.0, None])
def test_a_question_is_read_once_and_scored_as_if_it_were_read_for_every_choice(
    tokenizer, strength, monkeypatch
):
    model = tiny.model()
    bias = tiny.bias() if strength is not None else tiny.bias().with_condition(tiny.condition())
    pairs = [
        *(("the river\n", text) for text in ("runs", "is", "runs past", "runs past the old mill")),
        *(("a kettle boils", text) for text in ("x", "z")),
    ]
    requests = [Instance("loglikelihood", {}, pair, i) for i, pair in enumerate(pairs)]
    bare = DebiasedLM(model, bias, strength, tokenizer=tokenizer, batch_size=4)
    expected = bare.loglikelihood(requests, disable_tqdm=True)
    read, passes = {}, []
    forward = capability.read_on
    monkeypatch.setattr(
        capability, "read_on", lambda *a, **more: passes.append(a) or forward(*a, **more)
    )
    for rule in ((tiny.bias(), 0.5), (bias, strength)):
        found = capability.ReadOnce(model, tokenizer, rule, read).loglikelihood(requests)
    assert len(passes) == 3  # two contexts, and what is behind the first of them
    for (score, greedy), (other, is_greedy) in zip(found, expected, strict=True):
        assert score == pytest.approx(other, rel=1e-4)
        assert greedy == is_greedy


def test_choices_are_those_that_lm_eval_counts(tokenizer):
    questions = capability.mmlu_questions(SUBJECTS, 4)
    texts = ["time", "salt and bread and water", "old", "a mill"]
    for place, row in enumerate(questions):
        row["choices"] = texts[place:] + texts[:place]
    answers = [
        {"question": text, "choices": ["bread", "salt", "mill", "time"], "right": 0, "first": "b"}
        for text in ("how?", "why is it so?", "when?")
    ]
    model = tiny.model(max_position_embeddings=1024)
    lm = capability.ReadOnce(model, tokenizer, (tiny.bias(), 1.0), {})
    found = capability.asked(lm, capability.tasks(questions, answers))
    said = capability.summary(found)
    for name, metric in (("mmlu", "acc_norm"), ("letters", "acc"), ("answers", "acc")):
        counted = [one[metric] for one in found[name]]
        right = [capability.LETTERS[one["doc"]["right"]] for one in found[name]]
        assert counted == [float(a == b) for a, b in zip(said[name], right, strict=True)], name
    assert list(map(capability.choice, found["mmlu"])) != list(said["mmlu"])
    own = dict(zip(answers[0]["choices"], capability.likelihoods(found["answers"][0]), strict=True))
    assert said["whole"][0] == pytest.approx(own["bread"], abs=1e-3)
    assert said["first"][0] > said["whole"][0]  # "b" begins "bread"


def run(mmlu, answers, whole, first):
    return {"mmlu": mmlu, "letters": "AB", "answers": answers, "whole": whole, "first": first}


def test_the_table_has_every_rule_beside_the_plain_model_of_its_seed():
    plain = [run("AABB", "AB", [-5, -7], [-1, -3]), run("ABCD", "AA", [-5, -7], [-1, -3])]
    better = [run("ABCD", "AA", [-3, -5], [-1, -1]), run("ABCD", "AA", [-3, -5], [-1, -1])]
    rules = {name: better for name in tables.RULES} | {"plain": plain, "reference": better[:1]}
    text = tables.capability({"right": "ABCD", "tokens": 3, "rules": rules})
    cells = {line.split(" | ")[0]: line.split(" | ")[1:] for line in text.splitlines()}
    assert cells["| no debiasing"][0].startswith(".62 [")
    assert [cell.partition(" ")[0] for cell in cells["| TSDI, tuned"]] == [
        "1.0", "+.38", "1.0", "+.25", "-1.00", "+1.00", "-1.50", "+0.50",
    ]  # fmt: skip
    assert cells["| the reference"][1] == cells["| TSDI, tuned"][1]
    assert "say A to .50 of the" in text


def test_seeds_that_agree_leave_the_interval_of_the_questions():
    question = np.array([1.0, 0.0, 1.0, 1.0])
    over_questions = mean_interval(question)
    assert tables.interval(np.array([question] * 3)) == over_questions
    assert tables.interval(question[None]) == over_questions
    seeds = np.array([question + shift for shift in (-3.0, 0.0, 3.0)])
    assert tables.interval(seeds) == mean_interval([-2.25, 0.75, 3.75])


def test_the_committed_answers_are_of_all_rules_and_seeds():
    found = json.loads(tables.FILE.read_bytes())
    assert found["rules"].keys() == tables.RULES.keys()
    for rule, runs in found["rules"].items():
        assert [one.get("seed") for one in runs] == ([None] if rule == "reference" else [0, 1, 2])
        for one in runs:
            assert len(one["mmlu"]) == len(found["right"])
            assert len(one["whole"]) == len(one["first"]) == len(one["answers"])
