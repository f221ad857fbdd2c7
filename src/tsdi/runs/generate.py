"""``generate``: answers to prompts on disk, chunk after chunk, resumable after a kill.

A run folder holds `run.json`, the provenance of the answers, and `responses.jsonl`, one record
an answer.
"""

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from importlib.metadata import version
from pathlib import Path

from tsdi.arguments import Name, as_name, check_counts, check_whole
from tsdi.baselines.prompting import PromptedEngine
from tsdi.bias import SafetyBias
from tsdi.cluster import Cluster
from tsdi.condition.evidence import among_fitted
from tsdi.decoding.rule import check_strength
from tsdi.engines.base import Completion, Engine, Request, Sampling
from tsdi.engines.choice import EngineChoice, Used
from tsdi.engines.open import open_engine, tokenizer_of
from tsdi.errors import MismatchError, PromptError
from tsdi.files import json_sha256, working_in
from tsdi.models.chat import OWN_TEMPLATE, ChatFormat
from tsdi.models.load import LoadOptions, load_tokenizer
from tsdi.runs.records import Record
from tsdi.runs.responses import never_began, seen_in_fit
from tsdi.runs.shard import SHARD, Shard
from tsdi.runs.stage import ANSWERS, Progress, StageProgress, as_read_back, named
from tsdi.suites.attacks import find_attack
from tsdi.suites.load import Loaded, load_prompts
from tsdi.suites.prompts import Prompt

_Make = Callable[[Iterable[Sequence[Prompt]]], Iterable[Sequence[Record]]]
"""Answers batches of prompts, in their order."""
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Answering:
    """Options of answering: decoding, batches, chat format, engine, strength and attack.

    Attributes:
        strength: Factor of the bias; None takes what the bias recommends.
        sampling: Options of decoding; its seed decides the organism's prompts too.
        batch_size: Prompts answered together.
        attack: A simple public attack that transforms the prompts (`tsdi.suites.attacks`).
        chat: Format of chats; a bias brings its own.
        options: Options of loading the weights.
        engine: The engine, and options that only it has.
        cluster: Workers that answer side by side, each with an engine of its own; None is this
            process alone.
        shard: Which part of the prompts is answered, such as "2/8", for ``tsdi.gather``; batches
            are those of all prompts. None answers all.
    """

    strength: float | None = None
    sampling: Sampling = Sampling()
    batch_size: int = 16
    attack: str | None = None
    chat: ChatFormat = OWN_TEMPLATE
    options: LoadOptions = LoadOptions()
    engine: EngineChoice = EngineChoice()
    cluster: Cluster | None = None
    shard: str | None = None

    def __post_init__(self) -> None:
        check_counts(self, "batch_size")
        if self.strength is not None:
            check_strength(self.strength)
        if self.shard is not None:
            Shard.read(self.shard)

    def open(self, model: Name, bias: Name | None) -> tuple[Engine, Used]:
        """Open the engine; returns it with the provenance of its answers.

        Raises:
            TsdiError: If model or bias cannot be loaded or do not fit, or there is no such attack.
        """
        model, bias = as_name("model", model), bias if bias is None else as_name("bias", bias)
        attack = None if self.attack is None else find_attack(self.attack)
        engine, used = open_engine(model, bias, self.strength, self.chat, self.options, self.engine)
        if attack is None:
            return engine, used
        return PromptedEngine(engine, attack.transform), {**used, "attack": attack.name}


@dataclass(frozen=True)
class Answers:
    """The answers of a run, with their provenance.

    Attributes:
        records: One record per prompt, as in responses.jsonl.
        used: Provenance: model, bias, strength and whatever else decides the answers.
    """

    records: list[Record]
    used: Used

    @property
    def cut_off(self) -> int:
        """The number of answers that the length limit cut off."""
        return sum(record["finish"] == "length" for record in self.records)

    @property
    def withheld(self) -> int:
        """The number of answers that a server withheld, or whose prompt it turned down."""
        return sum(record["finish"] in ("filter", "error") for record in self.records)

    @property
    def notes(self) -> list[str]:
        """Notes for readers of the figures, on answers not debiased, or of prompts of the fit."""
        plain = sum(record.get("bias_began") is False for record in self.records)
        fitted = sum(record.get("fitted", False) for record in self.records)
        return [
            *([never_began(plain, len(self.records))] if plain else []),
            *([seen_in_fit(fitted, len(self.records))] if fitted else []),
        ]


def generate(
    model: Name,
    prompts: Name,
    out: str | Path,
    *,
    bias: Name | None = None,
    answering: Answering = Answering(),
    resume: bool = False,
    progress: StageProgress | None = None,
) -> Answers:
    """Answer prompts with a model, with its safety bias subtracted if one is given.

    Args:
        model: Folder, hub id ("ORG/NAME[@REVISION]") or shipped name of a model or adapter; a GGUF
            file; or what a server calls it.
        prompts: A file, a suite, "hub:ORG/NAME" or "organism:test".
        out: The run folder, made if need be; answers are appended to its responses.jsonl.
        bias: Folder or hub id of a safety bias.
        answering: Options of answering.
        resume: Go on with a killed run.
        progress: Called after each chunk.

    Raises:
        RunExistsError: If the folder is in use, by a process or by another run.
        TsdiError: If anything cannot be loaded or does not fit; nothing has been generated then.
    """
    out = Path(out)
    with working_in(out):
        if not resume:
            ANSWERS.check_unused(out)
        loaded = load_prompts(prompts, answering.sampling.seed)
        if not resume and any(not prompt.kind for prompt in loaded.prompts):
            _LOG.info(
                "Prompts without a kind cannot be judged: name them as FILE:kind=harmful (or"
                " harmless, lookalike)."
            )
        return answer_loaded(model, loaded, out, bias, answering, resume, progress)


def answer_loaded(
    model: Name,
    loaded: Loaded,
    out: Path,
    bias: Name | None,
    answering: Answering,
    resume: bool,
    progress: StageProgress | None,
) -> Answers:
    """Answer prompts that are loaded already, as `generate` does, in a run folder."""
    loaded = _sharded(loaded, answering)
    sampling, told = answering.sampling.of_model(model), named(progress, "generate")
    answering = replace(answering, sampling=sampling)
    if answering.cluster is None:
        engine, used = answering.open(model, bias)
        check_fits(engine, loaded.prompts, sampling)
        make: _Make = partial(map, partial(_records, engine, sampling))
        make = _marking(make, _fitted(model, loaded.prompts, bias, answering))
        return Answers(_keep(make, loaded, used, out, answering, resume, told), used)
    with answering.cluster.open(partial(answering.open, model, bias)) as workers:
        [used] = workers.map(_fitting, [(loaded.prompts, sampling)])
        make = partial(workers.map, partial(_alike, used, sampling))
        make = _marking(make, _fitted(model, loaded.prompts, bias, answering))
        return Answers(_keep(make, loaded, used, out, answering, resume, told), used)


def _fitted(
    model: Name, prompts: Sequence[Prompt], bias: Name | None, answering: Answering
) -> frozenset[str]:
    """The ids of prompts that what sets the bias's strength or shift was fitted to."""
    if bias is None or answering.engine.name == "openai":
        return frozenset()
    known = SafetyBias.from_pretrained(str(bias))
    if answering.strength is not None:
        known = known.with_condition(None)  # which has no say then
    if known.condition is None and known.slope is None:
        return frozenset()
    name = tokenizer_of(str(model), str(bias), answering.engine)
    tokenizer = load_tokenizer(name, answering.options)
    inside = among_fitted(known, tokenizer, [prompt.messages for prompt in prompts])
    return frozenset(one.id for one, fitted in zip(prompts, inside, strict=True) if fitted)


def _marking(make: _Make, fitted: frozenset[str]) -> _Make:
    """Answers as `make` makes them, with a mark on those to prompts of a fit."""

    def marked(chunks: Iterable[Sequence[Prompt]]) -> Iterator[list[Record]]:
        for records in make(chunks):
            yield [{**one, "fitted": True} if one["id"] in fitted else one for one in records]

    return marked


def _fitting(opened: tuple[Engine, Used], asked: tuple[Sequence[Prompt], Sampling]) -> Used:
    """What decides a worker's answers, once the prompts are seen to fit."""
    check_fits(opened[0], *asked)
    return opened[1]


def _alike(
    used: Used, sampling: Sampling, opened: tuple[Engine, Used], chunk: Sequence[Prompt]
) -> list[Record]:
    """A worker's answers, once its models are seen to be those of the first one."""
    if opened[1] != used:
        keys = [key for key in used if used[key] != opened[1].get(key)]
        raise MismatchError(
            f"The workers' models differ: {', '.join(keys)}.", "Give all machines the same files."
        )
    return _records(opened[0], sampling, chunk)


def _sharded(loaded: Loaded, answering: Answering) -> Loaded:
    """The prompts of a shard, with what all of them are; or those that are loaded."""
    if answering.shard is None:
        return loaded
    shard, prompts = Shard.read(answering.shard), loaded.prompts
    start, stop = shard.part(len(prompts), answering.batch_size)
    described = {SHARD: {**shard.describe(), "prompts": _describe_prompts(prompts)}}
    return Loaded(prompts[start:stop], {**loaded.provenance, **described})


def answer(
    model: Name, text: str, *, bias: Name | None = None, answering: Answering = Answering()
) -> tuple[Completion, Used]:
    """A model's answer to one prompt, with its provenance.

    Raises:
        TsdiError: If the prompt is empty, or anything cannot be loaded or does not fit.
    """
    if not text.strip():
        raise PromptError("The prompt is empty.", "Write one.")
    engine, used = answering.open(model, bias)
    sampling = answering.sampling.of_model(model)
    return engine.generate([Request.from_text(text)], sampling)[0], used


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

    The run in the folder is gone on with if asked, or started if there is none. `provenance` is
    what else decides the answers, such as model, revision and bias, as JSON.

    Returns:
        One record per prompt, in their order: id, category, kind, messages, response, tokens (how
        many) and finish (`tsdi.engines.base.Completion`); in_thought, reason and strength where
        they say something.

    Raises:
        PromptError: If there is no prompt, an id twice, or a prompt that does not fit the context;
            nothing has been generated then.
        RunExistsError: If the folder holds answers already, and either `resume` is off or they were
            made with something else; or if another process works there.
        FormatError: If the folder's files are damaged.
        TsdiError: If the disk is full.
    """
    check_whole("batch_size", batch_size)
    out = Path(out)
    check_fits(engine, prompts, sampling)
    how = Answering(sampling=sampling, batch_size=batch_size)
    make = partial(map, partial(_records, engine, sampling))
    return _keep(make, Loaded([*prompts]), provenance, out, how, resume, progress)


def _keep(
    make: _Make,
    loaded: Loaded,
    used: Record,
    out: Path,
    answering: Answering,
    resume: bool,
    progress: Progress | None,
) -> list[Record]:
    """Keep on disk what is made of the prompts; prompts that are answered already are passed."""
    prompts, size = loaded.prompts, answering.batch_size
    run = _describe(prompts, answering.sampling, size, {**used, **loaded.provenance})
    with working_in(out):
        done = ANSWERS.open(out, run, resume)
        return ANSWERS.fill(out, done, prompts, size, make, progress)


def _records(engine: Engine, sampling: Sampling, chunk: Sequence[Prompt]) -> list[Record]:
    """An engine's answers to a batch."""
    completions = engine.generate([Request(prompt.messages) for prompt in chunk], sampling)
    return [_record(p, c) for p, c in zip(chunk, completions, strict=True)]


def check_fits(engine: Engine, prompts: Sequence[Prompt], sampling: Sampling) -> None:
    """Raise PromptError unless there are prompts, of different ids, that all fit the context."""
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
    """The description of a run, everything that decides its answers, as JSON reads it back."""
    run = {
        "settings": {
            "batch_size": batch_size,
            "max_new_tokens": sampling.longest,
            "temperature": sampling.temperature,
            "seed": sampling.seed,
        },
        "prompts": _describe_prompts(prompts),
        "versions": {name: version(name) for name in ("tsdi", "torch", "transformers")},
        "provenance": provenance,
    }
    return as_read_back(run)


def _describe_prompts(prompts: Sequence[Prompt]) -> Record:
    """Number and hash of prompts."""
    # A kind counts only where there is one: runs of prompts without go on as they were described.
    content = [[p.id, p.category, p.messages, *([p.kind] if p.kind else [])] for p in prompts]
    return {"count": len(prompts), "sha256": json_sha256(content)}


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
        **({} if completion.strength is None else {"strength": completion.strength}),
    }
