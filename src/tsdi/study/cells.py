"""One cell of a study: a model, a rule with a setting, and prompts; answered and judged once.

Cells are run folders like those of `tsdi evaluate`. A cell's name ends in a hash of everything that
decides its answers and verdicts, so that a changed study reuses what it shares with an earlier one
and never mixes the two up.
"""

import hashlib
import json
import shutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from tsdi.baselines.prompting import PromptedEngine
from tsdi.engines.base import Engine, Sampling
from tsdi.evaluation.evaluate import METRICS, Judging, judge_responses
from tsdi.evaluation.verdicts import read_judged
from tsdi.files import write_folder
from tsdi.judging.base import Judge
from tsdi.runs.generate import generate_responses
from tsdi.study.config import RuleEntry, Study
from tsdi.study.outcomes import Point, outcomes, point
from tsdi.study.settings import Setting
from tsdi.suites.attacks import find_attack
from tsdi.suites.prompts import Prompt

CELLS = "cells"
"""The folder of all cells, within a study's."""


LATER = {
    ("conditioned", "reference"),
    ("conditioned", "threshold"),
    ("conditioned-openers", "threshold"),
}
"""Parameters that rules gained later; unset, they leave earlier cells their folders."""


@dataclass(frozen=True)
class Cell:
    """One combination of model, rule, setting, split and attack, with its run folder.

    Models have ids such as "seed1/beta0.1-step30", or "seed1/reference". The split is "validation"
    or "test"; an attack of "" is none.
    """

    model: str
    entry: RuleEntry
    setting: Setting
    split: str
    attack: str
    folder: Path

    @property
    def digest(self) -> str:
        """The hash of everything that decides the cell's answers and verdicts."""
        return self.folder.name.rpartition("_")[2]

    @property
    def done(self) -> bool:
        """Whether the cell is answered and judged."""
        return (self.folder / METRICS).exists()

    @property
    def codes(self) -> str:
        """The outcomes of a finished cell, one letter an answer (`tsdi.study.outcomes`)."""
        return _codes_and_kinds(self.folder)[0]

    @property
    def point(self) -> Point:
        """Share of safe and of helpful answers, as results.json holds them."""
        safety, help_ = point(*_codes_and_kinds(self.folder))
        return round(safety, 5), round(help_, 5)


@cache
def _codes_and_kinds(folder: Path) -> tuple[str, list[str]]:
    """Outcome letters and kinds of prompts of a finished cell; cached, as reading is slow."""
    judged = read_judged(folder).judged
    return outcomes(judged), [one.kind for one in judged]


def cell_folder(
    root: Path, parts: Sequence[str], described: dict[str, Any], entry: RuleEntry, setting: Setting
) -> Path:
    """The folder of a cell, named by rule and setting, and a hash of what decides its answers."""
    given = [f"{key}={setting[key]}" for key in entry.settings]
    decides = {k: v for k, v in setting.items() if v is not None or (entry.rule, k) not in LATER}
    text = json.dumps([described, entry.rule, decides], sort_keys=True)
    digest = hashlib.sha256(text.encode()).hexdigest()[:10]
    return root.joinpath(*parts[:-1], "_".join([entry.name, *given, parts[-1], digest]))


def copied(cell: Cell, root: Path, digests: Iterable[str]) -> bool:
    """Take a cell's answers and verdicts from a finished cell that must have the same ones.

    Args:
        cell: A cell without a folder; one that was begun goes on by itself.
        root: The folder of all cells.
        digests: Hashes of what decides the cell's answers, or others that are equal to them.

    Returns:
        Whether there was one.
    """
    for digest in digests if not cell.folder.exists() else ():
        for twin in root.glob(f"*/*/*_{digest}"):
            if (twin / METRICS).exists():
                with write_folder(cell.folder) as unfinished:
                    shutil.copytree(twin, unfinished, dirs_exist_ok=True)
                return True
    return False


def run_cell(
    cell: Cell,
    study: Study,
    prompts: Sequence[Prompt],
    engine: Callable[[], Engine],
    judge: Judge,
) -> None:
    """Answer and judge a cell; finished parts are kept.

    The engine is made only if something is left to answer.
    """
    if cell.done:
        return
    answering = engine()
    if cell.attack:
        answering = PromptedEngine(answering, find_attack(cell.attack).transform)
    provenance: dict[str, Any] = {
        "model": cell.model,
        "rule": cell.entry.rule,
        "setting": cell.setting,
        **({"attack": cell.attack} if cell.attack else {}),
    }
    generate_responses(
        answering,
        prompts,
        cell.folder,
        Sampling(max_new_tokens=study.generation.max_new_tokens),
        study.generation.batch_size,
        True,
        provenance,
    )
    judging = Judging(end_of_thinking=study.judge.end_of_thinking)
    judge_responses(judge, cell.folder, judging, resume=True)
