"""Atomic writes, locks on output folders, and JSON from untrusted files."""

import hashlib
import json
import math
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from tsdi.errors import FormatError, RunExistsError, TsdiError, UsageError

LOCK = ".tsdi-lock"
_UNFINISHED = ".tsdi-unfinished"
_WRITTEN = ".tsdi-written.json"
DYING = 2.0  # seconds that a killed process may take to let go

_MOST_DIGITS = 100
_DEEPEST = 100  # levels; reading can go deeper than writing


@contextmanager
def working_in(folder: Path, wait: bool = False) -> Iterator[None]:
    """Lock an output folder for this process, as long as the block lasts.

    The folder is made if need be, and is gone again if nothing was put there. Blocks of one thread
    may be nested. Another process is waited for only if asked, and then however long it
    takes.

    Raises:
        RunExistsError: If another process works there.
        UsageError: If the folder cannot be made.
        TsdiError: If it cannot be written.
    """
    made = [place for place in (folder, *folder.parents) if not place.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(
            f"Cannot make the folder {folder}: {error.strerror}.", "Name another --out."
        ) from None
    try:
        with _alone(folder / LOCK, folder, wait):
            yield
    finally:
        with suppress(OSError):  # it is in use
            for place in made:
                place.rmdir()


@contextmanager
def working_on(file: Path, wait: bool = False) -> Iterator[None]:
    """Lock an output file, or a folder that is renamed when it is whole."""
    with _alone(file.with_name(f".{file.name}{LOCK}"), file, wait):
        yield


@contextmanager
def _alone(lock: Path, place: Path, wait: bool) -> Iterator[None]:
    held = FileLock(lock, is_singleton=True)
    try:
        held.acquire(-1 if wait else DYING)
    except Timeout:
        raise RunExistsError(
            f"Another process is at work in {place}.", "Wait until it ends, or name another --out."
        ) from None
    except OSError as error:
        raise unwritable(place, error) from None
    try:
        yield
    finally:
        if held.lock_counter == 1:
            with suppress(OSError):
                lock.unlink()  # who waits for it sees that and makes it again
        held.release()


def is_unused(folder: Path) -> bool:
    """Whether a folder is missing, empty, or holds only a killed process's unfinished files."""
    if not folder.is_dir():
        return not folder.exists()
    return all(
        file.name.endswith(LOCK) or (file.name.startswith(".") and file.suffix == ".part")
        for file in folder.iterdir()
    )


def check_goes_on(folder: Path, resume: bool, what: str, ours: Iterable[Path]) -> None:
    """Refuse a folder that is in use, unless the killed run that left one of its files is resumed.

    `what` is what such a run makes ("estimate"), and `ours` are files one of which it leaves.

    Raises:
        RunExistsError: If the folder cannot be gone on with.
    """
    if is_unused(folder):
        return
    if not resume:
        remedy = "Give another --out, or --resume a killed run."
        raise RunExistsError(f"{folder} is in use.", remedy)
    if not any(file.exists() for file in ours):
        raise RunExistsError(f"{folder} holds other files and no {what}.", "Give another --out.")


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
        with suppress(OSError):  # what went wrong before is what is to be said
            part.unlink(missing_ok=True)


@contextmanager
def write_folder(path: Path) -> Iterator[Path]:
    """A new folder to fill, renamed to its place when the block ends well.

    Raises:
        RunExistsError: If another process is filling it, or something else is in the way.
        TsdiError: If the disk is full or the place cannot be written.
    """
    unfinished = path.with_name(f"{path.name}.unfinished")
    with working_on(path):
        if unfinished.exists() and not _is_unfinished(unfinished):
            raise _in_the_way(unfinished)
        try:
            shutil.rmtree(unfinished, ignore_errors=True)
            unfinished.mkdir(parents=True)
            (unfinished / _UNFINISHED).touch()
            yield unfinished
            unfinished.rename(path)
            (path / _UNFINISHED).unlink()
        except OSError as error:
            raise unwritable(path, error) from error
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)


def _is_unfinished(folder: Path) -> bool:
    """Whether a killed process of ours left a folder, which may be removed then."""
    return folder.is_dir() and ((folder / _UNFINISHED).exists() or not any(folder.iterdir()))


def _in_the_way(path: Path) -> RunExistsError:
    return RunExistsError(
        f"{path} is in the way, and tsdi did not write it.", "Move it away, or name another --out."
    )


def write_set(folder: Path, contents: Mapping[str, bytes], own: bool = False) -> None:
    """Write files into a folder, in place of those written there before, and of no others.

    Their names are kept beside them, in a hidden file. A name may begin with that of a subfolder.
    `own` says that files of these names cannot be anyone else's.

    Raises:
        RunExistsError: If another file is in the way; nothing has been written then.
        TsdiError: If a file cannot be written.
    """
    before = _written(folder)
    for name in contents:
        if (folder / name).exists() and name not in before and not own:
            raise _in_the_way(folder / name)
    for name in sorted({str(Path(name).parent) for name in contents}):
        (folder / name).mkdir(parents=True, exist_ok=True)
    write_json(folder / _WRITTEN, sorted({*before, *contents}))  # a kill may come
    for name, data in contents.items():
        write_bytes(folder / name, data)
    for name in before - contents.keys():
        (folder / name).unlink(missing_ok=True)
    write_json(folder / _WRITTEN, sorted(contents))


def _written(folder: Path) -> set[str]:
    """Names of the files that `write_set` wrote into the folder."""
    names, inside = json_or_none(folder / _WRITTEN), folder.resolve()
    return {
        name
        for name in (names if isinstance(names, list) else [])
        if isinstance(name, str)
        and len(Path(name).parts) in (1, 2)
        and (folder / name).resolve().is_relative_to(inside)
    }


def check_output(
    path: Path, option: str, what: str, ours: Callable[[Path], bool], inputs: Iterable[Path] = ()
) -> None:
    """Refuse, before any work, to write over an input or anything but an earlier output.

    `option` named the path, `what` is written there ("an audit"), `ours` tells such a file, and
    `inputs` are read.

    Raises:
        UsageError: If the file cannot be there, or something else is.
    """
    if path.is_dir() or not path.parent.is_dir():
        raise UsageError(f"There can be no file {path}.", f"Name another {option}.")
    if not path.exists():
        return
    if any(one.exists() and path.samefile(one) for one in inputs):
        raise UsageError(f"{path} is read, and would be written over.", f"Name another {option}.")
    if not (path.is_file() and ours(path)):
        raise UsageError(
            f"{path} is there already, and is not {what}.",
            f"Name another {option}, or move it away.",
        )


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


def to_lines(rows: Iterable[Any]) -> bytes:
    """Objects as JSON lines, in UTF-8."""
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


def json_sha256(value: Any) -> str:
    """SHA-256 of a value as JSON, in hex."""
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's content, in hex."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def parse_json(text: str | bytes, finite: bool = True) -> Any:
    """Parse JSON, with faults as ValueErrors that name them.

    With `finite` off, NaN, Infinity and what overflows to it pass: config files of models may hold
    them.

    Raises:
        ValueError: For everything that can be wrong with it: syntax, encoding, depth, numbers that
            are none or of more than 100 digits, a key twice; these are named.
    """
    try:
        value = _DECODER.decode(text.decode() if isinstance(text, bytes) else text)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    _check_parts(value, finite)
    return value


def json_or_none(path: Path) -> Any:
    """The content of a JSON file; None if there is none, or it is no JSON."""
    try:
        return parse_json(path.read_bytes())
    except (OSError, ValueError):
        return None


def _whole_number(digits: str) -> float:
    """A whole number of JSON; infinity for one of too many digits."""
    return int(digits) if len(digits) <= _MOST_DIGITS else math.inf


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object of JSON, refused if a key occurs twice."""
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"`{twice[:80]}` is there twice")
    return found


_DECODER = json.JSONDecoder(parse_int=_whole_number, object_pairs_hook=_once)


def _check_parts(value: Any, finite: bool) -> None:
    """Refuse values that would cause a traceback later, in use or when written again."""
    level: list[tuple[str, Any]] = [("", value)]
    for _ in range(_DEEPEST):
        below: list[tuple[str, Any]] = []
        for key, part in level:
            if isinstance(part, dict):
                below += part.items()
            elif isinstance(part, list):
                below += [(key, entry) for entry in part]
            elif finite and isinstance(part, float) and not math.isfinite(part):
                name = f"`{key[:80]}`" if key else "a number"
                raise ValueError(f"{name} is NaN, infinite or of more than {_MOST_DIGITS} digits")
        if not below:
            return
        level = below
    raise ValueError("nested too deeply")


def read_object(path: Path, remedy: str) -> dict[str, Any]:
    """Read the JSON object of a file of tsdi's own.

    Raises:
        FormatError: If it cannot be read, or holds anything else.
    """
    try:
        found = parse_json(path.read_bytes())
    except OSError as error:
        raise FormatError(f"Cannot read {path}: {error.strerror}.", remedy) from None
    except ValueError as error:
        raise FormatError(f"{path} is damaged: {error}.", remedy) from None
    if not isinstance(found, dict):
        raise FormatError(f"{path} is damaged: no JSON object.", remedy)
    return found


def unwritable(path: Path, error: OSError) -> TsdiError:
    """The error of a place that cannot be written."""
    reason = error.strerror or str(error)
    if isinstance(error, shutil.Error) and isinstance(error.args[0], list):
        reason = str(error.args[0][0][-1]).partition(": '")[0]  # of many files the first
    return TsdiError(
        f"Cannot write {path}: {reason}.", "Free space or mend the folder, then run it again."
    )
