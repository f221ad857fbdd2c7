"""The file results.json of a study: verdicts, speed, memory and biases, no statistics.

`tsdi.study.collect` writes it. Statistics, tables, figures and the report are made from this file
(`tsdi.study.summarise`), on any machine, without models.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, TypeAdapter, ValidationError

from tsdi.errors import FormatError
from tsdi.files import parse_json
from tsdi.judging.registry import JUDGES
from tsdi.study.checks import first_problem
from tsdi.study.entries import (
    AnsweredCell,
    AnyBias,
    Design,
    Example,
    Judge,
    Machine,
    ModelEntry,
    PromptEntry,
    RuleDescription,
    Speed,
    Split,
    ValidatedCell,
)
from tsdi.suites.table import SUITES

RESULTS = "results.json"
FORMAT = "tsdi study results"
VERSION = 2  # of the format; in 1 `rule` was a rule, and in cells its name in the study
_BEGUN = ("cells", "smoke-models", "models/*/grid.json")  # what else a study's folder holds


@dataclass(frozen=True)
class StudyResults:
    """The content of results.json.

    Attributes:
        command: Command line of the run.
        versions: Versions of Python and packages.
        machine: The machine on which it was run.
        study: The statistical design in the study's file.
        judge: The judge of harmful prompts.
        main: Name of the grid point at which categories and answers are shown.
        rules: Rules that are compared.
        prompts: Prompts by split.
        members: The aligned models, every grid point of every training seed.
        cells: Outcomes of every cell.
        examples: Some answers of every rule.
        speed: Speed of decoding.
        biases: Shifts by the bias of every aligned model.
    """

    command: str
    versions: Mapping[str, str]
    machine: Machine
    study: Design
    judge: Judge
    main: str
    rules: tuple[RuleDescription, ...]
    prompts: Mapping[Split, tuple[PromptEntry, ...]]
    members: tuple[ModelEntry, ...]
    cells: tuple[Annotated[ValidatedCell | AnsweredCell, Field(discriminator="split")], ...]
    examples: tuple[Example, ...]
    speed: Speed
    biases: tuple[AnyBias, ...]

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], source: str = "The file") -> "StudyResults":
        """Parse and check results from JSON, of this or the first format version.

        `source` is what errors call it.

        Raises:
            FormatError: If a part is missing, or is not what it should be; it names the part.
        """
        try:
            found = _READER.validate_json(json.dumps(_of_today(data)), strict=True)  # true is no 1
            problem = first_problem(found)
        except _MissingError as error:
            problem = f"{error}: Field required"
        except ValidationError as error:
            first = error.errors()[0]
            problem = f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
        if problem:
            raise FormatError(f"{source} is damaged ({problem}).", "Run the study again.")
        return found


_READER = TypeAdapter(StudyResults)


class _MissingError(Exception):
    """A part that the file lacks, by its place."""


def is_study(folder: Path) -> bool:
    """Whether a folder holds a study, finished or not."""
    return any(any(folder.glob(name)) for name in (RESULTS, *_BEGUN))


def read_results(path: Path) -> StudyResults:
    """Read results.json, given as a file or by a study's folder.

    Raises:
        FormatError: If it is none, or is damaged.
    """
    file = path / RESULTS if path.is_dir() else path
    try:
        found = parse_json(file.read_bytes())
    except (OSError, ValueError) as error:
        raise FormatError(
            f"Cannot read {file}: {getattr(error, 'strerror', None) or error}.",
            "Give a study's folder, or its results.json.",
        ) from None
    if not isinstance(found, dict) or found.get("format") != FORMAT:
        raise FormatError(f"{file} was not written by tsdi study.", "Give its results.json.")
    if not _is_known(found.get("format_version")):
        raise FormatError(f"{file} is of another version of tsdi.", "Run tsdi study again.")
    return StudyResults.from_dict(found, str(file))


def _is_known(version: Any) -> bool:
    return type(version) is int and version in (1, VERSION)


def _part(data: Any, *place: str | int) -> Any:
    """The value at a place (keys and indices) of the file."""
    for depth, key in enumerate(place, start=1):
        try:
            data = data[key]
        except (LookupError, TypeError):
            raise _MissingError(".".join(map(str, place[:depth]))) from None
    return data


def _of_today(data: Mapping[str, Any]) -> dict[str, Any]:
    """The content of a file of any version as the fields of `StudyResults`."""
    sources = range(len(_listed(data, "study", "prompts", "test")))
    study = {
        **_part(data, "study"),
        "judge": _part(data, "study", "judge", "name"),
        "sources": [
            _source(str(_part(data, "study", "prompts", "test", number, "load")))
            for number in sources
        ],
    }
    found = {**data, "study": study, "judge": judge_of(data)}
    if data.get("format_version") != 1:
        return found
    return {
        **found,
        "cells": [_renamed(cell) for cell in _listed(data, "cells")],
        "members": [
            {"annotators": None, **member} if isinstance(member, dict) else member
            for member in _listed(data, "members")
        ],
    }


def _listed(data: Mapping[str, Any], *place: str) -> list[Any]:
    found = _part(data, *place)
    if not isinstance(found, list):
        raise _MissingError(".".join(place))
    return found


def _renamed(cell: Any) -> Any:
    """A cell of the first format version with today's field names."""
    if not isinstance(cell, dict) or "rule" not in cell:
        return cell
    return {"name": cell["rule"], **{key: cell[key] for key in cell if key != "rule"}}


def _source(load: str) -> str:
    """A source's short name: the suite's or the file's."""
    head, colon, _ = load.partition(":")
    return head if colon and head in (*SUITES, "organism") else Path(load).stem


def judge_of(data: Mapping[str, Any]) -> Any:
    """The judge of harmful prompts as JSON; an older file has its name only."""
    if data.get("judge") is not None:
        return data["judge"]
    name = str(_part(data, "study", "judge", "name")).partition("+")[0].partition("=")[0]
    sees = JUDGES[name].sees if name in JUDGES else "safety"
    return {"name": name, "sees_safety": sees != "refusals"}
