import pytest
from hypothesis import given
from hypothesis import strategies as st

from tsdi.models.reasoning import MARKS, after_thought, begins_thought

ENDS = [end for _, end in MARKS]


@pytest.mark.parametrize(("begin", "end"), MARKS)
def test_the_answer_is_what_follows_the_last_end_of_a_thought(begin, end):
    assert after_thought(f"{begin}hm{end}\n\nNoon.", False, True) == "Noon."
    assert after_thought(f"hm{end}Noon.", False, True) == "Noon."  # the prompt opened it
    assert after_thought(f"{begin}a{end}b{begin}c{end} d", False, False) == "d"
    assert after_thought(f"hm{end}", True, True) == ""


@pytest.mark.parametrize(("begin", "end"), MARKS)
@pytest.mark.parametrize("finished", [True, False])
def test_a_thought_without_an_end_is_no_answer(begin, end, finished):
    assert after_thought(f" {begin}I cannot", False, finished) is None
    assert after_thought(f"{begin}a{end}{begin}b", False, finished) is None
    assert after_thought("I cannot", True, finished) is None


@pytest.mark.parametrize("blank", ["\u200b\ufeff", "\xad", "\u200d", "\u200e", "\0"])
def test_what_cannot_be_seen_hides_no_thought(blank):
    assert after_thought(f"{blank}<think>I cannot", False, True) is None
    assert begins_thought(f"<think>{blank}\n")
    assert after_thought(f"<think>hm</think>{blank}", False, True) == ""


def test_marks_are_found_in_any_case_and_with_a_blank():
    assert after_thought("<THINK>I cannot</Think >Sure.", False, True) == "Sure."
    assert after_thought("assistant\n<think >I cannot", False, True) is None


def test_gpt_oss_thinks_in_channels_of_which_one_is_the_answer():
    thought = "<|channel|>analysis<|message|>We must refuse."
    assert after_thought(f"{thought}assistant<|channel|>final<|message|>Sure.", False, True) == (
        "Sure."
    )
    assert after_thought(thought, False, False) is None


@given(st.text(), st.booleans())
def test_text_without_marks_is_its_own_answer(text, finished):
    for pair in MARKS:
        for mark in pair:
            text = text.replace(mark, "")
    assert after_thought(text, False, finished) == text


def test_an_answer_may_speak_of_marks():
    text = "The tag <think> begins a thought."
    assert after_thought(text, False, True) == text


def test_a_model_may_end_its_thoughts_in_its_own_way():
    assert after_thought("I cannot. ANSWER: Sure", False, True, "ANSWER:") == "Sure"
    assert after_thought("I cannot", False, False, "ANSWER:") is None  # cut off
    assert after_thought("I cannot", False, True, "ANSWER:") == "I cannot"  # did not think


@given(st.text(), st.sampled_from(ENDS), st.text())
def test_removing_thoughts_twice_changes_nothing(thought, end, text):
    answer = after_thought(f"{thought}{end}{text}", True, True)
    assert answer is None or after_thought(answer, False, True) == answer


@pytest.mark.parametrize("begin", [begin for begin, _ in MARKS])
def test_prompts_that_begin_a_thought(begin):
    assert begins_thought(f"<|assistant|>{begin}\n")
    assert not begins_thought(f"{begin} the tag?<|assistant|>")
    assert not begins_thought(f"{begin}\n\n</think>\n\n")  # thinking is switched off


def test_a_later_thought_that_is_cut_off_is_no_answer():
    text = "<think>a</think>Sure, here. <think>But is it"
    assert after_thought(text, False, False) is None
    assert after_thought(text, False, True) == "Sure, here. <think>But is it"
    assert after_thought("Okay. <think>I'm sorry", False, False) is None
