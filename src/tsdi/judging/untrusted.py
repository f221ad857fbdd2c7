"""Neutralisation of judged text, so that it cannot pass for the judge's own markup.

A judge that is a model reads prompt and answer inside a template. Whoever wrote the answer may have
written the template's delimiters into it, to end the answer early and go on as the template. So
what looks like one is changed before the text is put in: little enough that the text still reads
the same, in a way that no longer matches, so that changing it again changes nothing.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # keeps transformers out of judges over an API
    from transformers import PreTrainedTokenizerBase

_BREAKS = r"\n\r\v\f\x1c-\x1e\x85\u2028\u2029"
_UNSEEN = r"\u200b-\u200f\u2060\ufeff"  # zero-width characters
_GAP = rf"[\s{_UNSEEN}]*"
_INDENT = rf"(?:[^\S{_BREAKS}]|[{_UNSEEN}])*"
_LINE_START = rf"(?<![^{_BREAKS}])"


@dataclass(frozen=True)
class Markup:
    """Delimiters of a judge's prompt, which may not come from the judged texts.

    Attributes:
        marks: Delimiters in brackets, such as "[/INST]" or "<END CONVERSATION>". Found whatever
            their case and spacing, as a model would read them; the first bracket becomes "(".
        headings: Beginnings of lines, such as "Agent:" or "---"; the line is quoted with "> ".
    """

    marks: tuple[str, ...]
    headings: tuple[str, ...] = ()


def markup_of(template: str) -> Markup:
    """The delimiters of a template with ``{prompt}`` and ``{answer}`` in it.

    They are what stands in brackets, and how its lines begin, such as "User:".
    """
    begins = (re.split(r"\{(?:prompt|answer)\}", line)[0].strip() for line in template.split("\n"))
    marks = re.findall(r"<[^<>\n]+>|\[[^\[\]\n]+\]", template)
    return Markup(tuple(dict.fromkeys(marks)), tuple(dict.fromkeys(filter(None, begins))))


def neutralise(text: str, markup: Markup, tokens: Iterable[str] = ()) -> str:
    """The text with all markup of the prompt changed, so that none of it is left.

    Of tokens that a tokenizer finds by their spelling (`control_tokens`) only that exact spelling
    matters; their first character becomes "(".
    """
    # Headings first: a quotation's ">" must not complete a mark.
    if markup.headings:
        text = _headings(markup.headings).sub("> ", text)
    if markup.marks:
        text = _marks(markup.marks).sub("(", text)
    known = tuple(tokens)
    return _tokens(known).sub("(", text) if known else text


def control_tokens(tokenizer: "PreTrainedTokenizerBase") -> dict[str, int]:
    """Ids of the tokens that a tokenizer finds by their spelling before it splits the text.

    Special ones such as "<|eot_id|>", and others that were added to it, but for runs of spaces.
    """
    added = {str(token): index for index, token in tokenizer.added_tokens_decoder.items()}
    return {text: added[text] for text in sorted(added) if text.strip()}


@lru_cache
def _headings(headings: tuple[str, ...]) -> re.Pattern[str]:
    return re.compile(rf"{_LINE_START}(?={_INDENT}(?:{_any_of(headings)}))", re.IGNORECASE)


@lru_cache
def _marks(marks: tuple[str, ...]) -> re.Pattern[str]:
    return re.compile(rf"(?={_any_of(marks)}).", re.IGNORECASE | re.DOTALL)


@lru_cache
def _tokens(tokens: tuple[str, ...]) -> re.Pattern[str]:
    return re.compile(rf"(?={'|'.join(map(re.escape, tokens))}).", re.DOTALL)


def _any_of(texts: Sequence[str]) -> str:
    """A pattern of any of these texts, with or without space between its characters."""
    return "|".join(_GAP.join(map(re.escape, "".join(text.split()))) for text in texts)
