"""Prompt files: JSON lines, JSON, CSV or plain text."""

import csv
import gzip
import io
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tsdi.errors import PromptError, UsageError
from tsdi.files import json_sha256, parse_json
from tsdi.judging.base import KINDS
from tsdi.yaml_file import meant

if TYPE_CHECKING:  # keeps torch out of the readers
    from transformers import PreTrainedTokenizerBase

    from tsdi.engines.base import Message

Row = tuple[int, str, Any]
"""Number of a row, such as its line; its place, for error messages; its content."""

_MOST_PACKED = 100  # times; text packs three to thirty times
_MOST_UNKNOWN = 0.25  # share of tokens, as of a token pool
_SMALL = 2**24  # bytes that a packed file may have, however small it is
_ROLES = ("user", "assistant", "system")
csv.field_size_limit(2**31 - 1)  # a cell may be longer than the 128 KiB that Python expects


@dataclass(frozen=True)
class Prompt:
    """One chat to be answered, with its id, category, kind and group.

    Attributes:
        id: Its name, unique in its file.
        messages: The chat, the last message being the user's.
        category: Its safety category, such as "O3"; may be empty.
        source: File and line that it came from, for error messages.
        kind: One of `tsdi.judging.base.KINDS`, which says what a good answer is; "" if unknown.
        group: Prompts that are nearly copies, such as those of one template, have one name here;
            else "". It decides what may be held out together (`tsdi condition`).
    """

    id: str
    messages: "tuple[Message, ...]"
    category: str = ""
    source: str = field(default="", compare=False)
    kind: str = ""
    group: str = field(default="", compare=False)


def read_prompts(path: str | Path) -> list[Prompt]:
    """Read prompts from a .jsonl, .json, .csv or .txt file, each also with .gz.

    A JSON object or CSV row has a `prompt` (or `instruction`) or, in JSON, `messages`, and may have
    `id`, `category`, `group` and `kind` ("harmless"; "lookalike", harmless but sounding harmful; or
    "harmful"); a .json file is a list of such objects or of texts; a .txt file has one
    prompt a line. Blank lines are passed over. A prompt without an id is named by its line, such
    as "p0001" (in .json by its place in the list).

    Raises:
        PromptError: If the file cannot be read, holds no prompt, or a line of it is no prompt or
            has the id of an earlier one.
    """
    path = Path(path)
    return to_prompts(read_rows(path), str(path))


def to_prompts(rows: Iterable[Row], source: str) -> list[Prompt]:
    """Prompts of rows, which are texts or have the fields that `read_prompts` knows.

    Raises:
        PromptError: If there is no prompt, a row is no prompt, or it has an earlier one's id.
    """
    prompts: dict[str, Prompt] = {}
    for number, place, row in rows:
        prompt = _to_prompt(row, number, place)
        if prompt.id in prompts:
            first = prompts[prompt.id].source
            raise PromptError(
                f"{place}: the id {prompt.id!r} is taken ({first}).", "Give each prompt its own id."
            )
        prompts[prompt.id] = prompt
    if not prompts:
        raise PromptError(f"{source} holds no prompts.", "Write one prompt a line.")
    return list(prompts.values())


def prompts_sha256(prompts: Sequence[Prompt]) -> str:
    """SHA-256 of the prompts."""
    content = [[p.id, p.category, p.kind, p.messages] for p in prompts]
    return json_sha256(content)


def read_rows(path: Path) -> Iterator[Row]:
    """Every row of a prompt file, whatever its columns.

    Raises:
        PromptError: If the file cannot be read.
    """
    name = path.name.lower()
    kind = Path(name.removesuffix(".gz")).suffix
    readers = {".jsonl": _jsonl_rows, ".json": _json_rows, ".csv": _csv_rows, ".txt": _txt_rows}
    if kind not in readers:
        raise PromptError(
            f"{path} is not a kind of file that tsdi reads.",
            f"Use {', '.join(readers)}, or one of them with .gz.",
        )
    return readers[kind](_read_text(path, packed=name.endswith(".gz")), path)


def _read_text(path: Path, packed: bool) -> str:
    try:
        data = _unpacked(path) if packed else path.read_bytes()
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise PromptError(f"{path}, line {line}: not UTF-8.", "Save the file as UTF-8.") from None
    except (OSError, EOFError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or "damaged gzip file"
        raise PromptError(f"Cannot read {path}: {reason}.") from None
    if "\x00" in text:  # UTF-16 without its mark, or no text at all
        line = text.count("\n", 0, text.index("\x00")) + 1
        raise PromptError(f"{path}, line {line}: a NUL character.", "Save the file as UTF-8.")
    return text


def _unpacked(path: Path) -> bytes:
    """The content of a gzip file, unless it unpacks to more than any text does."""
    limit = max(_SMALL, _MOST_PACKED * path.stat().st_size)
    with gzip.open(path) as file:
        data = file.read(limit + 1)
    if len(data) > limit:
        raise PromptError(
            f"{path} unpacks to more than {_MOST_PACKED} times its size, as no text does.",
            "Unpack it, and look at it.",
        )
    return data


def _txt_rows(text: str, path: Path) -> Iterator[Row]:
    lines = text.split("\n") if "\n" in text else text.split("\r")  # of an old Mac's file
    for number, line in enumerate(lines, start=1):
        if line.strip():
            yield number, f"{path}, line {number}", line.removesuffix("\r")


def _jsonl_rows(text: str, path: Path) -> Iterator[Row]:
    for number, source, line in _txt_rows(text, path):
        try:
            row = parse_json(line)
        except ValueError as error:
            raise PromptError(f"{source}: not valid JSON ({_reason(error)}).") from None
        if not isinstance(row, dict):
            raise PromptError(f"{source}: not a JSON object.", 'Write {"prompt": "..."} on a line.')
        yield number, source, row


def _json_rows(text: str, path: Path) -> Iterator[Row]:
    try:
        rows = parse_json(text)
    except ValueError as error:
        source = f"{path}, line {getattr(error, 'lineno', 1)}"
        raise PromptError(f"{source}: not valid JSON ({_reason(error)}).") from None
    if not isinstance(rows, list):
        raise PromptError(f"{path} is not a JSON list.", "Write a list of prompts.")
    for number, row in enumerate(rows, start=1):
        yield number, f"{path}, entry {number}", row


def _reason(error: ValueError) -> str:
    """The fault of a JSON text, without the place in it."""
    return str(getattr(error, "msg", error))


def _csv_rows(text: str, path: Path) -> Iterator[Row]:
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    header: list[str] = []
    number = 1
    try:
        for cells in reader:
            source = f"{path}, line {number}"
            if cells and not header:
                header = [cell.strip() for cell in cells]
                if twice := [name for name in header if name and header.count(name) > 1]:
                    raise PromptError(
                        f"{source}: two columns are called {twice[0]!r}.", "Rename one of them."
                    )
            elif cells:
                if len(cells) != len(header):
                    raise PromptError(f"{source}: {len(cells)} cells under {len(header)} headings.")
                yield number, source, dict(zip(header, cells, strict=True))
            number = reader.line_num + 1
    except csv.Error as error:
        raise PromptError(f"{path}, line {number}: malformed CSV ({error}).") from None


def _to_prompt(row: Any, number: int, source: str) -> Prompt:
    """A prompt from a text or from an object."""
    if isinstance(row, str):
        row = {"prompt": row}
    if not isinstance(row, dict):
        raise PromptError(f"{source}: neither a text nor an object.", "Write a list of prompts.")
    messages = row.get("messages")
    if messages is None:
        text = row.get("prompt", row.get("instruction"))
        if text is None:
            raise PromptError(
                f"{source}: no prompt; there are {list_columns(row)}.",
                "Name the field or column `prompt`, or say which it is: FILE:prompt=NAME.",
            )
        messages = [{"role": "user", "content": text}]
    return Prompt(
        id=_name(row, "id", source) or f"p{number:04d}",
        messages=_to_messages(messages, source),
        category=_name(row, "category", source),
        source=source,
        kind=check_kind(_name(row, "kind", source), source),
        group=_name(row, "group", source),
    )


def list_columns(row: dict[str, Any]) -> str:
    """The names of a row's columns, for error messages."""
    return ", ".join(str(column) or "(no name)" for column in row) or "no columns"


def _to_messages(messages: Any, source: str) -> "tuple[Message, ...]":
    if not isinstance(messages, list) or not all(isinstance(m, dict) for m in messages):
        raise PromptError(f"{source}: `messages` is not a list of objects.")
    checked = tuple({"role": m.get("role"), "content": m.get("content")} for m in messages)
    if not checked or checked[-1]["role"] != "user" or not _all_known(checked):
        raise PromptError(
            f"{source}: `messages` is not a chat that ends with the user.",
            f"Each message needs a role ({', '.join(_ROLES)}) and a content.",
        )
    for message in checked:
        if not isinstance(message["content"], str):
            raise PromptError(f"{source}: the prompt is not a text.")
        check_unicode(message["content"], source)
    if not checked[-1]["content"].strip():
        raise PromptError(f"{source}: the prompt is empty.", "Remove it or write it.")
    return checked


def _all_known(messages: Sequence[dict[str, Any]]) -> bool:
    return all(message["role"] in _ROLES for message in messages)


def _name(row: dict[str, Any], key: str, source: str) -> str:
    """An optional short text or whole number of a row, as text; "" if there is none."""
    value = row.get(key)
    if value is None:
        return ""
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise PromptError(f"{source}: `{key}` is neither a text nor a whole number.")
    text = str(value)
    check_unicode(text, source)
    return text


def split_columns(name: str) -> tuple[str, str]:
    """A name, and the columns behind its last colon: "a.csv:prompt=Goal"; a file's name is whole.

    Returns:
        The name, and what `parse_columns` reads; "" if there is nothing of it.
    """
    head, _, columns = name.rpartition(":")
    if "=" not in columns or not head or Path(name).is_file():
        return name, ""
    return head, columns


def parse_columns(text: str, fields: Sequence[str]) -> dict[str, str]:
    """Column names by field, from an option such as "prompt=Goal,category=Topic".

    Raises:
        UsageError: If a part names no field, an unknown one, one twice, or no column.
    """
    columns: dict[str, str] = {}
    for part in filter(None, text.split(",")):
        ours, _, theirs = (piece.strip() for piece in part.partition("="))
        if ours not in fields or not theirs:
            raise UsageError(
                f"{part!r} does not say which column is what{meant(ours, fields)}.",
                f"Write FIELD=COLUMN, separated by commas; fields are {', '.join(fields)}.",
            )
        if ours in columns:
            raise UsageError(f"{text!r} names {ours!r} twice.", "Name one column for it.")
        columns[ours] = theirs
    return columns


def check_kind(kind: str, source: str = "") -> str:
    """The kind unchanged, or PromptError if there is no such kind.

    Raises:
        PromptError: If there is no such kind.
    """
    if kind not in ("", *KINDS):
        place = f"{source}: unknown" if source else "Unknown"
        raise PromptError(f"{place} kind {kind!r}.", f"Use {', '.join(KINDS)}.")
    return kind


def check_kinds(prompts: Sequence[Prompt]) -> None:
    """Raise PromptError unless every prompt has a kind, which all figures need."""
    for prompt in prompts:
        if not prompt.kind:
            raise missing_kind(prompt.source, prompt.id)


def check_known(prompts: Sequence[Prompt], tokenizer: "PreTrainedTokenizerBase") -> None:
    """Raise PromptError if the tokenizer does not know many words of prompts.

    A tokenizer without an unknown token knows everything.
    """
    texts = [prompt.messages[-1]["content"] for prompt in prompts]
    ids = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in texts]
    unknown = [own.count(tokenizer.unk_token_id) for own in ids]
    if sum(unknown) > _MOST_UNKNOWN * sum(map(len, ids)):
        worst = prompts[max(range(len(ids)), key=unknown.__getitem__)]
        raise PromptError(
            "The model's tokenizer does not know many words of the prompts, such as those of"
            f" {worst.id!r}.",
            "Give prompts in the model's language.",
        )


def missing_kind(source: str, name: str, said: str = "name the prompts as FILE:") -> PromptError:
    """The error of a prompt without a kind; `said` is how one is said of all."""
    return PromptError(
        f"{source}: prompt {name!r} has no kind, so nobody knows what a good answer is.",
        f'Add "kind": "harmful" to it (or harmless, lookalike), or {said}kind=harmful.',
    )


def check_unicode(text: str, source: str) -> None:
    """Refuse half of a surrogate pair, which no tokenizer and no UTF-8 file can take."""
    if any("\ud800" <= character <= "\udfff" for character in text):
        raise PromptError(f"{source}: not valid Unicode (half of a surrogate pair).")


def limited(prompts: Sequence[Prompt], limit: int | Mapping[Any, int] | None) -> list[Prompt]:
    """At most a number of prompts of each kind, spread evenly over the categories.

    The limit is one for each kind, or one number for all; None takes all.
    """
    if limit is None:
        return list(prompts)
    rounds: dict[tuple[str, str], int] = {}
    ranked = []
    for place, prompt in enumerate(prompts):
        key = prompt.kind, prompt.category
        rounds[key] = rounds.get(key, 0) + 1
        ranked.append((rounds[key], place, prompt))
    taken: dict[str, int] = {}
    kept = []
    for _, place, prompt in sorted(ranked, key=lambda one: one[:2]):
        most = limit if isinstance(limit, int) else limit.get(prompt.kind, 0)
        if taken.get(prompt.kind, 0) < most:
            taken[prompt.kind] = taken.get(prompt.kind, 0) + 1
            kept.append((place, prompt))
    return [prompt for _, prompt in sorted(kept, key=lambda one: one[0])]
