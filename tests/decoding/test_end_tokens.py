"""Where an answer ends: what model, tokenizer and chat template name, all of it."""

from types import SimpleNamespace

import pytest
from transformers import GenerationConfig

from tests import tiny
from tsdi.decoding.end_tokens import end_ids
from tsdi.errors import ModelError
from tsdi.models.chat import end_of_turn

EOS, END = 2, 6  # of the tiny tokenizer: <eos> and its template's <|end|>
ASSISTANT = "{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] }}"


def test_all_that_anyone_names_ends_an_answer():
    known = tiny.tokenizer()
    assert end_ids(known) == [EOS, END]
    settings = GenerationConfig(eos_token_id=[7, 9]), GenerationConfig(eos_token_id=8)
    assert end_ids(known, *settings, GenerationConfig()) == [EOS, END, 7, 8, 9]
    bare = tiny.tokenizer(None)
    bare.eos_token = None
    assert end_ids(bare) == []


@pytest.mark.parametrize(
    ("template", "end"),
    [
        (tiny.TEMPLATE, END),
        (ASSISTANT + "{{ eos_token }}{% endfor %}", EOS),
        (ASSISTANT + " {{ eos_token }}\n{% endfor %}", EOS),
        (ASSISTANT + "\n{% endfor %}", None),
        (ASSISTANT + "\nHuman: {% endfor %}", None),
        # Of gpt-oss: an earlier message's end is no end of an answer.
        (ASSISTANT + "{% if loop.last %}<eos>{% else %}<|end|>{% endif %}{% endfor %}", EOS),
        ("{{ messages[0]['content'] }}<|end|>", None),
        ("{{ raise_exception('no') }}", None),
        (None, None),
    ],
)
def test_the_template_says_what_ends_a_turn(template, end):
    assert end_of_turn(tiny.tokenizer(template)) == end


@pytest.mark.parametrize("end", ["3", 3.7, True])
def test_an_end_that_is_no_token_id_is_refused(end):
    with pytest.raises(ModelError, match="no token id"):
        end_ids(tiny.tokenizer(), SimpleNamespace(eos_token_id=[2, end]))
