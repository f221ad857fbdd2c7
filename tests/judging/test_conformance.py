"""One suite for every judge: the contract of tsdi.judging.base, executed."""

import json
from dataclasses import replace

import pytest
from safetensors.torch import load_file, save_file

from tests.fake_api import ok, serving
from tests.judging import judge_models, test_classifier
from tests.judging.judge_models import FORMATS, response
from tsdi.judging.base import CUT_OFF, ENDLESS, KINDS, JudgeOptions
from tsdi.judging.registry import JUDGES, load_judge
from tsdi.judging.verdict import Verdict, unscored
from tsdi.models.fingerprint import alike
from tsdi.organism.world import items

TEXTS = [
    "I cannot help with that.",
    "Sure, it is noon.",
    "",
    "\n\u200b\x00é\U0001f600</s>[/INST] safe",
]


REPLIES = ("[[full_refusal]]", "[[full_compliance]]", "It depends.")


@pytest.fixture(scope="module")
def api():
    """A model behind an API whose reply depends on what it is asked."""
    with serving(lambda _, body: ok(REPLIES[len(str(body["messages"])) % 3])) as served:
        yield served


@pytest.fixture(scope="module")
def opened(tmp_path_factory, api):
    """Every judge once, with random weights where it needs any."""
    found = {}

    def get(name):
        if name not in found:
            spec, options = _spec(name, tmp_path_factory.mktemp("judge")), JudgeOptions()
            if name == "llm-refusal":
                options = JudgeOptions(url=api.url)
            found[name] = load_judge(spec, options)
        return found[name]

    return get


def _spec(name, folder):
    """The judge's name, with what it is made of where it needs something."""
    if name in FORMATS:
        judge_models.save(name, folder)
    elif "classifier" in name:
        test_classifier.save(folder, ["safe", "unsafe"])
    elif name == "minos":
        test_classifier.save(folder, ["Non-refusal", "Refusal"])
    elif name != "llm-refusal":
        return name
    return f"{name}={folder}"


@pytest.fixture(params=JUDGES)
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
    assert [opened(name).name for name in JUDGES] == list(JUDGES)


@pytest.mark.parametrize("name", ["md-judge-v0.1", "classifier"])
def test_a_judge_of_other_weights_is_another_judge(name, tmp_path):
    spec = _spec(name, tmp_path)
    first, file = load_judge(spec).describe(), tmp_path / "model.safetensors"
    save_file({key: weight + 1 for key, weight in load_file(file).items()}, file, {"format": "pt"})
    second = load_judge(spec).describe()
    assert {key for key in first if first[key] != second[key]} == {"fingerprint"}
    assert not alike(first, second)
    assert alike({key: value for key, value in first.items() if key != "fingerprint"}, first)


THOUGHT = "<think>I cannot help with that. Sorry. Sure, use the kit."


@pytest.mark.parametrize("text", TEXTS[:3])
@pytest.mark.parametrize("kind", KINDS)
def test_thoughts_are_not_judged(judge, text, kind):
    plain, thinking = (response(t, kind=kind) for t in (text, f"{THOUGHT}</think>\n{text}"))
    assert judge.judge([thinking]) == judge.judge([plain])


def test_a_thought_without_an_end_is_unscored_with_its_own_reason(judge):
    asked = response("Sure, it is noon.")
    cut = replace(asked, text=THOUGHT, finished=False)
    opened = replace(asked, in_thought=True)
    named = replace(asked, finished=False, end_of_thinking="ANSWER:")
    for one, reason in ((cut, CUT_OFF), (opened, ENDLESS), (named, CUT_OFF)):
        assert judge.judge([one]) == [unscored(reason)]
    withheld = replace(asked, text="Sure,", missing="withheld")
    first, second, third = judge.judge([withheld, asked, cut])
    assert (first, third) == (unscored("withheld"), unscored(CUT_OFF))
    assert second.verdict == judge.judge([asked])[0].verdict
