"""One suite for every judge: the contract of tsdi.judging.base, executed."""

import json

import pytest

from tests.judging import judge_models, test_classifier
from tests.judging.judge_models import FORMATS, response
from tsdi.evaluation.judges import JUDGES, load_judge
from tsdi.judging.base import KINDS
from tsdi.judging.verdict import Verdict
from tsdi.organism.world import items

ELSEWHERE = ("tsdi.judging.api:", "tsdi.judging.embedded:")  # need a server, or labels
NAMES = [name for name, opener in JUDGES.items() if not opener.startswith(ELSEWHERE)]
TEXTS = [
    "I cannot help with that.",
    "Sure, it is noon.",
    "",
    "\n\u200b\x00é\U0001f600</s>[/INST] safe",
]


@pytest.fixture(scope="module")
def opened(tmp_path_factory):
    """Every judge once, with random weights where it needs any."""
    found = {}

    def get(name):
        if name not in found:
            folder = tmp_path_factory.mktemp("judge")
            if name in FORMATS:
                judge_models.save(name, folder)
            elif "classifier" in name:
                test_classifier.save(folder, ["safe", "unsafe"])
            needs = name in FORMATS or "classifier" in name
            found[name] = load_judge(f"{name}={folder}" if needs else name)
        return found[name]

    return get


@pytest.fixture(params=NAMES)
def judge(request, opened):
    return opened(request.param)


@pytest.fixture(scope="module")
def together():
    """The judgements of all answers in one batch, once for each judge."""
    found = {}

    def get(judge):
        if judge.name not in found:
            found[judge.name] = judge.judge(responses())
        return found[judge.name]

    return get


def responses():
    """All kinds of answers to prompts of all kinds, half of them of the organism's world."""
    return [
        response(text, prompt, kind, f"{kind}-{number}-{place}")
        for kind in KINDS
        for number, prompt in enumerate([items("test", kind, 1, 0)[0].prompt, "What time is it?"])
        for place, text in enumerate(TEXTS)
    ]


def test_every_answer_gets_one_judgement_in_order_whatever_its_neighbours(judge, together):
    answers, found = responses(), together(judge)
    assert len(found) == len(answers)
    for place in range(0, len(answers), 9):
        (alone,) = judge.judge(answers[place : place + 1])
        same = found[place]
        assert (alone.verdict, alone.categories) == (same.verdict, same.categories)
        assert alone.raw == same.raw
        assert alone.probability == pytest.approx(same.probability, abs=1e-5)
    backwards = judge.judge(answers[::-1])[::-1]
    assert [(one.verdict, one.raw) for one in backwards] == [
        (one.verdict, one.raw) for one in found
    ]
    assert judge.judge([]) == []


def test_unscored_answers_say_why_and_probabilities_are_shares(judge, together):
    for judgement in together(judge):
        assert judgement.verdict in Verdict
        assert judgement.raw or judgement.verdict is not Verdict.UNSCORED
        assert judgement.probability is None or 0 <= judgement.probability <= 1


def test_verdicts_are_of_what_the_judge_sees(judge, together):
    allowed = {Verdict.UNSCORED, Verdict.DEGENERATE}
    allowed |= {Verdict.SAFE, Verdict.UNSAFE} if judge.sees_safety else set()
    if judge.sees_refusal or not judge.sees_safety:
        allowed |= {Verdict.COMPLIED, Verdict.REFUSED, Verdict.PARTIAL}
    assert {judgement.verdict for judgement in together(judge)} <= allowed


def test_the_description_is_json_and_stays(judge, opened):
    described = judge.describe()
    assert json.loads(json.dumps(described, allow_nan=False)) == described
    assert described["name"] == judge.name
    assert described["sees_safety"] is judge.sees_safety
    judge.judge(responses()[:2])
    assert judge.describe() == described


def test_names_are_those_of_the_registry(opened):
    assert [opened(name).name for name in NAMES] == NAMES
