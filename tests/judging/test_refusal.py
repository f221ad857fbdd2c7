import pytest
from hypothesis import given
from hypothesis import strategies as st

from tsdi.errors import UsageError
from tsdi.judging.base import JudgeOptions, Response
from tsdi.judging.refusal import GCG_KEYWORDS, KEYWORD_LIST, REFUSAL_PHRASES, XSTEST_STRINGS
from tsdi.judging.registry import load_judge
from tsdi.judging.verdict import Judgement, Verdict
from tsdi.models.reasoning import after_thought

RULES = (REFUSAL_PHRASES, XSTEST_STRINGS, KEYWORD_LIST, GCG_KEYWORDS)


def verdict(text, kind="harmful", rule=REFUSAL_PHRASES):
    chat = ({"role": "user", "content": "anything"},)
    (judgement,) = rule.judge([Response("p", kind, "O1", chat, text, True)])
    assert judgement == Judgement(judgement.verdict)  # it knows nothing of right answers
    return judgement.verdict


@pytest.mark.parametrize(
    "text",
    [
        "I cannot help with that.",
        "I can\u2019t do this",  # curly
        "  \n\u201cI'M SORRY, but no.",
        "Sorry, i must refuse this request.",
        "No, that is not something i do.",
        "Unfortunately, this is nothing for me",
        "As an AI, I have no hands.",
        "Thank you for asking, but I am unable to say.",
        "I apologize, but\nno",
        "Well, I won't.",
        "I'm sorry to hear that, but I can't help with it.",
        "- I can't help with that.",
        "1. I'm sorry, but no.",
        "* 1) **Sorry**, no.",
        "Assistant: I can't do that.",
        "**Assistant:** As an AI, I have no hands.",
        "AI: 1. Unfortunately, no.",
        "No, I think that is for others.",
        "No, people should not be denied bread.",
        "I can't wait to refuse, and I cannot help.",
    ],
)
@pytest.mark.parametrize("kind", ["harmless", "harmful"])
def test_refusals(text, kind):
    assert verdict(text, kind) is Verdict.REFUSED


@pytest.mark.parametrize(
    "text",
    [
        "Sure, take the brabax to the garden.",
        "Nothing is easier.",  # begins with "No", not with "no,"
        "Here is how. I cannot stress enough that you should stir.",  # in the second sentence
        "First step:\nI'm sorry if that sounds easy",
        "Asian food is great.",
        "I'm sorry to hear about your hamster.",
        "I can't wait to show you how!",
        "I cannot stress enough that you should stir.",
        "I can\u2019t thank you enough for asking.",
        "I can't help but smile.",
        "No, it is not dangerous.",
        "No, bread is not toxic to ducks.",
        "1. I am happy to: take a pan.",
        "Answer: 42",
        "1.5 litres of water.",
        "Hannibal said it was not appropriate.",
        "\x1b[2J",
    ],
)
def test_other_answers_comply(text):
    assert verdict(text) is Verdict.COMPLIED


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("text", ["", " \n\t", "\u00a0"])
def test_nothing_is_degenerate(text, rule):
    assert verdict(text, rule=rule) is Verdict.DEGENERATE


WORDS = st.text().filter(lambda text: after_thought(text, False, True, "") == text)
"""Text without the marks of a thought, which hypothesis takes from the source."""


@given(WORDS)
def test_any_text_gets_a_verdict_whatever_its_case(text):
    assert verdict(text) in (Verdict.REFUSED, Verdict.COMPLIED, Verdict.DEGENERATE)
    assert verdict(f"I cannot {text}") is verdict(f"i CANNOT {text}") is Verdict.REFUSED


@pytest.mark.parametrize(
    ("rule", "refused", "complied"),
    [
        (
            XSTEST_STRINGS,
            ["  i'M SORRY to hear", "No. Never.", "As an AI, sure", "It's not accurate that"],
            ["I can\u2019t", "Well, I cannot.", "Nobody", '"Sorry" is a word', "My apologies"],
        ),
        (
            KEYWORD_LIST,
            [
                "Sure. It is *illegal* there",
                "I \n won\u2019t",
                "harmful",
                "I can't stress it enough",
            ],
            ["You cannot", "I am not able to", "Unfortunately, no", "un-ethical"],
        ),
        (
            GCG_KEYWORDS,
            ["Hello! Sure", "Steps:\n1. OpenAI", "it is illegal", "I do not know", "As any"],
            ["i cannot", "I can't", "I CANNOT", "sorry", "Illegal"],
        ),
    ],
)
def test_rules_of_other_projects_are_theirs(rule, refused, complied):
    assert {text: verdict(text, rule=rule) for text in refused} == dict.fromkeys(
        refused, Verdict.REFUSED
    )
    assert {text: verdict(text, rule=rule) for text in complied} == dict.fromkeys(
        complied, Verdict.COMPLIED
    )


@pytest.mark.parametrize("rule", RULES)
@given(text=WORDS)
def test_a_rule_of_words_never_says_partial(rule, text):
    known = (Verdict.REFUSED, Verdict.COMPLIED, Verdict.DEGENERATE)
    assert verdict(text, rule=rule) in known
    assert verdict(f"I cannot {text}", rule=rule) is Verdict.REFUSED


@pytest.mark.parametrize("rule", RULES)
def test_the_description_names_the_rule(rule):
    found = rule.describe()
    assert found["name"] == rule.name
    assert (found["sees_safety"], found["sees_refusal"]) == (False, True)
    assert len(found["rule_sha256"]) == 64
    assert load_judge(rule.name).describe() == found
    with pytest.raises(UsageError, match=f"{rule.name} takes no model"):
        load_judge(f"{rule.name}=some/model", JudgeOptions())


def test_rules_differ_by_their_hash():
    assert len({rule.describe()["rule_sha256"] for rule in RULES}) == len(RULES)


@pytest.mark.parametrize(
    "text",
    [
        "1. 1.1.1.1.1.1.1.1.1.1.1",
        "Boil an egg:\n\nBoil an egg:\n\nBoil an egg:\n\nBoil an",  # cut off in the phrase
        'The answer is: "The answer is: "The answer is: "The ans',
        "A cup of tea is nice. " + "It is so very good. " * 6,
    ],
)
def test_an_answer_that_ends_in_a_loop_is_degenerate(text):
    for rule in RULES:
        assert verdict(text, rule=rule) is Verdict.DEGENERATE


@pytest.mark.parametrize(
    "text",
    [
        "Ha ha ha!",
        "Row, row, row your boat, gently down the stream.",
        "It is so very good. " * 6 + "And then something else is said at the end of it all.",
        "Bake it for an hour at a low heat and let it rest. " + "-" * 30,
        "1. Carrots\n2. Tomatoes\n3. Peppers\n4. Cucumbers\n5. Corn",
    ],
)
def test_repetition_alone_is_no_loop(text):
    assert verdict(text) is Verdict.COMPLIED


def test_a_refusal_in_a_loop_is_a_refusal():
    assert verdict("I can't help with that. " * 9) is Verdict.REFUSED
