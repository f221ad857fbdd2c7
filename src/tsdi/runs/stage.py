"""One stage of a run: records that are appended, beside a description of their making.

A stage is done in chunks, which are fixed by the order of its items; a resumed stage makes an
unfinished chunk again, whole, so that its records are those of an unbroken run. It is refused with
anything else than what its description says. Who opens and fills it keeps other processes out
(`tsdi.files.working_in`).
"""

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol, TypeVar

from tsdi.errors import FormatError, RunExistsError
from tsdi.files import json_or_none, parse_json, to_json, write_json
from tsdi.runs.records import Record, append_records, read_records

_CONTENTS = {"model": "fingerprint", "bias": "bias_sha256"}
"""Keys of names, and beside each the one that says what is in it."""
_LOG = logging.getLogger(__name__)
Progress = Callable[[int, int], None]  # records there are, items in all
StageProgress = Callable[[str, int, int], None]
"""Called with what is being done, how much of it is done, and how much there is."""


def named(progress: StageProgress | None, what: str) -> Progress | None:
    """Progress of one piece of work, reported under its name."""
    return partial(progress, what) if progress else None


def counting(progress: StageProgress | None, what: str, total: int) -> Callable[[int], None]:
    """A function that reports the number of items done as progress towards a total."""
    done = 0

    def count(more: int) -> None:
        nonlocal done
        done += more
        if progress:
            progress(what, done, total)

    return count


def as_read_back(description: Record) -> Record:
    """A description as JSON reads it back, to be compared with a stored one."""
    found: Record = parse_json(to_json(description))
    return found


class Item(Protocol):
    """An item from which a stage makes a record, with an id."""

    @property
    def id(self) -> str:
        """The id of the item and of its record."""


T = TypeVar("T", bound=Item)


@dataclass(frozen=True)
class Stage:
    """A stage's file names, its words for messages, and the reading and writing of records.

    Attributes:
        records: Its record file in the run folder.
        description: The file beside it that says what makes the records.
        what: Name of the records, for error messages.
        instead: The remedy in errors: what a user can do rather than resume.
    """

    records: str
    description: str
    what: str
    instead: str

    def check_unused(self, folder: Path) -> None:
        """Raise RunExistsError if a folder holds records of this stage already."""
        if (folder / self.records).exists():
            raise RunExistsError(
                f"{folder} already holds {self.what}.", f"Add --resume, or {self.instead}."
            )

    def open(self, folder: Path, description: Record, resume: bool) -> list[Record]:
        """Start or resume the stage in a folder; returns the records it already holds.

        The description is everything that decides the records, as it reads back from JSON.

        Raises:
            RunExistsError: If there are records, and either `resume` is off or they were made with
                something else; or if the folder is a model or a bias.
            FormatError: If the files are damaged.
            TsdiError: If the folder cannot be written.
        """
        if not (folder / self.records).exists():
            _check_no_model(folder)
            check_free(folder / self.description, *(description.keys() - {"versions"}))
            write_json(folder / self.description, description)
            return []
        recorded, wanted = flatten(self.read_description(folder)), flatten(description)
        keys = _what_differs(recorded, wanted)
        differing = [
            _said(key, recorded.get(key), wanted.get(key))
            for key in keys
            if key in recorded or not key.endswith("fingerprint")
        ]
        if differing:  # said even without --resume, which would end here too
            raise RunExistsError(
                f"The {self.what} in {folder} were made with something else: "
                f"{'; '.join(differing)}.",
                f"Use the same again, or {self.instead}.",
            )
        if not resume:
            self.check_unused(folder)
        if keys:
            _LOG.warning(
                "The %s in %s do not say which weights made them: an earlier tsdi did not look.",
                self.what,
                folder,
            )
        return read_records(folder / self.records)

    def read_description(self, folder: Path) -> Record:
        """Read the description of a folder's records.

        Raises:
            FormatError: If its file is missing or no JSON object.
        """
        path = folder / self.description
        description = json_or_none(path)
        if not isinstance(description, dict):
            raise FormatError(
                f"{path} does not say what made the {self.what} beside it.",
                f"Restore it, or {self.instead}.",
            )
        return description

    def fill(
        self,
        folder: Path,
        done: Sequence[Record],
        items: Sequence[T],
        chunk: int,
        make: Callable[[Iterator[Sequence[T]]], Iterable[Sequence[Record]]],
        progress: Progress | None,
    ) -> list[Record]:
        """Make the missing records chunk by chunk, and append those of each as they come.

        `done` has the records there are; `make` makes those of each chunk that it is given, in
        their order, as `map` does.

        Returns:
            One record per item, in their order.
        """
        known = {record["id"]: record for record in done}
        parts = [items[start : start + chunk] for start in range(0, len(items), chunk)]
        missing = [part for part in parts if any(item.id not in known for item in part)]
        count = len(items) - sum(map(len, missing))
        if progress and count:
            progress(count, len(items))
        for part, made in zip(missing, make(iter(missing)), strict=True):
            new = [record for record in made if record["id"] not in known]
            append_records(folder / self.records, new)
            known |= {record["id"]: record for record in new}
            count += len(part)
            if progress:
                progress(count, len(items))
        return [known[item.id] for item in items]


def check_free(path: Path, *keys: str) -> None:
    """Raise RunExistsError if there is a file that has none of these keys."""
    if not path.exists():
        return
    there = json_or_none(path)
    if not (isinstance(there, dict) and there.keys() & {*keys}):
        raise RunExistsError(
            f"{path} is there already, and tsdi wrote no such thing.",
            "Use another folder, or move it away.",
        )


ANSWERS = Stage("responses.jsonl", "run.json", "answers", "use another --out")
VERDICTS = Stage(
    "verdicts.jsonl",
    "judge.json",
    "verdicts",
    "delete verdicts.jsonl to judge the answers again; another --judge leaves these verdicts alone",
)


def _said(key: str, recorded: Any, wanted: Any) -> str:
    if key.endswith("fingerprint"):
        return f"{key} has changed: the model's folder holds other weights or settings now"
    return f"{key} was {recorded!r}, is {wanted!r}"


def _what_differs(recorded: Record, wanted: Record) -> list[str]:
    """The dotted keys that differ; of another judge only its name."""
    differing = sorted(
        key
        for key in recorded.keys() | wanted.keys()
        if recorded.get(key) != wanted.get(key) and not _is_renamed(key, recorded, wanted)
    )
    if "judge.name" in differing:
        return [key for key in differing if key == "judge.name" or not key.startswith("judge.")]
    return differing


def _is_renamed(key: str, recorded: Record, wanted: Record) -> bool:
    """Whether a key is a name, and both names are of one content, as of a folder that has moved."""
    place, dot, name = key.rpartition(".")
    content = f"{place}{dot}{_CONTENTS.get(name, '')}"
    found = recorded.get(content) if name in _CONTENTS else None
    return found is not None and found == wanted.get(content)


def flatten(value: Record, prefix: str = "") -> dict[str, Any]:
    """Nested objects as one, with dotted keys."""
    flat: dict[str, Any] = {}
    for key, item in value.items():
        nested = isinstance(item, dict) and item
        flat |= flatten(item, f"{prefix}{key}.") if nested else {prefix + key: item}
    return flat


def _check_no_model(folder: Path) -> None:
    """Refuse to put records among the files of a model, an adapter or a bias."""
    for name in ("config.json", "adapter_config.json", "bias_config.json"):
        if (folder / name).exists():
            raise RunExistsError(
                f"{folder} holds a model or a bias ({name}), not a run.", "Name another --out."
            )
