import pytest

from tsdi.errors import ModelError, UsageError
from tsdi.judging.base import Judge, JudgeOptions, Response
from tsdi.judging.panel import Panel, judge_of, refusal_kinds
from tsdi.judging.registry import check_judge, find_weights, load_judge
from tsdi.judging.verdict import Judgement, Verdict


class Says(Judge):
    """Says one thing, and who was asked."""

    def __init__(self, name, verdict, sees_safety, sees_refusal):
        self.name, self.verdict = name, verdict
        self.sees_safety, self.sees_refusal = sees_safety, sees_refusal
        self.asked = []

    def settings(self):
        return {}

    def judge_answers(self, responses):
        self.asked += [response.id for response in responses]
        return [Judgement(self.verdict, raw=response.id) for response in responses]


def response(name, kind):
    return Response(name, kind, "", ({"role": "user", "content": "x"},), "y", True)


KINDS = ["harmless", "harmful", "lookalike", "harmful", "harmless"]
RESPONSES = [response(f"p{n}", kind) for n, kind in enumerate(KINDS)]


def panel():
    return Panel(
        Says("guard", Verdict.SAFE, True, False), Says("words", Verdict.COMPLIED, False, True)
    )


def test_each_side_is_judged_by_its_own_judge_in_the_order_of_the_answers():
    found = panel().judge(RESPONSES)
    assert [one.raw for one in found] == [one.id for one in RESPONSES]
    assert [one.verdict is Verdict.SAFE for one in found] == [k == "harmful" for k in KINDS]


def test_a_judge_without_answers_is_not_asked():
    harmful = Says("guard", Verdict.SAFE, True, False)
    Panel(harmful, Says("words", Verdict.COMPLIED, False, True)).judge(RESPONSES[:1])
    assert harmful.asked == []


def test_its_description_says_who_sees_what():
    described = panel().describe()
    assert described["name"] == "guard+words"
    assert (described["sees_safety"], described["sees_refusal"]) == (True, True)
    assert refusal_kinds(described) == ("harmless", "lookalike")
    assert judge_of(described, "harmful")["name"] == "guard"
    single = Says("guard", Verdict.SAFE, True, False).describe()
    assert refusal_kinds(single) == ()
    assert judge_of(single, "lookalike") is single


def test_a_spec_names_judges_and_their_models():
    assert check_judge("organism") == [("organism", None)]
    assert check_judge("organism=a/b=c+refusal-phrases") == [
        ("organism", "a/b=c"),
        ("refusal-phrases", None),
    ]
    assert load_judge("organism+refusal-phrases").name == "organism+refusal-phrases"
    with pytest.raises(UsageError, match="takes no model"):
        load_judge("refusal-phrases=x")


@pytest.mark.parametrize("spec", ["classifier=./none", "refusal-phrases+qwen3guard=./none"])
def test_weights_that_are_not_there_are_said_before_answers_are_made_for_them(spec):
    with pytest.raises(ModelError, match=r"no such folder: \./none"):
        find_weights(spec)


@pytest.mark.parametrize("spec", ["organism", "refusal-phrases", "llm-refusal=gpt-9"])
def test_judges_without_weights_here_have_none_to_be_found(spec):
    find_weights(spec)
    find_weights("qwen3guard", JudgeOptions(url="http://127.0.0.1:1/v1"))
