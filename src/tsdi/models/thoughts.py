"""Where a thinking model's thought ends and its answer begins, in what it wrote."""

import re

MARKS = (
    ("<think>", "</think>"),  # DeepSeek-R1, Qwen3, GLM and most others
    ("<thinking>", "</thinking>"),  # prompted, and older fine-tunes
    ("<thought>", "</thought>"),
    ("<reasoning>", "</reasoning>"),
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

_BEGINS = "|".join(re.escape(begin) for begin, _ in MARKS)
_THOUGHT = re.compile(_BEGINS)
_BLANK = "[\\s\u200b\u2060\ufeff]*"  # the last three have no width
_BEGINS_WITH_THOUGHT = re.compile(rf"{_BLANK}(?:{_BEGINS})")
_ENDS_IN_THOUGHT = re.compile(rf"(?:{_BEGINS}){_BLANK}\Z")


def begins_thought(prompt: str) -> bool:
    """Whether a prompt ends with the beginning of a thought, so that the model goes on with it."""
    return bool(_ENDS_IN_THOUGHT.search(prompt))


def goes_on_with_thought(text: str) -> bool:
    """Whether a text ends a thought that it does not begin, since the prompt had begun it."""
    ends = any(end in text for _, end in MARKS)
    return ends and not _BEGINS_WITH_THOUGHT.match(text)


def after_thought(text: str, in_thought: bool, finished: bool, end: str = "") -> str | None:
    """The answer: what follows the last end of a thought, or all where no thought is.

    Args:
        text: What the model wrote.
        in_thought: Whether the prompt had begun a thought.
        finished: Whether the model ended by itself.
        end: How thoughts end, beside the known ways. A model of which that is said thinks, so that
            a text which was cut off before it is part of a thought.

    Returns:
        The answer; None if the thought does not end, or another one began and was cut off.
    """
    ends = [mark for _, mark in MARKS] + ([end] if end else [])
    places = [place + len(mark) for mark in ends if (place := text.rfind(mark)) >= 0]
    if not places and (in_thought or (end and not finished)):
        return None
    answer = text[max(places) :].lstrip() if places else text
    thinks = _BEGINS_WITH_THOUGHT.match if finished else _THOUGHT.search
    return None if thinks(answer) else answer
