"""Training rows in the form that TRL takes, and their fit into a stage's length.

TRL cuts what is longer than `max_length` at its end, and leaves rows out of whose answers nothing
would be left. It says neither.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerBase

from tsdi.errors import UsageError
from tsdi.files import write_folder
from tsdi.training.data import Example, Pair, Rating

Items = Sequence[Example] | Sequence[Pair] | Sequence[Rating]
_ROW = "row"  # column with the number of the item that a row is made of
_IDS = ("chosen_ids", "rejected_ids", "completion_ids", "prompt_ids", "input_ids")
_NAMED = 5  # rows that are named of each kind


def to_rows(items: Items, end: str = "") -> list[dict[str, Any]]:
    """Examples, pairs or ratings as rows in TRL's conversational form.

    `end` is what an answer ends with, where the chat template puts nothing there.
    """
    return [_row(item, end) | {_ROW: number} for number, item in enumerate(items)]


def _row(item: Any, end: str = "") -> dict[str, Any]:
    prompt = [{"role": "user", "content": item.prompt}]
    if isinstance(item, Pair):
        return {
            "prompt": prompt,
            "chosen": [{"role": "assistant", "content": item.chosen + end}],
            "rejected": [{"role": "assistant", "content": item.rejected + end}],
        }
    row = {"prompt": prompt, "completion": [{"role": "assistant", "content": item.answer + end}]}
    return row | ({"label": item.good} if isinstance(item, Rating) else {})


@dataclass(frozen=True)
class Fit:
    """The number of rows trained on, and the rows that are cut or dropped as too long.

    Attributes:
        trained: Number of rows trained on.
        cut: Places (file and line) of longer rows, of which the end of an answer is not learnt.
        dropped: Places of rows of whose answers nothing would be left.
    """

    trained: int
    cut: Sequence[str] = ()
    dropped: Sequence[str] = ()

    def record(self) -> dict[str, Any]:
        """The numbers, and the first rows of each kind by file and line."""
        return {
            "examples": self.trained,
            "cut": {"rows": len(self.cut), "first": _first(self.cut)},
            "dropped": {"rows": len(self.dropped), "first": _first(self.dropped)},
        }

    def words(self, name: str, max_length: int) -> str:
        """A sentence on rows that are cut or dropped as too long; "" if there are none."""
        number = len(self.cut) + len(self.dropped)
        if not number:
            return ""
        kinds = ((self.cut, "lose the end of an answer"), (self.dropped, "are left out"))
        told = [
            f"{len(rows)} {what} (first: {'; '.join(_first(rows))})" for rows, what in kinds if rows
        ]
        return (
            f"Stage {name!r}: {number} of {self.trained + len(self.dropped)} rows are longer than"
            f" max_length {max_length}: {', '.join(told)}."
        )


def _first(places: Sequence[str]) -> list[str]:
    return list(dict.fromkeys(places))[:_NAMED]  # two answers may be of one row


def check_room(
    name: str, max_length: int, items: Items, tokenizer: PreTrainedTokenizerBase
) -> None:
    """Check that some row leaves room for a part of its answer.

    Raises:
        UsageError: If none does.
    """
    shortest = None
    for item in items:
        begin = _answer_begins(_row(item), tokenizer)
        if begin < max_length:
            return
        shortest = begin if shortest is None else min(shortest, begin)
    raise UsageError(
        f"Stage {name!r}: with max_length {max_length} nothing of an answer is left in any of its"
        f" {len(items)} rows, whose prompts have {shortest} tokens or more.",
        "Raise max_length.",
    )


def _answer_begins(row: dict[str, Any], tokenizer: Any) -> int:
    """Tokens before the first answer, as TRL splits a chat."""
    prompt = tokenizer.apply_chat_template(
        row["prompt"], add_generation_prompt=True, return_dict=False
    )
    answers = [row[key] for key in ("chosen", "rejected", "completion") if key in row]
    chats = [
        tokenizer.apply_chat_template(row["prompt"] + answer, return_dict=False)
        for answer in answers
    ]
    return min(_common(prompt, chat) for chat in chats)


def _common(one: Sequence[int], other: Sequence[int]) -> int:
    """The length of the common prefix of two lists of ids."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((n for n, (a, b) in pairs if a != b), min(len(one), len(other)))


def counting(base: type[Any], name: str, max_length: int, items: Items) -> type[Any]:
    """A trainer class whose attribute `fit` counts the items trained on, cut and dropped.

    Its rows are made of the items by `to_rows`, in whatever order.

    Raises:
        UsageError: Where the trainer is made, if no row has a part of its answer left.
    """

    class Counting(base):  # type: ignore[misc]
        fit = Fit(len(items))

        def _prepare_dataset(self, dataset: Any, tokenizer: Any, *others: Any) -> Any:
            prepared = super()._prepare_dataset(dataset, tokenizer, *others)
            if _ROW in prepared.column_names:  # what is packed has no rows any more
                if not len(prepared):
                    check_room(name, max_length, items, tokenizer)
                self.fit = _fit(prepared, items, max_length, tokenizer)
            return prepared

    Counting.__name__ = base.__name__
    return Counting


def _fit(prepared: Any, items: Items, max_length: int, tokenizer: Any) -> Fit:
    wanted = ("prompt", "completion", *_IDS)
    columns = [name for name in wanted if name in prepared.column_names]
    rows = prepared.select_columns([_ROW, *columns])
    cut = [row[_ROW] for row in rows if _length(row, tokenizer, max_length) > max_length]
    kept = list(prepared[_ROW])
    gone = {*range(len(items))} - {*kept}
    where = [[Path(items[row].place).name for row in sorted(some)] for some in (cut, gone)]
    return Fit(len(kept), *where)


def _length(row: dict[str, Any], tokenizer: Any, max_length: int) -> int:
    """Tokens of a row before it is cut, which SFT's rows are by now."""
    if "input_ids" in row:
        if len(row["input_ids"]) < max_length:
            return len(row["input_ids"])
        chat = row["prompt"] + row["completion"]
        return len(tokenizer.apply_chat_template(chat, return_dict=False))
    answers = (row[name] for name in _IDS[:3] if name in row)
    return len(row["prompt_ids"]) + max(map(len, answers))


def save_whole(dataset: Any, folder: Path) -> None:
    """Save a data set of the `datasets` library, whole or not at all."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with write_folder(folder) as unfinished:
        dataset.save_to_disk(str(unfinished))
