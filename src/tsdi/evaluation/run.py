"""Prompts to answers on disk, one chunk of prompts after the other, resumable after a kill.

A run folder holds `run.json`, which says what made the answers, and `responses.jsonl`, one record
an answer. Chunks are fixed by the order of the prompts; a resumed run generates an unfinished chunk
again, whole, so that its answers are those of an unbroken run.
"""

import hashlib
import json
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tsdi.engines.base import Completion, Engine, Request, Sampling
from tsdi.errors import FormatError, PromptError, RunExistsError, UsageError
from tsdi.evaluation.prompts import Prompt
from tsdi.evaluation.records import Record, append_records, read_records
from tsdi.files import parse_json, write_json

Progress = Callable[[int, int], None]  # answers there are, prompts in all

ANSWERS = "responses.jsonl"


def generate_responses(
    engine: Engine,
    prompts: Sequence[Prompt],
    out: str | Path,
    sampling: Sampling,
    batch_size: int,
    resume: bool,
    provenance: Record,
    progress: Progress | None = None,
) -> list[Record]:
    """Answer every prompt and keep each answer on disk as it comes.

    Args:
        engine: What answers.
        prompts: The prompts; ids must be unique.
        out: The run folder, made if need be.
        sampling: How tokens are chosen; its seed is the seed of the run.
        batch_size: Prompts in a chunk, answered together.
        resume: Go on with the run in the folder, or start one if there is none.
        provenance: What else decides the answers, such as model, revision and bias; valid JSON.
        progress: Called after each chunk with the number of answers and of prompts.

    Returns:
        One record per prompt, in their order: id, category, messages, response, tokens (how many)
        and finish ("stop" or "length").

    Raises:
        PromptError: If there is no prompt, an id twice, or a prompt that does not fit the context;
            nothing has been generated then.
        RunExistsError: If the folder holds answers already, and either `resume` is off or they were
            made with something else.
        FormatError: If the folder's files are damaged.
        TsdiError: If the disk is full.
    """
    if batch_size < 1:
        raise UsageError(f"The batch size is {batch_size}.", "Take 1 or more.")
    out = Path(out)
    _check_prompts(engine, prompts, sampling)
    run = _describe(prompts, sampling, batch_size, provenance)
    done = {record["id"]: record for record in _open_run(out, run, resume)}
    for start in range(0, len(prompts), batch_size):
        chunk = prompts[start : start + batch_size]
        if any(prompt.id not in done for prompt in chunk):
            completions = engine.generate([Request(prompt.messages) for prompt in chunk], sampling)
            records = [_record(p, c) for p, c in zip(chunk, completions, strict=True)]
            missing = [record for record in records if record["id"] not in done]
            append_records(out / ANSWERS, missing)
            done |= {record["id"]: record for record in missing}
        if progress:
            progress(min(start + batch_size, len(prompts)), len(prompts))
    return [done[prompt.id] for prompt in prompts]


def check_unused(out: Path) -> None:
    """Raise RunExistsError if a folder holds answers already."""
    if (out / ANSWERS).exists():
        raise RunExistsError(f"{out} already holds answers.", "Use --resume or another --out.")


def _check_prompts(engine: Engine, prompts: Sequence[Prompt], sampling: Sampling) -> None:
    if not prompts:
        raise PromptError("There are no prompts.", "Give one at least.")
    if len({prompt.id for prompt in prompts}) < len(prompts):
        raise PromptError("Two prompts have the same id.", "Give each prompt its own id.")
    for prompt in prompts:
        try:
            engine.check(Request(prompt.messages), sampling)
        except PromptError as error:
            place = f"{prompt.source}, " if prompt.source else ""
            raise PromptError(
                f"{place}prompt {prompt.id!r}: {error.problem}", error.remedy
            ) from None


def _describe(
    prompts: Sequence[Prompt], sampling: Sampling, batch_size: int, provenance: Record
) -> Record:
    """Everything that decides the answers, as it reads back from JSON."""
    content = [[prompt.id, prompt.category, prompt.messages] for prompt in prompts]
    run = {
        "settings": {
            "batch_size": batch_size,
            "max_new_tokens": sampling.max_new_tokens,
            "temperature": sampling.temperature,
            "seed": sampling.seed,
        },
        "prompts": {
            "count": len(prompts),
            "sha256": hashlib.sha256(json.dumps(content).encode()).hexdigest(),
        },
        "versions": {name: version(name) for name in ("tsdi", "torch", "transformers")},
        "provenance": provenance,
    }
    described: Record = json.loads(json.dumps(run, allow_nan=False))
    return described


def _open_run(out: Path, run: Record, resume: bool) -> list[Record]:
    """The answers that the folder already holds; starts the run if there are none."""
    answers, description = out / ANSWERS, out / "run.json"
    if not answers.exists():
        try:
            out.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UsageError(
                f"Cannot make the folder {out}: {error.strerror}.", "Name another --out."
            ) from None
        write_json(description, run)
        return []
    if not resume:
        check_unused(out)
    recorded = _flatten(_read_description(description))
    wanted = _flatten(run)
    differing = sorted(
        f"{key} was {recorded.get(key)!r}, is {wanted.get(key)!r}"
        for key in recorded.keys() | wanted.keys()
        if recorded.get(key) != wanted.get(key)
    )
    if differing:
        raise RunExistsError(
            f"The answers in {out} were made with something else: {'; '.join(differing)}.",
            "Use the same again, or another --out.",
        )
    return read_records(answers)


def _read_description(path: Path) -> Record:
    try:
        run = parse_json(path.read_bytes())
    except (OSError, ValueError):
        run = None
    if not isinstance(run, dict):
        raise FormatError(
            f"{path} does not say what made the answers beside it.", "Use another --out."
        )
    return run


def _flatten(value: Record, prefix: str = "") -> dict[str, Any]:
    """Nested objects as one, with dotted keys."""
    flat: dict[str, Any] = {}
    for key, item in value.items():
        nested = isinstance(item, dict) and item
        flat |= _flatten(item, f"{prefix}{key}.") if nested else {prefix + key: item}
    return flat


def _record(prompt: Prompt, completion: Completion) -> Record:
    return {
        "id": prompt.id,
        "category": prompt.category,
        "messages": list(prompt.messages),
        "response": completion.text,
        "tokens": len(completion.token_ids),
        "finish": completion.finish,
    }
