"""Training data: rows of the usual data sets as SFT examples, preference pairs and KTO ratings.

A row is told by its columns:

PKU-SafeRLHF    prompt, response_0, response_1, is_response_0_safe, is_response_1_safe,
                better_response_id, safer_response_id
its safe-unsafe  prompt, response: a list of the safer and the less safe answer
selection
pairs           prompt, chosen, rejected; and maybe category, chosen_safety, rejected_safety
instructions    instruction (or prompt), maybe input (or context), output (or response, answer,
                completion): Alpaca, Dolly and their like
chats           messages, of which the last is the assistant's
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

from tsdi.errors import PromptError
from tsdi.suites.prompts import Row, check_unicode
from tsdi.training.recipe import HeldOut

Prefer = Literal["helpful", "safe"]
"""Which answer of two is the chosen one: the more helpful or the safer."""

_PKU = ("response_0", "response_1")
_QUESTIONS = ("instruction", "prompt", "question")
_INPUTS = ("input", "context")
_ANSWERS = ("output", "response", "answer", "completion")
_DROP = "Remove the row, or say `drop_unusable: true` for this data in the recipe."
_PREFERRED = {"helpful": "better_response_id", "safe": "safer_response_id"}


@dataclass(frozen=True)
class Example:
    """A prompt and the answer to learn.

    `place` is file and row, for error messages.
    """

    prompt: str
    answer: str
    place: str = field(default="", compare=False)


@dataclass(frozen=True)
class Pair:
    """A prompt and two answers, of which one is preferred.

    `place` is file and row, for error messages; safeties are a judge's probabilities that the
    answers are safe, None if unknown.
    """

    prompt: str
    chosen: str
    rejected: str
    category: str = ""
    place: str = field(default="", compare=False)
    chosen_safety: float | None = None
    rejected_safety: float | None = None


@dataclass(frozen=True)
class Rating:
    """A prompt and an answer that is desirable or not, as KTO learns from."""

    prompt: str
    answer: str
    good: bool
    place: str = field(default="", compare=False)


Item = TypeVar("Item", Example, Pair, Rating)


class UnusableRowError(PromptError):
    """A row of the right form that nothing can be learnt from: an empty text or equal answers."""


def to_examples(
    rows: Iterable[Row],
    prefer: Prefer | None = None,
    drop_unusable: bool = False,
    keep_duplicates: bool = False,
) -> list[Example]:
    """SFT examples of rows.

    Of rows with two answers `prefer` says which one is learnt; None learns both. Rows with an empty
    text are refused, or dropped if asked. Examples are given once, as the same answer may stand in
    several pairs, or as often as they are there.

    Raises:
        PromptError: If a row lacks a column, or a text in it is no text.
        UnusableRowError: If a text is empty.
    """
    found = _convert(rows, lambda row: _examples(row, prefer), drop_unusable)
    return found if keep_duplicates else list(dict.fromkeys(found))


def _convert(
    rows: Iterable[Row], convert: "Callable[[_Columns], list[Item]]", drop_unusable: bool
) -> list[Item]:
    items: list[Item] = []
    for _, place, row in rows:
        try:
            items += convert(_Columns(row, place))
        except UnusableRowError:
            if not drop_unusable:
                raise
    return items


def _examples(row: "_Columns", prefer: Prefer | None) -> list[Example]:
    if row.has("messages"):
        return [_last_turn(row)]
    if row.has(*_PKU) or row.is_list("response") or row.has("chosen"):
        if prefer is not None or row.has("chosen"):
            pair = _pair(row, prefer or "safe")
            return [Example(pair.prompt, pair.chosen, row.place)]
        prompt = row.text("prompt")
        return [Example(prompt, answer, row.place) for answer in _both(row)]
    question, more = row.text(*_QUESTIONS), row.optional(*_INPUTS)
    prompt = f"{question}\n{more}" if more else question
    return [Example(prompt, row.text(*_ANSWERS), row.place)]


def _last_turn(row: "_Columns") -> Example:
    messages = row.values["messages"]
    turns: list[tuple[Any, Any]] = (
        [(m.get("role"), m.get("content")) for m in messages if isinstance(m, dict)]
        if isinstance(messages, list)
        else []
    )
    if [role for role, _ in turns[-2:]] != ["user", "assistant"]:
        raise PromptError(
            f"{row.place}: `messages` does not end with a user's and an assistant's message."
        )
    if len(turns) != 2 or not all(isinstance(text, str) and text.strip() for _, text in turns):
        raise PromptError(
            f"{row.place}: `messages` is not one question and one answer.",
            "Longer chats and system messages are not supported: split or remove them.",
        )
    return Example(turns[0][1], turns[1][1], row.place)


def to_pairs(rows: Iterable[Row], prefer: Prefer, drop_unusable: bool = False) -> list[Pair]:
    """Preference pairs of rows.

    "helpful" chooses by `better_response_id`, "safe" by `safer_response_id`; files of pairs, and
    those that list the safer answer first, have chosen already. Rows with an empty text or equal
    answers are refused, or dropped if asked.

    Raises:
        PromptError: If a row lacks a column, or a text in it is no text.
        UnusableRowError: If a text is empty, or the answers are equal.
    """
    return _convert(rows, lambda row: [_different(_pair(row, prefer))], drop_unusable)


def _different(pair: Pair) -> Pair:
    if pair.chosen == pair.rejected:
        raise UnusableRowError(
            f"{pair.place}: the chosen and the rejected answer are equal.", _DROP
        )
    return pair


def _pair(row: "_Columns", prefer: Prefer) -> Pair:
    scores = row.probability("chosen_safety"), row.probability("rejected_safety")
    if row.has("chosen") or row.has("rejected"):
        chosen, rejected = row.text("chosen"), row.text("rejected")
        category = row.optional("category")
        return Pair(row.text("prompt"), chosen, rejected, category, row.place, *scores)
    answers = _both(row)
    if row.is_list("response") and not row.has(*_PKU):
        if prefer == "helpful":
            raise _missing(row, "better_response_id", "which answer is more helpful")
        better = 0
    else:
        better = row.choice(_PREFERRED[prefer])
    category = row.category(f"response_{1 - better}_harm_category")
    prompt = row.text("prompt")
    return Pair(prompt, answers[better], answers[1 - better], category, row.place, *scores)


def _both(row: "_Columns") -> tuple[str, str]:
    if row.has("chosen"):
        return row.text("chosen"), row.text("rejected")
    if not row.is_list("response") or row.has(*_PKU):
        return row.text("response_0"), row.text("response_1")
    answers = row.values["response"]
    if len(answers) != 2:
        raise PromptError(
            f"{row.place}: column 'response' is not a list of two answers, the safer one first."
        )
    two = _Columns({"response[0]": answers[0], "response[1]": answers[1]}, row.place)
    return two.text("response[0]"), two.text("response[1]")


def to_ratings(rows: Iterable[Row], prefer: Prefer, drop_unusable: bool = False) -> list[Rating]:
    """KTO's ratings of rows, two for each row with two answers.

    With "helpful" the better answer is desirable, and the other one not; with "safe" every answer
    that `is_response_0_safe` and `is_response_1_safe` call safe.

    Raises:
        PromptError: If a row lacks a column, or a text in it is no text.
        UnusableRowError: If a text is empty, or the answers are equal.
    """
    return _convert(rows, lambda row: _ratings(row, prefer), drop_unusable)


def _ratings(row: "_Columns", prefer: Prefer) -> list[Rating]:
    if prefer == "safe" and row.has(*_PKU):
        prompt = row.text("prompt")
        return [
            Rating(prompt, row.text(f"response_{k}"), row.flag(f"is_response_{k}_safe"), row.place)
            for k in (0, 1)
        ]
    pair = _different(_pair(row, prefer))
    return [
        Rating(pair.prompt, pair.chosen, True, row.place),
        Rating(pair.prompt, pair.rejected, False, row.place),
    ]


@dataclass(frozen=True)
class _Columns:
    """The columns of a row, read with errors that name file, row and column."""

    values: Any
    place: str

    def __post_init__(self) -> None:
        if not isinstance(self.values, dict):
            raise PromptError(f"{self.place}: not an object with columns, but a plain text.")

    def has(self, *names: str) -> bool:
        return all(name in self.values for name in names)

    def is_list(self, name: str) -> bool:
        return isinstance(self.values.get(name), list)

    def text(self, *names: str) -> str:
        """The text of the first of these columns that the row has."""
        name = next((name for name in names if name in self.values), None)
        if name is None:
            raise _missing(self, " or ".join(names))
        value = self.values[name]
        if value is not None and not isinstance(value, str):
            raise PromptError(f"{self.place}: column {name!r} is no text.")
        if not value or not value.strip():
            raise UnusableRowError(f"{self.place}: column {name!r} is empty.", _DROP)
        check_unicode(value, self.place)
        return value.strip()

    def optional(self, *names: str) -> str:
        name = next((name for name in names if self.values.get(name)), None)
        return "" if name is None else self.text(name)

    def choice(self, name: str) -> int:
        value = self._value(name)
        if str(value) not in ("0", "1"):
            raise PromptError(f"{self.place}: column {name!r} is {value!r}, not 0 or 1.")
        return int(value)

    def flag(self, name: str) -> bool:
        value = self._value(name)
        if str(value).lower() not in ("true", "false", "0", "1"):
            raise PromptError(f"{self.place}: column {name!r} is {value!r}, not true or false.")
        return str(value).lower() in ("true", "1")

    def probability(self, name: str) -> float | None:
        value = self.values.get(name)
        if value in (None, ""):
            return None
        try:
            number = float(value)
        except (TypeError, ValueError):
            number = -1.0
        if isinstance(value, bool) or not 0 <= number <= 1:
            raise PromptError(f"{self.place}: column {name!r} is {value!r}, not from 0 to 1.")
        return number

    def category(self, name: str) -> str:
        """The first harm that newer versions of PKU-SafeRLHF find in an answer."""
        found = self.values.get(name) or self.values.get("category") or ""
        if isinstance(found, dict):
            return next((str(harm) for harm, present in found.items() if present), "")
        return str(found)

    def _value(self, name: str) -> Any:
        if name not in self.values:
            raise _missing(self, name)
        return self.values[name]


def _missing(row: _Columns, name: str, meaning: str = "") -> PromptError:
    return PromptError(
        f"{row.place}: no column {name!r}" + (f", which says {meaning}." if meaning else "."),
        f"It has {', '.join(map(str, row.values)) or 'none'}; say which column is meant"
        " (`columns` in a recipe, FILE:prompt=NAME elsewhere).",
    )


def rename(rows: Iterable[Row], columns: dict[str, str]) -> list[Row]:
    """Rows whose columns have our names.

    `columns` has the file's column by our name, such as {"instruction": "question"}.

    Raises:
        PromptError: If a row lacks one of them.
    """
    renamed: list[Row] = []
    for number, place, row in rows:
        source = _Columns(row, place)
        ours = {name: source._value(column) for name, column in columns.items()}
        rest = {key: value for key, value in row.items() if key not in columns.values()}
        renamed.append((number, place, rest | ours))
    return renamed


def part_of(items: Sequence[Item], held_out: HeldOut, part: str, source: str) -> list[Item]:
    """The items whose prompts are in one part of the data: train, validation or test.

    The part is "train", "validation" or "test".

    Raises:
        PromptError: If there are none.
    """
    kept = [item for item in items if held_out.part(item.prompt) == part]
    if not kept:
        raise PromptError(
            f"The {part} part of {source!r} is empty ({len(items)} usable rows in all parts).",
            "Give more data, or hold out another share of it.",
        )
    return kept
