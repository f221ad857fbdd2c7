"""Pairs of the data's answer and the model's own sample: a stand-in for helpfulness labels."""

import random
from collections.abc import Callable, Sequence
from pathlib import Path

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from tsdi.engines.base import Request, Sampling
from tsdi.engines.transformers import TransformersEngine
from tsdi.errors import PromptError
from tsdi.files import to_lines, write_bytes
from tsdi.models.chat import encode_chat
from tsdi.models.compatibility import context_length
from tsdi.runs.records import Record, append_records, read_records, write_records
from tsdi.runs.stage import StageProgress, counting
from tsdi.suites.prompts import read_rows
from tsdi.training.data import Example, Pair, to_pairs
from tsdi.training.processes import one_job_at_a_time, processes
from tsdi.training.recipe import OwnSamples

_BATCH = 64


def own_samples(
    examples: Sequence[Example],
    settings: OwnSamples,
    seed: int,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    file: Path,
    progress: StageProgress | None = None,
) -> list[Pair]:
    """Pairs whose chosen answer is the data's and whose rejected one the model samples.

    This is a substitute for preferences, as in self-play fine-tuning (Chen et al., 2024): nobody
    has compared the two answers. Examples are drawn of those that leave room for a sample in the
    context. Pairs that the file holds already are used, and what a killed run had sampled.

    Raises:
        PromptError: If every sample is empty or the data's own answer.
    """
    with one_job_at_a_time(file):
        if not file.exists() and processes().is_main_process:
            fitting = _fitting(examples, settings, model, tokenizer)
            drawn = random.Random(seed).sample(fitting, min(settings.prompts, len(fitting)))
            count = counting(progress, f"{file.name.partition('.')[0]}, samples", len(drawn))
            part = file.with_suffix(".part")
            rows = _sample(drawn, settings, seed, model, tokenizer, part, count)
            keys = ("prompt", "chosen", "rejected")
            write_bytes(file, to_lines({key: row[key] for key in keys} for row in rows))
            part.unlink()
        processes().wait_for_everyone()
    pairs = to_pairs(read_rows(file), "helpful", drop_unusable=True)
    if not pairs:
        raise PromptError(
            "Every answer that the model samples is empty or the data's own.",
            "Train the stage before it for longer.",
        )
    return pairs


def _fitting(
    examples: Sequence[Example],
    settings: OwnSamples,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
) -> list[Example]:
    """The examples whose prompt leaves room for a sample in the model's context."""
    limit = context_length(model)
    if limit is None:
        return list(examples)
    room = limit - settings.max_new_tokens
    chats = (Request.from_text(example.prompt).messages for example in examples)
    lengths = [len(encode_chat(tokenizer, chat)) for chat in chats]
    return [e for e, length in zip(examples, lengths, strict=True) if length <= room]


def _sample(
    examples: Sequence[Example],
    settings: OwnSamples,
    seed: int,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    part: Path,
    count: Callable[[int], None],
) -> list[Record]:
    """Pairs of all examples; each batch is kept as it comes, and has a seed of its own."""
    rows = read_records(part) if part.exists() else []
    del rows[len(rows) // _BATCH * _BATCH :]  # a batch that was cut short is sampled anew
    write_records(part, rows)
    count(len(rows))
    model.eval()
    engine = TransformersEngine(model, tokenizer)
    for first in range(len(rows), len(examples), _BATCH):
        batch = examples[first : first + _BATCH]
        sampling = Sampling(settings.max_new_tokens, settings.temperature, seed + first)
        completions = engine.generate([Request.from_text(e.prompt) for e in batch], sampling)
        new = [
            {"id": str(at), "prompt": e.prompt, "chosen": e.answer, "rejected": completion.text}
            for at, (e, completion) in enumerate(zip(batch, completions, strict=True), start=first)
        ]
        append_records(part, new)
        rows += new
        count(len(new))
    return rows
