"""Prompts to answers on disk, one chunk of prompts after the other, resumable after a kill.

A run folder holds `run.json`, which says what made the answers, and `responses.jsonl`, one record
an answer.
"""

import hashlib
import json
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

from tsdi.engines.base import Completion, Engine, Request, Sampling
from tsdi.errors import PromptError, UsageError
from tsdi.files import working_in
from tsdi.runs.records import Record
from tsdi.runs.stage import ANSWERS, Progress
from tsdi.suites.prompts import Prompt


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
        One record per prompt, in their order: id, category, kind, messages, response, tokens (how
        many) and finish (`tsdi.engines.base.Completion`); in_thought and reason where they say
        something.

    Raises:
        PromptError: If there is no prompt, an id twice, or a prompt that does not fit the context;
            nothing has been generated then.
        RunExistsError: If the folder holds answers already, and either `resume` is off or they were
            made with something else; or if another process works there.
        FormatError: If the folder's files are damaged.
        TsdiError: If the disk is full.
    """
    if batch_size < 1:
        raise UsageError(f"The batch size is {batch_size}.", "Take 1 or more.")
    out = Path(out)
    _check_prompts(engine, prompts, sampling)
    run = _describe(prompts, sampling, batch_size, provenance)

    def answer(chunk: Sequence[Prompt]) -> list[Record]:
        completions = engine.generate([Request(prompt.messages) for prompt in chunk], sampling)
        return [_record(p, c) for p, c in zip(chunk, completions, strict=True)]

    with working_in(out):
        done = {record["id"]: record for record in ANSWERS.open(out, run, resume)}
        return ANSWERS.fill(out, done, prompts, batch_size, answer, progress)


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
    # A kind counts only where there is one: runs of prompts without go on as they were described.
    content = [[p.id, p.category, p.messages, *([p.kind] if p.kind else [])] for p in prompts]
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


def _record(prompt: Prompt, completion: Completion) -> Record:
    return {
        "id": prompt.id,
        "category": prompt.category,
        "kind": prompt.kind,
        "messages": list(prompt.messages),
        "response": completion.text,
        "tokens": len(completion.token_ids) or None,  # a server gives texts only
        "finish": completion.finish,
        **({"in_thought": True} if completion.in_thought else {}),
        **({} if completion.bias_began else {"bias_began": False}),
        **({"reason": completion.reason} if completion.reason else {}),
    }
