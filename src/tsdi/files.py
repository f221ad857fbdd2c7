"""Files that are written whole or not at all, and JSON that may be anything."""

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tsdi.errors import TsdiError


def write_bytes(path: Path, data: bytes) -> None:
    """Write a file beside its place, then rename it there, so that no reader sees half of it.

    Raises:
        TsdiError: If the disk is full or the place cannot be written.
    """
    part = path.with_name(f".{path.name}.part")
    try:
        with part.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except OSError as error:
        raise unwritable(path, error) from error
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def write_folder(path: Path) -> Iterator[Path]:
    """A folder to be filled, which gets its name when the block ends well.

    Raises:
        TsdiError: If the disk is full or the place cannot be written.
    """
    unfinished = path.with_name(f"{path.name}.unfinished")
    try:
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(parents=True)
        yield unfinished
        unfinished.rename(path)
    except OSError as error:
        raise unwritable(path, error) from error
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def write_json(path: Path, value: Any) -> None:
    """Write an object as indented JSON, whole or not at all.

    Raises:
        TsdiError: If the disk is full or the place cannot be written.
        ValueError: If the value holds NaN or an infinite number.
    """
    write_bytes(path, to_json(value))


def to_json(value: Any) -> bytes:
    """An object as indented JSON.

    Raises:
        ValueError: If it holds NaN or an infinite number.
    """
    return (json.dumps(value, indent=2, allow_nan=False) + "\n").encode()


def parse_json(text: str | bytes) -> Any:
    """Parse JSON.

    Raises:
        ValueError: For everything that can be wrong with it: syntax, encoding, depth, huge numbers.
    """
    try:
        return json.loads(text.decode() if isinstance(text, bytes) else text)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def unwritable(path: Path, error: OSError) -> TsdiError:
    """The error of a place that cannot be written."""
    return TsdiError(
        f"Cannot write {path}: {error.strerror or error}.",
        "Everything written so far is kept: free space or repair the folder, then run again with"
        " --resume.",
    )
