"""The answers of a run folder, as judges see them."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tsdi.errors import FormatError, UsageError
from tsdi.files import file_sha256
from tsdi.judging.base import CUT_OFF, ENDLESS, FINISHES, KINDS, WITHHELD, Response, why_missing
from tsdi.judging.verdict import unscored
from tsdi.models.reasoning import MARKS, goes_on_with_thought
from tsdi.runs.records import Record, read_records
from tsdi.runs.stage import ANSWERS
from tsdi.suites.prompts import Prompt, check_kind, check_unicode, missing_kind

if TYPE_CHECKING:  # keeps torch out of judging
    from tsdi.engines.base import Completion


def read_responses(folder: Path, kind: str = "", end_of_thinking: str = "") -> list[Response]:
    """Read responses.jsonl of a run folder.

    A folder without run.json, from elsewhere, will do. `kind` is that of prompts that have none;
    where nobody says how thoughts end, run.json does.

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
            "A run is made by tsdi evaluate MODEL --prompts FILE --out RUN.",
        )
    end = end_of_thinking or said_of_run(folder, "end_of_thinking")  # by its bias's anchor
    responses = [_response(record, kind, path, end) for record in read_records(path)]
    wanted = _prompt_count(folder)
    if not wanted and len(responses) < sum(1 for line in path.read_bytes().split(b"\n") if line):
        raise FormatError(
            f"{path}: the last line is not valid JSON, and no run.json says what it was.",
            "Mend the line, or remove it.",
        )
    if len(responses) > wanted > 0:
        raise FormatError(
            f"{folder} holds {len(responses)} answers to {wanted} prompts.",
            "Restore its files, or make the answers again.",
        )
    if not responses or len(responses) < wanted:
        raise UsageError(
            f"{folder} holds {len(responses)} answers{f' of {wanted}' if wanted else ''}.",
            "Let the run that makes them go on with --resume first.",
        )
    if end or not _begin_in_thought(responses):
        return responses
    return [replace(response, end_of_thinking=MARKS[0][1]) for response in responses]


def _begin_in_thought(responses: Sequence[Response]) -> bool:
    """Whether the prompts begin the model's thoughts, guessed from most of its answers.

    A server does not say so, and where an answer was cut off within its thought, nothing else does.
    """
    whole = [response.text for response in responses if response.finished]
    return 2 * sum(map(goes_on_with_thought, whole)) > len(whole)


def to_response(prompt: Prompt, completion: "Completion", end_of_thinking: str = "") -> Response:
    """A model's answer to a prompt, as judges see it."""
    return Response(
        id=prompt.id,
        kind=prompt.kind,
        category=prompt.category,
        messages=tuple(prompt.messages),
        text=completion.text,
        finished=completion.finish == "stop",
        missing=why_missing(completion.finish, completion.reason),
        in_thought=completion.in_thought,
        bias_began=completion.bias_began,
        end_of_thinking=end_of_thinking,
    )


def answer_notes(responses: Sequence[Response], end_of_thinking: str) -> list[str]:
    """Sentences on answers cut off, withheld or not debiased, for readers of the figures."""
    notes = []
    if any(response.cut_off for response in responses):
        kinds = (_cut_off([r for r in responses if r.kind == kind], kind) for kind in KINDS)
        notes.append(
            f"The length limit cut off {_cut_off(responses, 'answers')}"
            f" ({', '.join(filter(None, kinds))}). Raise --max-new-tokens if they need more."
        )
    thoughts = sum(
        response.answer() in (unscored(CUT_OFF), unscored(ENDLESS)) for response in responses
    )
    if thoughts:
        notes.append(
            f"{thoughts} of {len(responses)} answers are thoughts without an end: no verdict."
        )
    withheld = sum(response.missing.startswith(WITHHELD) for response in responses)
    if withheld:
        notes.append(
            f"The server's content filter withheld {withheld} of {len(responses)} answers: no"
            " verdict, and no refusal of the model."
        )
    plain = sum(not response.bias_began for response in responses)
    if plain:
        notes.append(never_began(plain, len(responses)))
    fitted = sum(response.fitted for response in responses)
    if fitted:
        notes.append(seen_in_fit(fitted, len(responses)))
    if end_of_thinking and not any(end_of_thinking in response.text for response in responses):
        notes.append(f"No answer holds the end of thinking {end_of_thinking!r}: is it spelled so?")
    return notes


def seen_in_fit(fitted: int, prompts: int) -> str:
    """The sentence on prompts that a bias's condition or slope was fitted to."""
    return (
        f"{fitted} of {prompts} prompts are among those that the bias was fitted to: it looks"
        " better there than it is."
    )


def never_began(plain: int, answers: int) -> str:
    """The sentence on answers in which a bias behind a marker was subtracted nowhere."""
    return (
        f"{plain} of {answers} answers never came to the marker behind which the bias begins: they"
        " are the plain model's."
    )


def _cut_off(responses: Sequence[Response], what: str) -> str:
    """The number of responses cut off, in words; "" if there are no responses."""
    cut = sum(response.cut_off for response in responses)
    return f"{cut} of {len(responses)} {what}" if responses else ""


def _prompt_count(folder: Path) -> int:
    """The number of prompts by run.json; 0 where it has none."""
    prompts = read_run(folder).get("prompts")
    if not isinstance(prompts, dict) or "count" not in prompts:
        return 0
    count = prompts["count"]
    if type(count) is not int:  # another tool's run.json
        return 0
    if count < 1:
        raise _unreadable(str(folder / ANSWERS.description), "`prompts.count` is no number of them")
    return count


def said_of_run(folder: Path, key: str) -> str:
    """A text in the provenance of a run's answers, by its key; "" if there is none."""
    provenance = read_run(folder).get("provenance")
    said = provenance.get(key) if isinstance(provenance, dict) else None
    return said if isinstance(said, str) else ""


def check_is_there(folder: Path) -> None:
    """Raise UsageError unless the folder is there."""
    if not folder.is_dir():
        raise UsageError(f"There is no run folder {folder}.", "Name one that tsdi evaluate made.")


def read_run(folder: Path) -> Record:
    """The description of a run, run.json; an empty object if that is missing."""
    present = (folder / ANSWERS.description).exists()
    return ANSWERS.read_description(folder) if present else {}


def answers_sha256(folder: Path) -> str:
    """SHA-256 of responses.jsonl as it is on disk."""
    return file_sha256(folder / ANSWERS.records)


def _response(record: Record, kind: str, path: Path, end_of_thinking: str) -> Response:
    source = f"{path}, answer {record['id']!r}"
    if wrong := next(_wrong(record), ""):
        raise _unreadable(source, wrong)
    messages, category, own = record["messages"], record.get("category", ""), record.get("kind", "")
    for text in (record["id"], category, *(message["content"] for message in messages)):
        check_unicode(text, source)
    if not (own or kind):
        raise missing_kind(str(path), record["id"], "answer FILE:")
    return Response(
        id=record["id"],
        kind=check_kind(own, source) or kind,
        category=category,
        messages=tuple(messages),
        text=record["response"],
        finished=record.get("finish", "stop") == "stop",
        missing=why_missing(str(record.get("finish")), str(record.get("reason", ""))),
        in_thought=record.get("in_thought", False),
        bias_began=record.get("bias_began", True),
        fitted=record.get("fitted", False),
        end_of_thinking=end_of_thinking,
    )


def _wrong(record: Record) -> Iterator[str]:
    """The faults of a record's fields."""
    messages = record.get("messages")
    if not isinstance(record.get("response"), str):
        yield "`response` is not a text"
    if not isinstance(messages, list) or not messages or not all(map(_is_message, messages)):
        yield "`messages` is not a chat"
    elif messages[-1]["role"] != "user":
        yield "the last of its `messages` is not the user's"
    if not all(isinstance(record.get(key, ""), str) for key in ("category", "kind")):
        yield "`category` or `kind` is not a text"
    if record.get("finish", "stop") not in FINISHES:
        yield f"`finish` is none of {', '.join(FINISHES)}"
    for key in ("in_thought", "bias_began", "fitted"):
        if not isinstance(record.get(key, True), bool):
            yield f"`{key}` is neither true nor false"


def _is_message(message: Any) -> bool:
    return isinstance(message, dict) and all(
        isinstance(message.get(key), str) for key in ("role", "content")
    )


def _unreadable(source: str, problem: str) -> FormatError:
    return FormatError(f"{source}: {problem}.", "Restore the file, or make the answers again.")
