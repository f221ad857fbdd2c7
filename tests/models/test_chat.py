"""Chats as ids: the template's own, the same tomorrow; and what identifies a tokenizer."""

import datetime
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers.processors import TemplateProcessing
from transformers import AutoTokenizer

from tests import tiny
from tests.judging.judge_models import mistral_tokenizer
from tsdi.bias import TokenPool
from tsdi.bias.random_prompts import chat_frame
from tsdi.errors import PromptError, UsageError
from tsdi.models import chat
from tsdi.models import template as templates
from tsdi.models.chat import (
    ChatFormat,
    check_format,
    describe_without_template,
    encode_chat,
    fix_arguments,
    template_sha256,
    tokenizer_sha256,
)
from tsdi.models.template import PINNED_DATE

CHAT = [{"role": "user", "content": "grow wheat"}]
KNOWN = tiny.tokenizer()  # for templates of many examples
DATED = "Today is {{ strftime_now('%d %B %Y') }}." + tiny.TEMPLATE


class TestEncoding:
    def test_a_chat_ends_where_the_answer_begins(self):
        tokenizer = tiny.tokenizer()
        turns = [*CHAT, {"role": "assistant", "content": "how?"}, *CHAT]
        assert tokenizer.decode(encode_chat(tokenizer, turns)) == (
            "<bos><|user|>grow wheat<|end|><|assistant|>how?<|end|><|user|>grow wheat<|end|>"
            "<|assistant|>"
        )

    def test_without_a_template_the_texts_are_joined(self):
        tokenizer = tiny.tokenizer(None)
        ids = encode_chat(tokenizer, [{"role": "system", "content": "be brief"}, *CHAT])
        assert tokenizer.decode(ids) == "be brief\n\ngrow wheat"

    def test_a_prompt_format_wins_over_the_template(self):
        tokenizer = tiny.tokenizer()
        ids = encode_chat(tokenizer, CHAT, ChatFormat("USER: {prompt} {x} ASSISTANT:"))
        assert tokenizer.decode(ids) == "USER: grow wheat {x} ASSISTANT:"

    @pytest.mark.parametrize(
        ("prompt_format", "number"),
        [("", "no"), ("USER:", "no"), ("{ prompt }", "no"), ("{prompt} A: {prompt}", "2")],
    )
    def test_a_prompt_format_needs_one_place_for_the_prompt(self, prompt_format, number):
        with pytest.raises(UsageError, match=rf"has {number} \{{prompt\}} in it"):
            ChatFormat(prompt_format)

    def test_what_is_used_without_a_template_is_said(self):
        assert "prompt format 'Q {prompt}'" in describe_without_template(ChatFormat("Q {prompt}"))
        assert "plain text" in describe_without_template(ChatFormat())


@pytest.mark.parametrize("template", ["$A <eos>", "<bos> $A <eos>", "<bos> $A", "$A"])
def test_no_token_that_ends_a_text_stands_behind_a_prompt(template):
    tokenizer = tiny.tokenizer(None)
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        template, special_tokens=[("<bos>", 1), ("<eos>", 2)]
    )
    assert (tokenizer("a")["input_ids"][-1] == 2) == template.endswith("<eos>")
    for chat_format, text in (
        (ChatFormat("Q: {prompt} A:"), "Q: grow wheat A:"),
        (ChatFormat(), "grow wheat"),
    ):
        ids = encode_chat(tokenizer, CHAT, chat_format)
        begin = "<bos>" if template.startswith("<bos>") else ""
        assert tokenizer.decode(ids) == begin + text
    own = encode_chat(tokenizer, [{"role": "user", "content": "a<eos>"}])
    assert own[-1] == 2, "the user's own text stays"


class TestHostileTemplates:
    @pytest.mark.parametrize(
        ("template", "reason"),
        [
            ("{{ 1 // 0 }}", "ZeroDivisionError"),
            ("{{ messages + 1 }}", "TypeError"),
            ("{{ messages[0].content.x.y }}", "has no attribute 'x'"),
            ("{{ raise_exception('a\\nb') }}", ": a."),
            ("{% if %}", "Expected an expression"),
            ("{% include 'x' %}", "TypeError no loader"),
            ("{% import 'x' as y %}", "TypeError no loader"),
            ("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "RecursionError"),
            ("{{ 'x' * 10 ** 19 }}", "OverflowError"),
            ("{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}", ""),
            ("{% for a in range(99999) %}{{ 'x' * 100000 }}{% endfor %}", "without end"),
        ],
    )
    def test_whatever_they_raise_is_one_line(self, template, reason, monkeypatch):
        monkeypatch.setattr(templates, "MOST_LINES", 50_000)
        monkeypatch.setattr(templates, "MOST_CHARACTERS", 1_000_000)
        tokenizer = tiny.tokenizer(template)
        tiny.refused(lambda: encode_chat(tokenizer, CHAT), "['user']", reason, kind=PromptError)
        assert sys.gettrace() is None

    def test_a_long_chat_is_not_without_end(self):
        turns = [{"role": role, "content": "grow"} for role in ("user", "assistant")] * 1000
        assert len(encode_chat(tiny.tokenizer(), turns[:-1])) > 4000


class TestTemplateArguments:
    @staticmethod
    def given(**template_args):
        return ChatFormat(template_args=template_args)

    def test_the_template_gets_them(self):
        tokenizer = tiny.tokenizer(tiny.THINKING)
        ids = encode_chat(tokenizer, CHAT, self.given(enable_thinking=False))
        assert tokenizer.decode(ids).endswith("<|assistant|><think></think>")
        assert encode_chat(tokenizer, CHAT) != ids

    @pytest.mark.parametrize("value", [True, False])
    def test_what_is_used_may_be_given_the_default_too(self, value):
        check_format(tiny.tokenizer(tiny.THINKING), self.given(enable_thinking=value))

    def test_an_unknown_one_is_refused_with_those_that_there_are(self):
        tokenizer = tiny.tokenizer("{% generation %}{% endgeneration %}" + tiny.THINKING)
        with pytest.raises(UsageError, match=r"'thinking'\. It takes effort, enable_thinking"):
            check_format(tokenizer, self.given(thinking=False))
        for template in (tiny.TEMPLATE, None):
            with pytest.raises(UsageError, match=r"'thinking'\. It takes none"):
                check_format(tiny.tokenizer(template), self.given(thinking=False))

    @pytest.mark.parametrize("value", ["False", "no", None, [False]])
    def test_a_value_that_the_template_makes_nothing_of_is_refused(self, value):
        with pytest.raises(UsageError, match="makes nothing of enable_thinking="):
            check_format(tiny.tokenizer(tiny.THINKING), self.given(enable_thinking=value))

    def test_any_text_or_number_that_is_printed_is_used(self):
        for value in ("low", 3, 0.5):
            check_format(tiny.tokenizer(tiny.THINKING), self.given(effort=value))

    def test_a_prompt_format_has_none(self):
        with pytest.raises(UsageError, match="takes no arguments"):
            ChatFormat("Q: {prompt}", {"enable_thinking": False})

    def test_they_are_part_of_the_hash(self):
        tokenizer = tiny.tokenizer(tiny.THINKING)
        values = ({}, {"enable_thinking": False}, {"enable_thinking": True})
        hashes = {template_sha256(tokenizer, ChatFormat(template_args=v)) for v in values}
        assert len(hashes) == 3

    @pytest.mark.parametrize("begin", ["", "\n", "  ", "\n  ", "text\n", "{%+ if 1 %}x{% endif %}"])
    @pytest.mark.parametrize(
        "then", ["", "{%- if 1 %} a {% endif %}", "  {% if 1 %}\nb{% endif %}"]
    )
    def test_they_can_be_made_part_of_the_template(self, begin, then):
        args = {"enable_thinking": False, "effort": 'it\'s "low"\n{{ x }}'}
        template = begin + then + tiny.THINKING
        wanted = encode_chat(tiny.tokenizer(template), CHAT, ChatFormat(template_args=args))
        tokenizer = tiny.tokenizer(template)
        fix_arguments(tokenizer, args)
        assert encode_chat(tokenizer, CHAT) == wanted


class TestDates:
    @pytest.mark.parametrize(
        "call",
        [
            "strftime_now('%d')",
            'strftime_now( "%d" )',
            "(strftime_now('%d') if 1 else 2)",
            "strftime_now(day)",
            "strftime_now(format=day)",
            "'%d'.replace('%d', strftime_now(day)) if strftime_now is defined",
        ],
    )
    def test_however_it_is_written(self, call):
        tokenizer = tiny.tokenizer("{% set day = '%d' %}{{ " + call + " }}" + tiny.TEMPLATE)
        assert tokenizer.decode(encode_chat(tokenizer, CHAT)).startswith("01<bos>")

    @settings(max_examples=15, deadline=None)
    @given(
        parts=st.lists(
            st.sampled_from(
                [*(f"%{c}" for c in "aAwdbBmyYHIpMSfzZjUWcxXGuVDFTRe"), "%%", "d", " ", "-"]
            )
        ),
        before=st.sampled_from(["", "\n", "  ", "a\n "]),
    )
    def test_every_format_is_that_of_strftime(self, parts, before):
        wanted, said = "".join(parts), "{{ messages[0]['content'] }}"
        tokenizer = tiny.tokenizer(
            f"{before}{{% set f = {wanted!r} %}}{{{{ strftime_now(f) }}}}|{said}"
        )
        plain = tiny.tokenizer(
            f"{before}{{% set f = 1 %}}{{{{ {PINNED_DATE.strftime(wanted)!r} }}}}|{said}"
        )
        assert encode_chat(tokenizer, CHAT) == encode_chat(plain, CHAT)

    @pytest.fixture(params=[datetime.date(2024, 2, 29), datetime.date(2031, 12, 24)])
    def today(self, request, monkeypatch):
        """Another day for everything that asks for the time."""

        class Clock(datetime.datetime):
            @classmethod
            def now(cls, tz=None):
                return cls(*request.param.timetuple()[:3], tzinfo=tz)

        monkeypatch.setattr("transformers.utils.chat_template_utils.datetime", Clock)
        return request.param

    def test_the_template_prints_the_pinned_date(self, today):
        tokenizer = tiny.tokenizer(DATED)
        unpinned = tokenizer.apply_chat_template(CHAT, tokenize=False)
        assert today.strftime("%d %B %Y") in unpinned, "the clock must be another's"
        text = tokenizer.decode(encode_chat(tokenizer, CHAT))
        assert text.startswith(f"Today is {PINNED_DATE:%d %B %Y}.<bos><|user|>")

    def test_the_frame_is_the_same_on_every_day(self, today):
        tokenizer = tiny.tokenizer(DATED)
        frame = chat_frame(tokenizer, TokenPool.from_tokenizer(tokenizer))
        assert tokenizer.decode(frame.prefix) == "Today is 01 January 2025.<bos><|user|>"


class TestTokenizerHash:
    def test_it_survives_the_disk(self, tmp_path):
        tokenizer = tiny.tokenizer()
        tokenizer.save_pretrained(tmp_path)
        assert tokenizer_sha256(AutoTokenizer.from_pretrained(tmp_path)) == tokenizer_sha256(
            tokenizer
        )

    @pytest.mark.parametrize(
        "settings",
        [
            {"padding": "max_length", "max_length": 64},
            {"truncation": True, "max_length": 2},
        ],
        ids=["padding", "truncation"],
    )
    def test_how_texts_were_padded_before_does_not_matter(self, settings):
        tokenizer = tiny.tokenizer()
        tokenizer("the river runs past the old mill", **settings)
        tokenizer.padding_side = tokenizer.truncation_side = "right"
        tokenizer.model_max_length = 3
        assert tokenizer_sha256(tokenizer) == tokenizer_sha256(tiny.tokenizer())

    def test_the_template_is_no_part_of_it(self):
        assert tokenizer_sha256(tiny.tokenizer(None)) == tokenizer_sha256(tiny.tokenizer())

    def test_another_vocabulary_has_another_hash(self):
        assert tokenizer_sha256(tiny.tokenizer(vocab=300)) != tokenizer_sha256(tiny.tokenizer())

    def test_another_way_to_split_has_another_hash(self):
        tokenizer = tiny.tokenizer()
        splitter = tokenizer.backend_tokenizer.pre_tokenizer
        splitter.add_prefix_space = True
        tokenizer.backend_tokenizer.pre_tokenizer = splitter
        assert tokenizer.get_vocab() == tiny.tokenizer().get_vocab()
        assert tokenizer_sha256(tokenizer) != tokenizer_sha256(tiny.tokenizer())


def test_template_hashes_tell_what_is_wrapped_around_prompts():
    plain, other, none = tiny.tokenizer(), tiny.tokenizer(DATED), tiny.tokenizer(None)
    hashes = [template_sha256(tokenizer) for tokenizer in (plain, other, none)]
    hashes.append(template_sha256(plain, ChatFormat("Q: {prompt}")))
    assert len(set(hashes)) == 4
    assert template_sha256(other, ChatFormat("Q: {prompt}")) == hashes[3]
    assert chat.template_sha256(tiny.tokenizer()) == hashes[0]


def test_a_format_that_begins_with_the_first_token_gets_no_second_one():
    known = mistral_tokenizer()
    assert encode_chat(known, [{"role": "user", "content": "safe"}], ChatFormat("{prompt}"))[0] == 1
    ids = encode_chat(known, [{"role": "user", "content": "<s>safe"}], ChatFormat("<s>{prompt}"))
    assert ids == known("<s><s>safe", add_special_tokens=False)["input_ids"]
    assert ids.count(1) == 2  # the format's, and the one that the text brings itself


PARTS = (
    "{% for m in messages %}<|user|>{% for part in m['content'] %}"
    "{% if part['type'] == 'text' %}{{ part['text'] }}{% endif %}{% endfor %}<|end|>{% endfor %}"
)


def test_a_template_of_a_model_that_sees_shows_the_text():
    known, messages = tiny.tokenizer(PARTS), [{"role": "user", "content": "the old mill"}]
    assert chat.decode(known, encode_chat(known, messages)) == "<|user|>the old mill<|end|>"
    assert messages == [{"role": "user", "content": "the old mill"}]
    parts = [{"role": "user", "content": [{"type": "text", "text": "the old mill"}]}]
    assert encode_chat(known, parts) == encode_chat(known, messages)
    own = tiny.tokenizer()
    assert "the old mill" in chat.decode(own, encode_chat(own, messages))


@pytest.mark.parametrize(
    ("template", "problem"),
    [
        ("always the same", "shows nothing of what the user says"),
        ("{% for m in messages %}{{ m.content[:5] }}{% endfor %}", "shows nothing"),
        ("{% for m in messages %}{{ m.content | upper }}{% endfor %}", "shows nothing"),
        (
            "{{ range(99999) | random }}{% for m in messages %}{{ m.content }}{% endfor %}",
            "another text of the same chat each time",
        ),
    ],
)
def test_a_template_that_does_not_show_the_chat_is_refused(template, problem):
    with pytest.raises(PromptError, match=problem):
        encode_chat(tiny.tokenizer(template), [{"role": "user", "content": "bread"}])


def test_a_template_that_shows_the_text_twice_takes_no_random_ids():
    twice = "{% for m in messages %}{{ m.content }}{{ m.content }}{% endfor %}"
    with pytest.raises(PromptError, match="shows a user's text 2 times"):
        chat_frame(tiny.tokenizer(twice), TokenPool.from_tokenizer(tiny.tokenizer()))
