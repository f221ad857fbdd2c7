"""The answers of a run folder, as judges see them."""

import hashlib
from pathlib import Path
from typing import Any

from tsdi.errors import FormatError, UsageError
from tsdi.evaluation.records import Record, read_records
from tsdi.evaluation.stage import ANSWERS
from tsdi.judging.base import Response
from tsdi.suites.prompts import check_kind, check_unicode, missing_kind


def read_responses(folder: Path, kind: str = "") -> list[Response]:
    """Read responses.jsonl of a run folder.

    Args:
        folder: The run folder; one without run.json, from elsewhere, will do.
        kind: The kind of prompts that have none.

    Raises:
        UsageError: If there are no answers, or fewer than the run has prompts.
        FormatError: If the file is damaged.
        PromptError: If a prompt has no kind, or an unknown one.
    """
    check_kind(kind)
    path = folder / ANSWERS.records
    if not path.exists():
        raise UsageError(
            f"{folder} holds no {ANSWERS.records}.",
            "Name a run folder, or a model with --prompts FILE and --out RUN.",
        )
    responses = [_response(record, kind, path) for record in read_records(path)]
    wanted = _prompt_count(folder)
    if not wanted and len(responses) < sum(1 for line in path.read_bytes().split(b"\n") if line):
        raise FormatError(
            f"{path}: the last line is not valid JSON, and no run.json says what it was.",
            "Mend the line, or remove it.",
        )
    if not responses or len(responses) < wanted:
        raise UsageError(
            f"{folder} holds {len(responses)} answers{f' of {wanted}' if wanted else ''}.",
            "Let the run that makes them go on with --resume first.",
        )
    return responses


def _prompt_count(folder: Path) -> int:
    """How many prompts the run has; 0 if nobody says."""
    prompts = read_run(folder).get("prompts")
    count = prompts.get("count") if isinstance(prompts, dict) else None
    return count if isinstance(count, int) else 0


def read_run(folder: Path) -> Record:
    """What made the answers of a folder; an empty object if run.json is missing."""
    present = (folder / ANSWERS.description).exists()
    return ANSWERS.read_description(folder) if present else {}


def answers_sha256(folder: Path) -> str:
    """SHA-256 of responses.jsonl as it is on disk."""
    return hashlib.sha256((folder / ANSWERS.records).read_bytes()).hexdigest()


def _response(record: Record, kind: str, path: Path) -> Response:
    name, messages = record["id"], record.get("messages")
    source = f"{path}, answer {name!r}"
    if not isinstance(record.get("response"), str):
        raise _unreadable(source, "`response` is not a text")
    if not isinstance(messages, list) or not messages or not all(map(_is_message, messages)):
        raise _unreadable(source, "`messages` is not a chat")
    category, own = record.get("category", ""), record.get("kind", "")
    if not isinstance(category, str) or not isinstance(own, str):
        raise _unreadable(source, "`category` or `kind` is not a text")
    for text in (name, category, *(message["content"] for message in messages)):
        check_unicode(text, source)
    if not (own or kind):
        raise missing_kind(str(path), name)
    return Response(
        id=name,
        kind=check_kind(own, source) or kind,
        category=category,
        messages=tuple(messages),
        text=record["response"],
        finished=record.get("finish", "stop") == "stop",
    )


def _is_message(message: Any) -> bool:
    return isinstance(message, dict) and all(
        isinstance(message.get(key), str) for key in ("role", "content")
    )


def _unreadable(source: str, problem: str) -> FormatError:
    return FormatError(f"{source}: {problem}.", "Restore the file, or make the answers again.")
