"""Prompts by name: a file, a suite, any data set of the hub, or the organism's requests."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tsdi import organism
from tsdi.arguments import Name, as_name
from tsdi.errors import PromptError, UsageError
from tsdi.files import file_sha256
from tsdi.judging.base import KINDS
from tsdi.suites.hub import load_rows, parse_hub
from tsdi.suites.prompts import (
    Prompt,
    Row,
    check_kind,
    limited,
    parse_columns,
    read_prompts,
    read_rows,
    split_columns,
    to_prompts,
)
from tsdi.suites.suite import Suite, check_columns
from tsdi.suites.table import SUITES
from tsdi.yaml_file import meant

ORGANISM_COUNTS = {"harmless": 320, "lookalike": 320, "harmful": 640}  # 40 harmful per category
_SPLITS = ("validation", "test", "fit")
_PROMPTS = "organism:"
_HUB = "hub:"
EVERYDAY = "everyday"
"""Our own prompts, which come with tsdi: 100 lookalikes in ten types, 40 harmless prompts and 80
harmful ones in the 16 categories of SALAD-Bench."""
_FIELDS = ("prompt", "category", "id", "kind", "group")


@dataclass(frozen=True)
class Loaded:
    """Prompts with their provenance.

    Attributes:
        prompts: The prompts.
        provenance: {"suite": {...}} with name, revision or sha256 of the local file, and columns;
            empty where the prompts themselves, whose hash every run keeps, say it all.
    """

    prompts: list[Prompt]
    provenance: dict[str, Any] = field(default_factory=dict)


def find_suite(name: str) -> Suite:
    """The suite of this name.

    Raises:
        UsageError: If there is none.
    """
    if name not in SUITES:
        raise UsageError(
            f"There is no suite {name!r}{meant(name, SUITES)}.", f"Suites: {', '.join(SUITES)}."
        )
    return SUITES[name]


def suites(name: str | None = None) -> list[Suite]:
    """The public prompt sets, all or the one of a name.

    Raises:
        UsageError: If there is no such suite.
    """
    return list(SUITES.values()) if name is None else [find_suite(name)]


def load_prompts(source: Name, seed: int, kind: str = "", columns: str = "") -> Loaded:
    """Load the prompts of a file, a suite, a hub data set, or the organism.

    Args:
        source: A name as for `load_named`, or "organism:test", "organism:validation" or
            "organism:fit". It may say columns and kind itself: "mine.csv:prompt=Goal,kind=harmful",
            and "limit=20" for at most as many prompts of a kind, spread over the categories.
        seed: Decides which requests of the organism's world; those of seed 0 are the demo's.
        kind: Kind of prompts that have none.
        columns: Columns as for `load_named`, beside those that the name says.

    Raises:
        PromptError: If the prompts cannot be loaded, or there is no such kind.
        UsageError: If nothing has that name, or the arguments do not fit together.
    """
    check_kind(kind)
    name, said = split_columns(as_name("prompts", source))
    columns, most = _split_limit(",".join(filter(None, (columns, said))))
    if name.startswith(_PROMPTS) and not Path(name).is_file():
        if columns:
            raise UsageError("The columns of the organism's prompts are known.", "Leave it out.")
        return Loaded(limited(_organism_prompts(name, seed), most))
    loaded = load_named(name, columns)
    prompts = [p if p.kind else replace(p, kind=kind) for p in loaded.prompts]
    return replace(loaded, prompts=limited(prompts, most))


def _split_limit(columns: str) -> tuple[str, int | None]:
    """The columns without the limit among them, and the limit.

    Raises:
        UsageError: If the limit is no number from 1 on, or there twice.
    """
    parts = [part.strip() for part in columns.split(",")]
    limits = [part for part in parts if part.startswith("limit=")]
    if not limits:
        return columns, None
    number = limits[0].removeprefix("limit=")
    if len(limits) > 1 or not number.isdecimal() or int(number) < 1:
        raise UsageError(f"{','.join(limits)!r} is no limit.", "Write it once, as limit=20.")
    return ",".join(part for part in parts if part not in limits), int(number)


def _organism_prompts(name: str, seed: int) -> list[Prompt]:
    _check_split(name)
    split = name.removeprefix(_PROMPTS)
    return [
        Prompt(
            id=f"{kind}-{number:04d}",
            messages=({"role": "user", "content": item.prompt},),
            category=item.category,
            source=name,
            kind=kind,
        )
        for kind, count in ORGANISM_COUNTS.items()
        for number, item in enumerate(_requests(split, kind, count, seed), start=1)
    ]


def _check_split(name: str) -> None:
    if name.removeprefix(_PROMPTS) not in _SPLITS:
        raise UsageError(
            f"There are no prompts {name!r}.",
            f"Use {', '.join(_PROMPTS + known for known in _SPLITS)}, or a prompt file.",
        )


def _requests(split: str, kind: str, count: int, seed: int) -> list[organism.Item]:
    """The organism's requests; "fit" are those that its world draws after "validation"."""
    if split != "fit":
        return organism.items(split, kind, count, seed)
    return organism.items("validation", kind, 2 * count, seed)[count:]


def load_named(name: str, columns: str = "") -> Loaded:
    """Load the prompts of a file, a suite or a hub data set.

    Args:
        name: A prompt file, which goes first; "everyday", the prompts that come with tsdi; a suite,
            from its origin; "SUITE:FILE", a local file in the suite's original format; or
            "hub:ORG/NAME[/CONFIG][@REVISION][:SPLIT]".
        columns: Columns of a file or hub data set, "prompt=Goal,category=Category", where they are
            not called prompt, category, id, kind and group. As a kind, "harmless", "lookalike" and
            "harmful" are no columns: they are the kind of all prompts that have none.

    Raises:
        UsageError: If nothing has that name, `columns` cannot be right, or `datasets` is needed
            and not installed.
        PromptError: If the rows cannot be loaded, or are no prompts.
    """
    chosen = parse_columns(columns, _FIELDS)
    kind = chosen.pop("kind") if chosen.get("kind") in KINDS else ""
    if name.partition(":")[0] in (EVERYDAY, *SUITES) and columns and not Path(name).is_file():
        raise UsageError(
            f"The columns and kinds of {name} are known.",
            f"Leave out {columns}, or name the file alone.",
        )
    loaded = _load(name, chosen)
    return replace(loaded, prompts=[p if p.kind else replace(p, kind=kind) for p in loaded.prompts])


def check_prompts(source: Name) -> None:
    """Raise UsageError where `load_prompts` knows nothing of a name; nothing is loaded."""
    name, _ = split_columns(as_name("prompts", source))
    if name.startswith(_PROMPTS) and not Path(name).is_file():
        _check_split(name)
    else:
        _check_name(name)


def _check_name(name: str) -> None:
    head, _, file = name.partition(":")
    named = name in (EVERYDAY, *SUITES) or name.startswith(_HUB) or (head in SUITES and file)
    if named or Path(name).is_file():
        return
    if Path(name).suffix and not meant(head, SUITES):
        read_prompts(Path(name))  # which says why it cannot be read
    raise UsageError(
        f"There are no prompts {name!r}{meant(head, SUITES)}.",
        "Use a prompt file, a suite (see tsdi list suites), or hub:ORG/NAME.",
    )


def _load(name: str, chosen: Mapping[str, str]) -> Loaded:
    _check_name(name)
    path = Path(name)
    if path.is_file():
        return _load_file(path, chosen)
    head, _, file = name.partition(":")
    if name == EVERYDAY:
        shipped = Path(__file__).with_name("everyday.jsonl")
        return Loaded(read_prompts(shipped), _record({"name": name, "sha256": _sha256(shipped)}))
    if name.startswith(_HUB):
        origin = parse_hub(name.removeprefix(_HUB))
        prompts = to_prompts(_rename(load_rows(origin), chosen), origin.name)
        return Loaded(prompts, _record(origin.describe(), chosen))
    if name in SUITES:
        origin = SUITES[name].origin
        prompts = SUITES[name].read(load_rows(origin), origin.name)
        return Loaded(prompts, _record({"name": name, **origin.describe()}))
    prompts = SUITES[head].read(read_rows(Path(file)), file)
    return Loaded(prompts, _record({"name": head, "sha256": _sha256(Path(file))}))


def _load_file(path: Path, columns: Mapping[str, str]) -> Loaded:
    if not columns:
        return Loaded(read_prompts(path))
    prompts = to_prompts(_rename(read_rows(path), columns), str(path))
    return Loaded(prompts, _record({"sha256": _sha256(path)}, columns))


def _record(source: Mapping[str, Any], columns: Mapping[str, str] | None = None) -> dict[str, Any]:
    return {"suite": {**source, **({"columns": dict(columns)} if columns else {})}}


def _rename(rows: Iterable[Row], columns: Mapping[str, str]) -> Iterator[Row]:
    """Rows with columns renamed to those of prompt files."""
    for number, place, row in rows:
        yield number, place, _renamed(row, columns, place) if columns else row


def _renamed(row: Any, columns: Mapping[str, str], place: str) -> dict[str, Any]:
    check_columns(row, columns.values(), place, "Name another one.")
    chosen = {ours: row[theirs] for ours, theirs in columns.items()}
    if "prompt" in chosen:
        chosen["messages"] = None  # which would go first
    return {**row, **chosen}


def _sha256(path: Path) -> str:
    try:
        return file_sha256(path)
    except OSError as error:
        raise PromptError(f"Cannot read {path}: {error.strerror}.") from None
