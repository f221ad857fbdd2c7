"""What a study found, in one JSON file: every verdict, speed, memory and biases; no statistics.

Statistics, tables, figures and the report are made from this file (`tsdi.study.summary`), on any
machine, without models.
"""

import hashlib
import json
import os
import platform
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tsdi.errors import FormatError
from tsdi.evaluation.evaluate import read_judged
from tsdi.files import parse_json, write_bytes, write_json
from tsdi.judging.panel import judge_of
from tsdi.models.fingerprint import fingerprint
from tsdi.runs.records import read_records
from tsdi.runs.stage import ANSWERS
from tsdi.study.cells import Cell
from tsdi.study.config import RuleEntry
from tsdi.study.family import Member, ModelFamily
from tsdi.study.grid import SPLITS, Progress, chosen_settings, locate, open_family
from tsdi.study.outcomes import outcomes, point
from tsdi.study.plan import Plan
from tsdi.study.rules import RULES, tsdi_bias
from tsdi.study.settings import Setting
from tsdi.study.win_rates import BASES, Wins

if TYPE_CHECKING:
    from tsdi.bias.refusal_log_odds import Phrases

RESULTS = "results.json"
VERSION = 2  # of the format; in 1 `rule` was a rule, and in cells its name in the study
_BEGUN = ("cells", "workers.log", "smoke-models")  # what else a study's folder holds
ROUNDS = 7  # of the speed measurement, each with every rule
EXAMPLES = 4  # prompts of each kind whose answers are shown
DIAGNOSED = 48  # validation prompts of each kind, and random prompts
_VERSIONS = ("tsdi", "torch", "transformers", "tokenizers", "trl", "numpy", "scipy")
Figures = dict[str, Any]


def collect(made: Plan, command: str, progress: Progress) -> Figures:
    """Read all cells of a finished study, measure speed and biases, and write results.json.

    Args:
        made: The study.
        command: What the user typed.
        progress: Called with what is done, how much of it, and of how much.
    """
    study = made.study
    results: Figures = {
        "format": "tsdi study results",
        "format_version": VERSION,
        "command": command,
        "versions": _versions(),
        "machine": {"system": f"{platform.system()} {platform.machine()}", "cores": os.cpu_count()},
        "study": study.model_dump(mode="json", exclude_defaults=True),
        "judge": _judge(made),
        "main": made.main,
        "rules": [_described(made, entry) for entry in study.rules],
        "prompts": {
            split: [[p.id, p.kind, p.category] for p in made.prompts[split]] for split in SPLITS
        },
        "members": [
            {
                "name": m.name,
                "seed": m.seed,
                "beta": m.beta,
                "iterations": m.iterations,
                "annotators": m.annotators,
            }
            for m in made.members
        ],
        "cells": _cells(made, progress),
        "examples": _examples(made),
    }
    key = _decides(made)
    results["speed"] = _once(made.out / "speed.json", key, lambda: _speed(made, progress))
    results["biases"] = _once(made.out / "biases.json", key, lambda: _biases(made, progress))
    text = json.dumps(results, allow_nan=False, separators=(",", ":"))
    write_bytes(made.out / RESULTS, text.replace('{"model"', '\n{"model"').encode() + b"\n")
    return results


def is_study(folder: Path) -> bool:
    """Whether a folder is a study's, finished or killed at any time."""
    return any((folder / name).exists() for name in (RESULTS, *_BEGUN))


def read_results(path: Path) -> Figures:
    """A results file, or that of a study's folder.

    Raises:
        FormatError: If it is none.
    """
    file = path / RESULTS if path.is_dir() else path
    try:
        found = parse_json(file.read_bytes())
    except (OSError, ValueError) as error:
        raise FormatError(
            f"Cannot read {file}: {error}.", "Give a study's folder, or its results.json."
        ) from None
    if not isinstance(found, dict) or found.get("format") != "tsdi study results":
        raise FormatError(f"{file} was not written by tsdi study.", "Give its results.json.")
    version = found.get("format_version")
    if version not in (1, VERSION):
        raise FormatError(f"{file} is of another version of tsdi.", "Run tsdi study again.")
    return found if version == VERSION else _from_first_version(found, file)


def _from_first_version(found: Figures, file: Path) -> Figures:
    """Results whose cells call the rule's name in the study `rule`, as those of today."""
    try:
        cells = [{**cell, "name": cell["rule"]} for cell in found["cells"]]
        members = [{"annotators": None, **member} for member in found["members"]]
    except (LookupError, TypeError) as error:
        raise FormatError(
            f"{file} is damaged ({type(error).__name__}: {error}).", "Run the study again."
        ) from None
    for cell in cells:
        del cell["rule"]
    return found | {"format_version": VERSION, "cells": cells, "members": members}


def _judge(made: Plan) -> Figures:
    """Who judged harmful prompts, as it stands beside their verdicts."""
    entry, member = made.entries[0], made.members[0]
    cell = locate(made, member, entry, entry.candidates[0], "validation")
    judge = judge_of(read_judged(cell.folder)[0], "harmful")
    return {"name": judge["name"], "sees_safety": judge["sees_safety"]}


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in _VERSIONS:
        try:
            found[name] = version(name)
        except ModuleNotFoundError:
            continue
    return found


def _described(made: Plan, entry: RuleEntry) -> Figures:
    rule = RULES[entry.rule]
    return {
        "name": entry.name,
        "rule": entry.rule,
        "title": rule.title if entry.name == entry.rule else f"{rule.title} ({entry.name})",
        "source": rule.source,
        "needs": rule.needs,
        "models": len(rule.holds),
        "of": rule.of,
        "settings": {key: list(values) for key, values in entry.settings.items()},
        "vary": entry.vary,
        "reason_against": made.reason_against(entry),
    }


def _cells(made: Plan, progress: Progress) -> list[Figures]:
    """Tested cells with every verdict, tried settings with their point on validation prompts."""
    found: list[Figures] = []
    wins = Wins(made.study.judge)
    base = next((e for name in BASES for e in made.entries if e.rule == name), None)

    def compared(cell: Cell, member: Member) -> Figures:
        if not wins.asked_for or base is None or cell.attack:
            return {}
        first = made.first(member.seed)
        other = locate(made, first, base, base.candidates[0], cell.split)
        progress("win rates", len(found), len(made.entries) * len(made.members))
        return {"wins": wins.of(other.folder, cell.folder, made.prompts[cell.split])}

    for entry in made.entries:
        for member in made.members_of(entry):
            tried = [locate(made, member, entry, s, "validation") for s in entry.candidates]
            chosen = chosen_settings(entry, tried)
            for cell in tried:
                taken = cell.setting in chosen
                found.append(_validated(cell, taken) | (compared(cell, member) if taken else {}))
            for setting in chosen:
                for attack in ("", *made.attacks(member, entry)):
                    cell = locate(made, member, entry, setting, "test", attack)
                    found.append(_tested(cell) | compared(cell, member))
    return found


def _head(cell: Cell) -> Figures:
    setting = {key: cell.setting[key] for key in cell.entry.settings}
    return {"model": cell.model, "name": cell.entry.name, "setting": setting, "split": cell.split}


def _validated(cell: Cell, chosen: bool) -> Figures:
    judged = cell.judged()
    safety, help_ = point(outcomes(judged), [one.kind for one in judged])
    return _head(cell) | {"safety": round(safety, 5), "help": round(help_, 5), "chosen": chosen}


def _tested(cell: Cell) -> Figures:
    return _head(cell) | {"attack": cell.attack, "outcomes": outcomes(cell.judged())}


def _examples(made: Plan) -> list[Figures]:
    """Answers of every rule at the main grid point of the first reported seed."""
    member = main_member(made)
    answers: dict[str, dict[str, str]] = {}
    for entry in made.entries:
        whose = member if RULES[entry.rule].of == "aligned" else made.first(member.seed)
        cell = locate(made, whose, entry, chosen(made, whose, entry)[0], "test")
        records = read_records(cell.folder / ANSWERS.records)
        answers[entry.name] = {record["id"]: record["response"] for record in records}
    shown = []
    for kind in ("lookalike", "harmless", "harmful"):
        asked = [prompt for prompt in made.prompts["test"] if prompt.kind == kind]
        spread = asked[:: max(1, len(asked) // EXAMPLES)][:EXAMPLES]
        shown += [
            {
                "kind": kind,
                "category": prompt.category,
                "prompt": prompt.messages[-1]["content"],
                "answers": {name: texts[prompt.id] for name, texts in answers.items()},
            }
            for prompt in spread
        ]
    return shown


def main_member(made: Plan) -> Member:
    """The main grid point of the first seed that is reported."""
    aside = made.study.validation_seeds
    found = [m for m in made.members if m.name == made.main]
    return next((m for m in found if m.seed not in aside), found[0])


def chosen(made: Plan, member: Member, entry: RuleEntry) -> list[Setting]:
    """The settings with which a rule was tested."""
    tried = [locate(made, member, entry, s, "validation") for s in entry.candidates]
    return chosen_settings(entry, tried)


def _decides(made: Plan) -> str:
    """Hash of what decides speed and diagnoses: models, rules with their settings, prompts."""
    member = main_member(made)
    found = [
        locate(made, whose, entry, setting, "test").folder.name
        for entry in made.entries
        for whose in [member if RULES[entry.rule].of == "aligned" else made.first(member.seed)]
        for setting in chosen(made, whose, entry)
    ]
    members = [[m.id, *map(fingerprint, m.paths.values())] for m in made.members]
    text = json.dumps([found, member.id, members, made.study.generation.model_dump(mode="json")])
    return hashlib.sha256(text.encode()).hexdigest()


def _once(path: Path, key: str, make: Callable[[], Any]) -> Any:
    """What a file holds if it was made for this key, or what is made now and put there."""
    if path.exists():
        try:
            kept = parse_json(path.read_bytes())
        except ValueError:
            kept = None  # damaged: measured again
        if isinstance(kept, dict) and kept.get("key") == key and "found" in kept:
            return kept["found"]
    made = make()
    write_json(path, {"key": key, "found": made})
    return made


# --- speed and memory -------------------------------------------------------------------------


def _speed(made: Plan, progress: Progress) -> Figures:
    """Decoding speed of every rule against the plain model, in interleaved rounds, and memory.

    Speed is rows of the batch x decoding steps over seconds, so that short answers don't count as
    slow ones.
    """
    from tsdi.engines.base import Request, Sampling

    member = main_member(made)
    family = open_family(made, member)
    sampling = Sampling(max_new_tokens=made.study.generation.max_new_tokens)
    prompts = made.prompts["test"][:: max(1, len(made.prompts["test"]) // 64)][:64]
    requests = [Request(prompt.messages) for prompt in prompts]
    engines = {}
    for entry in made.entries:
        whose = member if RULES[entry.rule].of == "aligned" else made.first(member.seed)
        setting = chosen(made, whose, entry)[0]
        engines[entry.name] = RULES[entry.rule].build(family, setting)
    seen: dict[str, list[float]] = {name: [] for name in engines}
    for number in range(ROUNDS + 1):  # the first warms up
        for name, engine in engines.items():
            started = time.perf_counter()
            answers = engine.generate(requests, sampling)
            seconds = time.perf_counter() - started
            steps = max(len(answer.token_ids) for answer in answers)
            if number:
                seen[name].append(len(requests) * steps / seconds)
        progress("speed", number, ROUNDS)
    plain = next(entry.name for entry in made.entries if entry.rule == "plain")
    return {
        "model": member.id,
        "rows": len(requests),
        "rounds": ROUNDS,
        "rules": {
            entry.name: {
                "tokens_per_second": [round(rate, 1) for rate in seen[entry.name]],
                "ratio": [
                    round(own / base, 4)
                    for own, base in zip(seen[entry.name], seen[plain], strict=True)
                ],
                "bytes": _bytes(family, entry),
            }
            for entry in made.entries
        },
    }


def _bytes(family: ModelFamily, entry: RuleEntry) -> int:
    """Memory of the weights that a rule holds while it decodes, and of its table of shifts."""
    held = [family.model(role) for role in RULES[entry.rule].holds]
    weights = {p.data_ptr(): p.numel() * p.element_size() for m in held for p in m.parameters()}
    table = 0
    if entry.rule in ("tsdi", "static", "random-shift"):
        bias = family.bias(entry.candidates[0])
        table = bias.values.numel() * bias.values.element_size()
    return sum(weights.values()) + table


# --- biases -----------------------------------------------------------------------------------


def _biases(made: Plan, progress: Progress) -> list[Figures]:
    """What every grid point's bias does to openers, step by step; more of the main ones."""
    entry = next((entry for entry in made.entries if entry.rule == "tsdi"), None)
    if entry is None:
        return []
    found = []
    for number, member in enumerate(made.members, start=1):
        family = open_family(made, member)
        bias = family.bias(entry.candidates[0])
        refusing, complying = family.openers
        figures: Figures = {
            "model": member.id,
            "refusing": _rounded(bias.values[:, refusing].mean(1).tolist()),
            "complying": _rounded(bias.values[:, complying].mean(1).tolist()),
            "error": _rounded(bias.standard_error[:, refusing].mean(1).tolist()),
        }
        if member.name == made.main or made.study.estimation.diagnose == "all":
            figures |= _diagnosed(family, entry)
        found.append(figures)
        progress("biases", number, len(made.members))
    return found


def _diagnosed(family: ModelFamily, entry: RuleEntry) -> Figures:
    from tsdi.bias.diagnosis import Examination, diagnose, shifted_tokens
    from tsdi.bias.refusal_log_odds import ENGLISH, Phrases

    given = family.estimation
    phrases = Phrases(given.refusing or ENGLISH.refusing, given.complying or ENGLISH.complying)
    bias = tsdi_bias(family, {**entry.candidates[0], "strength": 1.0})
    real = {kind: family.prompt_ids(kind)[:DIAGNOSED] for kind in family.kinds}
    found = diagnose(
        bias,
        family.model("aligned"),
        family.model("reference"),
        family.tokenizer,
        Examination(family.pool(given.pool), real, DIAGNOSED, None, phrases),
    )
    tokens = {
        name: [
            [{"token": t.text, "shift": round(t.shift, 3), "error": round(t.error, 4)} for t in row]
            for row in shifted_tokens(bias, family.tokenizer, largest=largest, number=8)[:4]
        ]
        for name, largest in (("promoted", True), ("demoted", False))
    }
    return {
        "tokens": tokens,
        "one_number": round(found.one_number, 4),
        "shift": {kind: shown.shift.to_dict() for kind, shown in found.refusal.items()},
        "explained": {kind: shown.to_dict() for kind, shown in found.explained.items()},
        "area": {role: _area(family, role, phrases, real) for role in ("aligned", "reference")},
    }


def _area(
    family: ModelFamily, role: str, phrases: "Phrases", real: dict[str, list[list[int]]]
) -> dict[str, float]:
    """How well refusal log-odds tell harmful prompts from others, by kind: the area under the ROC.

    It is the share of pairs of a harmful and another prompt of which the harmful one's log-odds of
    refusing are higher, ties counting half.
    """
    from tsdi.bias.refusal_log_odds import phrase_ids, refusal_log_odds

    model = family.model(role)
    refusing = phrase_ids(family.tokenizer, phrases.refusing)
    complying = phrase_ids(family.tokenizer, phrases.complying)
    odds = {
        kind: np.array(
            [refusal_log_odds(model, p, refusing, complying, [None])[0] for p in prompts]
        )
        for kind, prompts in real.items()
    }
    harmful = odds.pop("harmful")[:, None]
    return {
        kind: round(float((harmful > own).mean() + (harmful == own).mean() / 2), 4)
        for kind, own in odds.items()
    }


def _rounded(values: Sequence[float]) -> list[float]:
    return [round(float(value), 4) for value in values]
