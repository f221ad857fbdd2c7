"""Files of answers that people have labelled, for audits."""

import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import inf
from pathlib import Path
from typing import Any

from tsdi.errors import MismatchError, PromptError, UsageError
from tsdi.judging.base import Response
from tsdi.judging.verdict import OF_SAFETY, Verdict
from tsdi.suites.prompts import check_kind, check_unicode, missing_kind, read_rows

FIELDS = ("prompt", "answer", "label", "category", "kind", "model", "id", "weight")
"""What a row of labels can say; the first three are needed."""

_XSTEST = {"prompt": "prompt", "answer": "completion", "label": "final_label", "category": "type"}
_MD_JUDGE = {"prompt": "question", "answer": "answer", "label": "label"}
_LABELS = {verdict.value.lower(): verdict for verdict in Verdict if verdict != Verdict.UNSCORED} | {
    "1_full_compliance": Verdict.COMPLIED,
    "2_full_refusal": Verdict.REFUSED,
    "3_partial_refusal": Verdict.PARTIAL,
}
_UNSAFE_FLAGS = {"0": Verdict.SAFE, "1": Verdict.UNSAFE}  # MD-Judge's; elsewhere 1 may mean safe
_LOG = logging.getLogger(__name__)
_COMPLETIONS = re.compile(r"completions_([^_.]+)")


@dataclass(frozen=True)
class Labelled:
    """An answer with people's label.

    Attributes:
        response: Prompt and answer. Answers of several models to one prompt share its text, and
            are no independent draws: `response.prompt` is the cluster.
        model: The model that answered.
        verdict: The people's label, never UNSCORED.
        recorded: The other cells of the row by column, such as another judge's verdict.
        weight: How many answers it stands for, up to a factor, where they were not drawn alike.
        stated: The fields that the row itself says; others are made up, as ids by line are.
    """

    response: Response
    model: str
    verdict: Verdict
    recorded: Mapping[str, str]
    weight: float = 1.0
    stated: frozenset[str] = frozenset()


@dataclass(frozen=True)
class LabelFormat:
    """Columns and defaults for reading files of labels.

    Attributes:
        columns: Column of the files by field, of fields whose column is not called like them.
        kind: The kind of prompts that have none.
        end_of_thinking: Marker that ends thoughts, beside the known ones (`tsdi.models.reasoning`).
        target: "refusal" or "unsafe": which labels are meant, where those of some kinds of prompts
            say what is refused, and those of others what is safe.
    """

    columns: Mapping[str, str] = field(default_factory=dict)
    kind: str = ""
    end_of_thinking: str = ""
    target: str = ""


def read_labels(paths: Sequence[str | Path], form: LabelFormat = LabelFormat()) -> list[Labelled]:
    """Read labelled answers from .csv, .jsonl or .json files, each also with .gz.

    Unless columns are named, a file in the format of XSTest's completions (final_label, completion,
    type, prompt) or of MD-Judge's examples (question, answer, and label, 1 being unsafe) is known
    by its columns; any other one has columns called as in `FIELDS`. A file without a column for the
    model holds one model's answers, and its name says whose.

    Raises:
        UsageError: If a field or the target is unknown, or a file named twice.
        PromptError: If a file cannot be read, holds no labels, lacks a column, or has a label, a
            kind or a text that cannot be one.
    """
    check_kind(form.kind)
    if not paths:
        raise UsageError("There are no labels.", "Name them: --labels FILE")
    if unknown := [field for field in form.columns if field not in FIELDS]:
        raise UsageError(f"There is no field {unknown[0]!r}.", f"Fields: {', '.join(FIELDS)}.")
    if len({Path(path).resolve() for path in paths}) < len(paths):
        raise UsageError("A file of labels is named twice.", "Name each once.")
    if form.target not in ("", "refusal", "unsafe"):
        raise UsageError(f"There is no target {form.target!r}.", "Say refusal or unsafe.")
    found = [one for path in paths for one in _read_file(Path(path), form)]
    safety = safety_kinds(found)
    chosen = [one for one in found if (one.response.kind in safety) is (form.target == "unsafe")]
    if form.target and not chosen:
        raise PromptError(f"No label is about the target {form.target!r}.", "Leave it out.")
    if form.target and (left := len(found) - len(chosen)):
        says = "1 label says" if left == 1 else f"{left} labels say"
        what = "refused" if form.target == "unsafe" else "safe"
        _LOG.info("%s what is %s and %s left out.", says, what, "was" if left == 1 else "were")
    return chosen if form.target else found


def check_agree(labelled: Sequence[Labelled]) -> None:
    """Raise MismatchError if one answer has two labels that differ."""
    seen: dict[tuple[str, str, str, str], Labelled] = {}
    for one in labelled:
        answer = one.response
        name = answer.id if "id" in one.stated else ""
        other = seen.setdefault((one.model, name, answer.prompt, answer.text), one)
        if other.verdict is not one.verdict:
            raise two_labels(answer.id, other, one)


def two_labels(name: str, first: Labelled, second: Labelled) -> MismatchError:
    """The error of an answer whose labels differ."""
    return MismatchError(
        f"Two labels of {name!r} differ: {first.verdict.lower()} and {second.verdict.lower()}.",
        "Keep one, or let somebody decide: tsdi label RUN --decide A --decide B",
    )


def safety_kinds(labelled: Sequence[Labelled]) -> set[str]:
    """The kinds of prompts whose labels say what is safe; a refusal is safe among them."""
    return {one.response.kind for one in labelled if one.verdict in OF_SAFETY}


def parse_label(text: str) -> Verdict | None:
    """The verdict of a label, by tsdi's names or XSTest's; None if it is no label."""
    return _LABELS.get(text.strip().lower())


def _read_file(path: Path, form: LabelFormat) -> list[Labelled]:
    found = [
        _labelled(row, f"p{number:04d}", source, path, form)
        for number, source, row in read_rows(path)
    ]
    if not found:
        raise PromptError(f"{path} holds no labels.", "Write one labelled answer a line.")
    return found


def _labelled(row: Any, name: str, source: str, path: Path, form: LabelFormat) -> Labelled:
    if not isinstance(row, dict):
        raise PromptError(f"{source}: not an object.", "Write an object with prompt and answer.")
    used = _columns(row, form.columns)
    missing = [used[field] for field in FIELDS[:3] if used[field] not in row]
    if missing:
        raise PromptError(
            f"{source}: no column {missing[0]!r}; there are {', '.join(map(repr, row))}.",
            "Name columns: FILE:prompt=...,answer=...,label=...",
        )
    cells = {field: _text(row, column, source) for field, column in used.items() if column in row}
    if not cells["prompt"].strip():
        raise PromptError(f"{source}: the prompt is empty.", "Remove the row, or write it.")
    labels = _LABELS | (_UNSAFE_FLAGS if used == _own_names(_MD_JUDGE) else {})
    verdict = labels.get(cells["label"].strip().lower())
    if verdict is None:
        raise PromptError(
            f"{source}: unknown label {cells['label'][:40]!r} in column {used['label']!r}.",
            f"Use {', '.join(labels)}.",
        )
    response = Response(
        id=cells.get("id") or name,
        kind=_kind(cells, used, verdict, form.kind, source),
        category=cells.get("category", ""),
        messages=({"role": "user", "content": cells["prompt"]},),
        text=cells["answer"],
        finished=True,
        end_of_thinking=form.end_of_thinking,
    )
    taken = {used[field] for field in cells}
    others = {str(column): _text(row, column, source) for column in row if column not in taken}
    weight = _weight(cells.get("weight", "1"), source)
    model = cells.get("model") or _model(path)
    stated = frozenset(field for field, cell in cells.items() if cell)
    return Labelled(response, model, verdict, others, weight, stated)


def _columns(row: Mapping[str, Any], columns: Mapping[str, str]) -> dict[str, str]:
    """Column by field: as named, as in a known format, or called like the field."""
    if columns:
        return _own_names(columns)
    known = (form for form in (_XSTEST, _MD_JUDGE) if row.keys() >= {*form.values()})
    return _own_names(next(known, {}))


def _own_names(columns: Mapping[str, str]) -> dict[str, str]:
    return {field: columns.get(field, field) for field in FIELDS}


def _kind(
    cells: Mapping[str, str], used: Mapping[str, str], verdict: Verdict, kind: str, source: str
) -> str:
    """The row's kind; XSTest's follows from the type, and safety labels are on harmful prompts."""
    if own := check_kind(cells.get("kind", ""), source):
        return own
    if used == _own_names(_XSTEST):
        return "harmful" if cells["category"].startswith("contrast_") else "lookalike"
    if kind or verdict in OF_SAFETY:
        return kind or "harmful"
    raise missing_kind(source, cells.get("id", ""), "name the labels as FILE:")


def _model(path: Path) -> str:
    """The model whose answers a file holds, by the file's name."""
    match = _COMPLETIONS.search(path.name)
    return match[1] if match else path.name.partition(".")[0]


def _weight(text: str, source: str) -> float:
    try:
        weight = float(text)
    except ValueError:
        weight = 0.0
    if not 0 < weight < inf:
        raise PromptError(
            f"{source}: {text[:40]!r} is no weight.", "Write how many answers the label stands for."
        )
    return weight


def _text(row: Mapping[str, Any], column: str, source: str) -> str:
    """A cell as text; a missing one is empty."""
    value = row[column]
    if not isinstance(value, str | int | float | None):
        raise PromptError(f"{source}: `{column}` is neither a text nor a number.")
    text = "" if value is None else str(value)
    check_unicode(text, source)
    return text
