"""Suites: descriptions of public prompt sets, and how their rows become prompts."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from tsdi.errors import PromptError
from tsdi.suites.prompts import Prompt, Row, list_columns, to_prompts


@dataclass(frozen=True)
class Origin:
    """Rows on the hub, or in a file at an address, at one commit.

    Attributes:
        name: Hub id "org/name", or the repository of the file, such as "github.com/org/name".
        revision: The commit.
        split: Split of a hub data set.
        config: Configuration of a hub data set; None is its default.
        url: Address of the file (.csv or .json) that is read instead of a hub data set.
    """

    name: str
    revision: str
    split: str = "train"
    config: str | None = None
    url: str = ""

    def describe(self) -> dict[str, Any]:
        """The origin as JSON for the provenance of answers."""
        file = {"file": self.url} if self.url else {"config": self.config, "split": self.split}
        return {"data": self.name, "revision": self.revision, **file}


@dataclass(frozen=True)
class Columns:
    """Columns of a suite's original format by their role; "" where it has none.

    Without an id, prompts are named by suite and number of the row; the kind is in the suite's own
    words.
    """

    prompt: str
    category: str = ""
    id: str = ""
    kind: str = ""


@dataclass(frozen=True)
class Suite:
    """A description of a public prompt set; its rows are elsewhere.

    Attributes:
        name: Name in commands.
        title: Title of the set.
        kinds: Kind of prompts (`tsdi.judging.base.KINDS`) by the word in the kind column; ""
            stands for every row of a suite without that column.
        columns: Columns of the original format.
        licence: Licence of the prompts, as their project states it.
        project: Address of the project.
        origin: Hub data set or file of the rows.
        names: Categories by what the data call them, such as by a number, where that is not what
            they are called here, which sets with the same categories share.
        tasks: The SALAD task ("O1" to "O16") of each category that lies within one.
        unmatched: Why each other category has none.
        where: A column and its value in the rows that are used; None uses all.
        distinct: Whether repeated prompts are left out.
        note: A remark for users.
    """

    name: str
    title: str
    kinds: Mapping[str, str]
    columns: Columns
    licence: str
    project: str
    origin: Origin
    names: Mapping[str, str] = field(default_factory=dict)
    tasks: Mapping[str, str] = field(default_factory=dict)
    unmatched: Mapping[str, str] = field(default_factory=dict)
    where: tuple[str, str] | None = None
    distinct: bool = False
    note: str = ""

    @property
    def categories(self) -> tuple[str, ...]:
        """The declared categories; rows of its files may have others, which are kept."""
        return (*self.tasks, *self.unmatched)

    def read(self, rows: Iterable[Row], source: str) -> list[Prompt]:
        """Prompts of rows in the original format, without white space around them.

        Raises:
            PromptError: If a column is missing, a row says no kind that the suite has, or rows are
                no prompts (`tsdi.suites.prompts.to_prompts`).
        """
        return to_prompts(self._fields(rows), source)

    def _fields(self, rows: Iterable[Row]) -> Iterator[Row]:
        seen = set()
        for number, (_, place, row) in enumerate(rows, start=1):
            self._check_columns(row, place)
            text = _only(row[self.columns.prompt])
            text = text.strip() if isinstance(text, str) else text
            wanted = self.where is None or row[self.where[0]] == self.where[1]
            if wanted and not (self.distinct and repr(text) in seen):
                seen.add(repr(text))
                yield number, place, self._prompt(row, number, place, text)

    def _prompt(self, row: dict[str, Any], number: int, place: str, text: Any) -> dict[str, Any]:
        columns = self.columns
        kind = row[columns.kind] if columns.kind else ""
        if not isinstance(kind, str) or kind not in self.kinds:
            raise PromptError(
                f"{place}: unknown {columns.kind} {kind!r}.",
                f"{self.title} has {', '.join(self.kinds)}.",
            )
        category = row[columns.category] if columns.category else ""
        return {
            "id": row[columns.id] if columns.id else f"{self.name}-{number:04d}",
            "prompt": text,
            "category": self.names.get(str(category), category),
            "kind": self.kinds[kind],
        }

    def _check_columns(self, row: Any, place: str) -> None:
        columns = self.columns
        where = self.where[0] if self.where else ""
        check_columns(
            row,
            [columns.prompt, columns.category, columns.id, columns.kind, where],
            place,
            f"The suite {self.name} needs its original format; for another one name the columns of"
            " the file: --prompts FILE:prompt=NAME,category=NAME.",
        )

    def describe(self) -> dict[str, Any]:
        """The suite's origin, kinds, licence and categories as JSON."""
        return {
            "name": self.name,
            "title": self.title,
            "kinds": list(self.kinds.values()),
            "licence": self.licence,
            "project": self.project,
            **self.origin.describe(),
            "rows": "=".join(self.where) if self.where else "all",
            "distinct": self.distinct,
            "categories": {name: self.tasks.get(name) for name in self.categories},
            "unmatched": dict(self.unmatched),
            "note": self.note,
        }


def _only(value: Any) -> Any:
    """The only element of a list, of sets that keep prompts as lists of one turn."""
    return value[0] if isinstance(value, list) and len(value) == 1 else value


def check_columns(row: Any, columns: Iterable[str], place: str, remedy: str) -> None:
    """Raise PromptError unless a row has all columns of these names; "" names none."""
    if not isinstance(row, dict):
        raise PromptError(f"{place}: not a row with columns.", remedy)
    missing = [column for column in columns if column and column not in row]
    if missing:
        raise PromptError(
            f"{place}: no column {missing[0]!r}; there are {list_columns(row)}.", remedy
        )
