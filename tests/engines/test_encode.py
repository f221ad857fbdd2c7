import pytest

from tests import tiny
from tsdi.engines.base import Request, Sampling
from tsdi.engines.encode import decode_answer, encode_request, is_in_thought
from tsdi.errors import PromptError
from tsdi.models.chat import OWN_TEMPLATE
from tsdi.models.reasoning import MARKS, after_thought

HARMONY = ["<|start|>", "<|channel|>", "<|message|>"]


def known(*special):
    tokenizer = tiny.tokenizer()
    tokenizer.add_special_tokens({"additional_special_tokens": list(special)})
    return tokenizer


def ids(tokenizer, text):
    return tokenizer(text, add_special_tokens=False)["input_ids"]


@pytest.mark.parametrize("special", [True, False])
@pytest.mark.parametrize(("begin", "end"), MARKS[:-1])
def test_ends_of_thoughts_stay_in_the_text_whether_or_not_they_are_special(special, begin, end):
    tokenizer = known(begin, end) if special else tiny.tokenizer()
    text = decode_answer(tokenizer, ids(tokenizer, f"{begin}the mill{end}the river<|end|><eos>"))
    assert text == f"{begin}the mill{end}the river"


def test_channels_of_gpt_oss_stay_in_the_text():
    tokenizer = known(*HARMONY)
    written = (
        "<|channel|>analysis<|message|>the mill<|end|><|start|>assistant"
        "<|channel|>final<|message|>the river<eos>"
    )
    text = decode_answer(tokenizer, ids(tokenizer, written))
    assert after_thought(text, False, True) == "the river"


def test_answers_without_thoughts_are_decoded_as_ever():
    tokenizer = known("</think>")
    found = ids(tokenizer, "the river <|user|> runs<eos>")
    assert decode_answer(tokenizer, found) == tokenizer.decode(found, skip_special_tokens=True)


def test_a_prompt_of_far_too_many_characters_is_refused_before_it_becomes_tokens():
    request = Request(({"role": "user", "content": "river " * 10_000},))
    with pytest.raises(PromptError, match=r"60,000 characters do not fit .* 256 tokens"):
        encode_request(None, request, Sampling(), OWN_TEMPLATE, 256)


@pytest.mark.parametrize(("begin", "end"), MARKS)
def test_prompts_that_begin_a_thought_are_seen(begin, end):
    tokenizer = known(begin)
    prompt = "the river runs past the old mill and the fields <|assistant|>"
    assert is_in_thought(tokenizer, ids(tokenizer, f"{prompt}{begin}\n"))
    assert not is_in_thought(tokenizer, ids(tokenizer, f"{begin}{prompt}"))
    assert not is_in_thought(tokenizer, ids(tokenizer, f"{prompt}{begin}\n\n{end}\n\n"))
