"""Separation of a reasoning model's thought from its answer, by end-of-thinking marks."""

import re
from collections.abc import Iterable

MARKS = (
    ("<think>", "</think>"),  # DeepSeek-R1, Qwen3, GLM and most others
    ("<thinking>", "</thinking>"),  # prompted, and older fine-tunes
    ("<thought>", "</thought>"),
    ("<reasoning>", "</reasoning>"),
    ("<reflection>", "</reflection>"),
    ("<analysis>", "</analysis>"),
    ("<scratchpad>", "</scratchpad>"),
    ("<|begin_of_thought|>", "<|end_of_thought|>"),  # Sky-T1, OpenThinker
    ("[THINK]", "[/THINK]"),  # Magistral
    ("<|START_THINKING|>", "<|END_THINKING|>"),  # Command A Reasoning
    ("<seed:think>", "</seed:think>"),  # Seed-OSS
    ("\u25c1think\u25b7", "\u25c1/think\u25b7"),  # Kimi
    ("<|channel|>", "<|channel|>final<|message|>"),  # gpt-oss
)
"""How thoughts of known models begin and end."""

TOKENS = {mark for pair in MARKS[:-1] for mark in pair} | {"<|channel|>", "<|message|>"}
"""Tokens that these are written with. Where a tokenizer has them as special tokens, they must stay
in an answer's text, or nobody can tell where the thought ends."""

_INVISIBLE = "\x00-\x1f\xad\u200b-\u200f\u2060-\u2064\ufeff"
_BLANK = rf"[\s{_INVISIBLE}]*"


def _written(marks: Iterable[str]) -> str:
    """A regular expression for marks in any case, with blanks before the last ``>``."""
    return "|".join(re.sub(r">$", r"\\s*>", re.escape(mark)) for mark in marks)


_BEGINS = _written(begin for begin, _ in MARKS)
_ENDS = re.compile(_written(end for _, end in MARKS), re.IGNORECASE)
_THOUGHT = re.compile(_BEGINS, re.IGNORECASE)
_LINE_BEGINS_THOUGHT = re.compile(rf"^{_BLANK}(?:{_BEGINS})", re.IGNORECASE | re.MULTILINE)
_BEGINS_WITH_THOUGHT = re.compile(rf"{_BLANK}(?:{_BEGINS})", re.IGNORECASE)
_ENDS_IN_THOUGHT = re.compile(rf"(?:{_BEGINS}){_BLANK}\Z", re.IGNORECASE)
_LEADING_BLANK = re.compile(_BLANK)


def begins_thought(prompt: str) -> bool:
    """Whether a prompt ends within a thought, which the model then continues."""
    return bool(_ENDS_IN_THOUGHT.search(prompt))


def goes_on_with_thought(text: str) -> bool:
    """Whether a text ends a thought that it does not begin, so the prompt had begun it."""
    return bool(_ENDS.search(text)) and not _BEGINS_WITH_THOUGHT.match(text)


def after_thought(text: str, in_thought: bool, finished: bool, end: str = "") -> str | None:
    """The answer behind the last end of a thought; all of a text without thoughts.

    `end` is how thoughts end, beside the known ways. A model of which that is said thinks, so that
    a text which was cut off before it is part of a thought.

    Returns:
        The answer; None if the thought does not end, or another one began and was cut off.
    """
    places = [found.end() for found in _ENDS.finditer(text)]
    if end and (place := text.rfind(end)) >= 0:
        places.append(place + len(end))
    if not places and (in_thought or (end and not finished)):
        return None
    answer = _LEADING_BLANK.sub("", text[max(places) :], count=1) if places else text
    # A whole answer may speak of marks; a thought that was not ended begins a line.
    thinks = _LINE_BEGINS_THOUGHT if finished else _THOUGHT
    return None if thinks.search(answer) else answer
