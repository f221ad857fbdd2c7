"""Collection of a finished study's cells, speed and biases into results.json."""

import hashlib
import json
import os
import platform
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tsdi.bias.diagnosis import diagnose, shifted_tokens
from tsdi.bias.examination import Examination
from tsdi.bias.refusal_log_odds import Phrases, phrase_ids, refusal_log_odds
from tsdi.engines.base import Engine, Request, Sampling
from tsdi.evaluation.verdicts import read_judged
from tsdi.files import json_or_none, write_bytes, write_json
from tsdi.judging.panel import judge_of
from tsdi.models.fingerprint import fingerprint
from tsdi.runs.records import read_records
from tsdi.runs.stage import ANSWERS, StageProgress
from tsdi.stats.auc import auc
from tsdi.stats.interval import as_json
from tsdi.study.cells import Cell
from tsdi.study.config import RuleEntry
from tsdi.study.entries import (
    AnsweredCell,
    Bias,
    DiagnosedBias,
    Example,
    Judge,
    Kind,
    ModelEntry,
    Preferences,
    RuleDescription,
    RuleSpeed,
    ShiftedTokens,
    Speed,
    TokenShift,
    ValidatedCell,
)
from tsdi.study.family import Member, ModelFamily
from tsdi.study.grid import (
    SPLITS,
    chosen_settings,
    locate,
    open_family,
    tested_cells,
    tried_cells,
)
from tsdi.study.plan import Plan
from tsdi.study.results import FORMAT, RESULTS, VERSION, StudyResults
from tsdi.study.rule_engines import build, tsdi_bias
from tsdi.study.rules import RULES
from tsdi.study.settings import Number
from tsdi.study.win_rates import BASES, WinRates

ROUNDS = 5  # of the speed measurement, each with every rule
TIMED = 16  # prompts in its batch
EXAMPLES = 4  # prompts of each kind whose answers are shown
DIAGNOSED = 48  # validation prompts of each kind, and random prompts
_VERSIONS = ("tsdi", "torch", "transformers", "tokenizers", "trl", "numpy", "scipy")


def collect(made: Plan, command: str, progress: StageProgress) -> StudyResults:
    """Read all cells of a finished study, measure speed and biases, and write results.json."""
    key, diagnose = _decides(made), made.study.estimation.diagnose
    content = {
        "format": FORMAT,
        "format_version": VERSION,
        "command": command,
        "versions": _versions(),
        "machine": {"system": f"{platform.system()} {platform.machine()}", "cores": os.cpu_count()},
        "study": made.study.model_dump(mode="json", exclude_defaults=True),
        "judge": asdict(_judge(made)),
        "main": made.main,
        "rules": [asdict(_described(made, entry)) for entry in made.study.rules],
        "prompts": {
            split: [[p.id, p.kind, p.category] for p in made.prompts[split]] for split in SPLITS
        },
        "members": [
            asdict(ModelEntry(m.name, m.seed, m.beta, m.iterations, m.annotators))
            for m in made.members
        ],
        "cells": [_known_fields(cell) for cell in _cells(made, progress)],
        "examples": [asdict(one) for one in _examples(made)],
        "speed": _once(made.out / "speed.json", key, lambda: asdict(_speed(made, progress))),
        "biases": _once(
            made.out / "biases.json",
            f"{key}, {diagnose}",
            lambda: as_json(_biases(made, progress)),
        ),
    }
    text = json.dumps(content, allow_nan=False, separators=(",", ":"))
    write_bytes(made.out / RESULTS, text.replace('{"model"', '\n{"model"').encode() + b"\n")
    return StudyResults.from_dict(content, RESULTS)


def _known_fields(cell: ValidatedCell | AnsweredCell) -> dict[str, Any]:
    """A cell as JSON, without wins where no pairwise judge was asked."""
    return {name: value for name, value in asdict(cell).items() if value is not None}


def _judge(made: Plan) -> Judge:
    """The judge of harmful prompts, as recorded beside the verdicts."""
    entry, member = made.entries[0], made.members[0]
    cell = locate(made, member, entry, entry.candidates[0], "validation")
    judge = judge_of(read_judged(cell.folder).judge, "harmful")
    return Judge(judge["name"], judge["sees_safety"])


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in _VERSIONS:
        try:
            found[name] = version(name)
        except ModuleNotFoundError:
            continue
    return found


def _described(made: Plan, entry: RuleEntry) -> RuleDescription:
    rule = RULES[entry.rule]
    return RuleDescription(
        name=entry.name,
        rule=entry.rule,
        title=rule.title if entry.name == entry.rule else f"{rule.title} ({entry.name})",
        source=rule.source,
        needs=entry.needs,
        models=len(rule.holds),
        of=rule.of,
        settings=dict(entry.settings),
        vary=entry.vary,
        reason_against=made.reason_against(entry),
    )


def _cells(made: Plan, progress: StageProgress) -> list[ValidatedCell | AnsweredCell]:
    """Validation points of all settings tried, and verdicts of all tested cells."""
    found: list[ValidatedCell | AnsweredCell] = []
    win_rates = WinRates(made.study.judge)
    base = next((e for name in BASES for e in made.entries if e.rule == name), None)

    def wins(cell: Cell, member: Member) -> Preferences | None:
        if not win_rates.asked_for or base is None or cell.attack:
            return None
        first = made.first(member.seed)
        other = locate(made, first, base, base.candidates[0], cell.split)
        progress("win rates", len(found), len(made.entries) * len(made.members))
        return tuple(win_rates.of(other.folder, cell.folder, made.prompts[cell.split]))

    for entry in made.entries:
        for member in made.members_of(entry):
            tried = tried_cells(made, member, entry)
            chosen = chosen_settings(entry, tried)
            for cell in tried:
                taken = cell.setting in chosen
                found.append(_validated(cell, taken, wins(cell, member) if taken else None))
            tested = {cell.folder: cell for cell in tested_cells(made, member, entry, tried)}
            found += [_answered(cell, wins(cell, member)) for cell in tested.values()]
    return found


def _given(cell: Cell) -> dict[str, Number]:
    """The parameters of a cell that the study's file sets."""
    values = ((key, cell.setting[key]) for key in cell.entry.settings)
    return {key: value for key, value in values if value is not None}


def _validated(cell: Cell, chosen: bool, wins: Preferences | None) -> ValidatedCell:
    (safety, help_), name = cell.point, cell.entry.name
    return ValidatedCell(cell.model, name, _given(cell), "validation", safety, help_, chosen, wins)


def _answered(cell: Cell, wins: Preferences | None) -> AnsweredCell:
    codes = cell.codes
    return AnsweredCell(cell.model, cell.entry.name, _given(cell), "test", cell.attack, codes, wins)


def _examples(made: Plan) -> list[Example]:
    """Answers of every rule to some prompts, at the main grid point of the first test seed."""
    answers: dict[str, dict[str, str]] = {}
    for entry in made.entries:
        records = read_records(main_cells(made, entry)[0].folder / ANSWERS.records)
        answers[entry.name] = {record["id"]: record["response"] for record in records}
    shown = []
    kinds: tuple[Kind, ...] = ("lookalike", "harmless", "harmful")
    for kind in kinds:
        asked = [prompt for prompt in made.prompts["test"] if prompt.kind == kind]
        for prompt in asked[:: max(1, len(asked) // EXAMPLES)][:EXAMPLES]:
            own = {name: texts[prompt.id] for name, texts in answers.items()}
            shown.append(Example(kind, prompt.category, prompt.messages[-1]["content"], own))
    return shown


def main_member(made: Plan) -> Member:
    """The main grid point of the first test seed."""
    aside = made.study.validation_seeds
    found = [m for m in made.members if m.name == made.main]
    return next((m for m in found if m.seed not in aside), found[0])


def main_cells(made: Plan, entry: RuleEntry) -> list[Cell]:
    """Test cells of a rule at the main grid point of the first test seed."""
    member = main_member(made)
    whose = member if RULES[entry.rule].of == "aligned" else made.first(member.seed)
    chosen = chosen_settings(entry, tried_cells(made, whose, entry))
    return [locate(made, whose, entry, setting, "test") for setting in chosen]


def _decides(made: Plan) -> str:
    """Hash of the inputs of speed and diagnoses: models, rules, settings, prompts."""
    found = [cell.folder.name for entry in made.entries for cell in main_cells(made, entry)]
    members = [[m.id, *map(fingerprint, m.paths.values())] for m in made.members]
    main, generation = main_member(made).id, made.study.generation.model_dump(mode="json")
    text = json.dumps([found, main, members, generation])
    return hashlib.sha256(text.encode()).hexdigest()


def _once(path: Path, key: str, make: Callable[[], Any]) -> Any:
    """The cached value of a file if its key matches, else a new one, which is stored."""
    kept = json_or_none(path)
    if isinstance(kept, dict) and kept.get("key") == key and "found" in kept:
        return kept["found"]
    made = make()
    write_json(path, {"key": key, "found": made})
    return made


# --- speed and memory -------------------------------------------------------------------------


def _speed(made: Plan, progress: StageProgress) -> Speed:
    """Decoding speed of every rule relative to the plain model, and memory.

    Speed is rows of the batch x decoding steps over seconds, so that short answers don't count as
    slow ones.
    """
    member = main_member(made)
    family = open_family(made, member, keeps_states=False)  # every rule reads its prompts itself
    sampling = Sampling(max_new_tokens=made.study.generation.max_new_tokens)
    every = made.prompts["test"]
    prompts = every[:: max(1, len(every) // TIMED)][:TIMED]
    requests = [Request(prompt.messages) for prompt in prompts]
    seen: dict[str, list[float]] = {entry.name: [] for entry in made.entries}
    total = len(made.entries) * (ROUNDS + 1)
    for done, (name, engine, warm) in enumerate(_turns(made, family), start=1):
        started = time.perf_counter()
        answers = engine.generate(requests, sampling)
        seconds = time.perf_counter() - started
        steps = max(len(answer.token_ids) for answer in answers)
        if warm:
            seen[name].append(len(requests) * steps / seconds)
        progress("speed", done, total)
    family.close()
    plain = made.plain.name
    rules = {
        entry.name: RuleSpeed(
            tuple(round(rate, 1) for rate in seen[entry.name]),
            tuple(
                round(own / base, 4)
                for own, base in zip(seen[entry.name], seen[plain], strict=True)
            ),
            _bytes(family, entry),
        )
        for entry in made.entries
    }
    return Speed(member.id, len(requests), ROUNDS, rules)


def _turns(made: Plan, family: ModelFamily) -> Iterator[tuple[str, Engine, bool]]:
    """Name and engine of every rule, round after round, and whether it is warm: the first is not.

    The rules take turns, but where an engine has one model at a time: there rule follows rule.
    """
    settings = [(entry, main_cells(made, entry)[0].setting) for entry in made.entries]
    if made.study.generation.engine != "transformers":
        for entry, setting in settings:
            engine = build(entry.rule, family, setting)
            yield from ((entry.name, engine, bool(number)) for number in range(ROUNDS + 1))
        return
    engines = {entry.name: build(entry.rule, family, one) for entry, one in settings}
    for number in range(ROUNDS + 1):
        yield from ((name, engine, bool(number)) for name, engine in engines.items())


def _bytes(family: ModelFamily, entry: RuleEntry) -> int:
    """Memory of the weights that a rule holds while it decodes, and of its table of shifts."""
    held = [family.model(role) for role in RULES[entry.rule].holds]
    weights = {p.data_ptr(): p.numel() * p.element_size() for m in held for p in m.parameters()}
    table = 0
    if entry.rule in ("tsdi", "static", "random-shift", "first-order", "conditioned"):
        bias = family.bias(entry.candidates[0])
        slope = bias.slope
        parts = [bias.values, *([] if slope is None else (slope.read, slope.write))]
        table = sum(part.numel() * part.element_size() for part in parts)
    return sum(weights.values()) + table


# --- biases -----------------------------------------------------------------------------------


def _biases(made: Plan, progress: StageProgress) -> list[Bias]:
    """Shifts of openers by every grid point's bias; diagnoses of none, some or all."""
    entry = next((entry for entry in made.entries if entry.rule == "tsdi"), None)
    if entry is None:
        return []
    found = []
    for number, member in enumerate(made.members, start=1):
        family = open_family(made, member)
        bias = family.bias(entry.candidates[0])
        refusing, complying = family.openers
        own = Bias(
            member.id,
            _rounded(bias.values[:, refusing].mean(1).tolist()),
            _rounded(bias.values[:, complying].mean(1).tolist()),
            _rounded(bias.standard_error[:, refusing].mean(1).tolist()),
        )
        examined = {"none": False, "main": member.name == made.main, "all": True}
        if examined[made.study.estimation.diagnose]:
            own = _diagnosed(own, family, entry)
        found.append(own)
        progress("biases", number, len(made.members))
    return found


def _diagnosed(own: Bias, family: ModelFamily, entry: RuleEntry) -> DiagnosedBias:
    given, phrases = family.estimation, family.phrases
    bias = tsdi_bias(family, {**entry.candidates[0], "strength": 1.0})
    real = {kind: family.prompt_ids(kind)[:DIAGNOSED] for kind in family.kinds}
    found = diagnose(
        bias,
        family.model("aligned"),
        family.model("reference"),
        family.tokenizer,
        Examination(family.pool(given.pool), real, DIAGNOSED, None, phrases),
    )
    promoted, demoted = (
        tuple(
            tuple(TokenShift(t.text, round(t.shift, 3), round(t.error, 4)) for t in row)
            for row in shifted_tokens(bias, family.tokenizer, largest=largest, number=8)[:4]
        )
        for largest in (True, False)
    )
    return DiagnosedBias(
        **vars(own),
        tokens=ShiftedTokens(promoted, demoted),
        one_number=round(found.one_number, 4),
        shift={kind: shown.shift for kind, shown in found.refusal.items()},
        explained=found.explained,
        area={role: _area(family, role, phrases, real) for role in ("aligned", "reference")},
    )


def _area(
    family: ModelFamily, role: str, phrases: Phrases, real: dict[str, list[list[int]]]
) -> dict[str, float]:
    """AUC of refusal log-odds, harmful prompts against each other kind of prompt."""
    model = family.model(role)
    refusing = phrase_ids(family.tokenizer, phrases.refusing)
    complying = phrase_ids(family.tokenizer, phrases.complying)
    odds = {
        kind: [refusal_log_odds(model, p, refusing, complying, [None])[0] for p in prompts]
        for kind, prompts in real.items()
    }
    harmful = odds.pop("harmful")
    return {kind: round(auc(harmful, own).value or 0.0, 4) for kind, own in odds.items()}


def _rounded(values: Sequence[float]) -> tuple[float, ...]:
    return tuple(round(float(value), 4) for value in values)
