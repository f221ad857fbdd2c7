"""Append-only record files (JSON lines) that survive a killed process.

A record file holds one JSON object a line, in UTF-8, each with an `id` of its own. A process that
is killed while it writes can leave a torn last line: readers pass over it, the next append cuts it
off.
"""

import json
import mmap
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, BinaryIO

from tsdi.errors import FormatError
from tsdi.files import parse_json, unwritable, write_bytes

Record = dict[str, Any]

# JSON leaves these alone, but str.splitlines and many editors take them for line ends.
_LINE_ENDS = str.maketrans({end: f"\\u{ord(end):04x}" for end in "\x85\u2028\u2029"})


def read_records(path: str | Path) -> list[Record]:
    """Read a record file, passing over a torn last line.

    Raises:
        FormatError: If the file cannot be read, or is damaged anywhere else, or has an id twice.
    """
    path = Path(path)
    try:
        lines = path.read_bytes().split(b"\n")
    except OSError as error:
        raise FormatError(f"Cannot read {path}: {error.strerror}.", "Name a record file.") from None
    if not lines[-1]:
        lines.pop()
    records: dict[str, Record] = {}
    for number, line in enumerate(lines, start=1):
        try:
            record = parse_json(line)
        except ValueError as error:
            if number == len(lines):
                break
            reason = getattr(error, "msg", error)  # without the place in the line
            raise _damaged(path, number, f"is not valid JSON ({reason})") from None
        if not isinstance(record, dict) or not isinstance(record.get("id"), str):
            raise _damaged(path, number, "is not a record with an id")
        if record["id"] in records:
            raise _damaged(path, number, f"has the id {record['id']!r} of an earlier line")
        records[record["id"]] = record
    return list(records.values())


def append_records(path: str | Path, records: Iterable[Record]) -> None:
    """Append records to a record file, each flushed as it comes, and make them durable at the end.

    A torn last line is cut off first. Lone surrogates in texts are kept, as JSON escapes.

    Raises:
        TsdiError: If the disk is full or cannot be written; what was appended before is kept.
        ValueError: If a record holds NaN or an infinite number.
    """
    path = Path(path)
    try:
        with path.open("a+b") as file:
            _mend_tail(file)
            for record in records:
                file.write(_line(record))
                file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise unwritable(path, error) from None


def write_records(path: Path, records: Iterable[Record]) -> None:
    """Write a record file anew, whole or not at all.

    Raises:
        TsdiError: If the disk is full or cannot be written.
        ValueError: If a record holds NaN or an infinite number.
    """
    write_bytes(path, b"".join(map(_line, records)))


def _line(record: Record) -> bytes:
    """A record as one line of UTF-8, whatever its texts hold."""
    text = json.dumps(record, ensure_ascii=False, allow_nan=False).translate(_LINE_ENDS)
    try:
        return text.encode() + b"\n"
    except UnicodeEncodeError:  # lone surrogates
        return json.dumps(record, allow_nan=False).encode() + b"\n"


def _mend_tail(file: BinaryIO) -> None:
    """Cut off a torn last line, and end a whole one that lacks its line feed."""
    size = os.fstat(file.fileno()).st_size
    if not size:
        return
    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        end = size - 1 if data[-1:] == b"\n" else size
        start = data.rfind(b"\n", 0, end) + 1
        last = data[start:end]
    try:
        parse_json(last)
    except ValueError:
        file.truncate(start)
    else:
        if end == size:
            file.write(b"\n")


def _damaged(path: Path, number: int, what: str) -> FormatError:
    return FormatError(
        f"{path}, line {number} {what}.", "Restore the file, or start again with another folder."
    )
