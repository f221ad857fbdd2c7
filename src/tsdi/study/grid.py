"""Running a study: every cell of its grid, here or by a cluster's workers, resumable after a kill.

A member's cells are one job. In it the settings of every rule are tried on validation prompts, the
best is taken, and that one answers the test prompts, plain and under attack; so does, at the main
grid point and without attack, the one that helps most while safety stays. What is done is on disk,
so a killed study goes on where it stopped.
"""

import json
import os
import platform
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch

from tsdi.cluster import Cluster
from tsdi.errors import UsageError
from tsdi.files import working_in, working_on
from tsdi.judging.base import Judge, JudgeOptions
from tsdi.judging.registry import load_judge
from tsdi.models.fingerprint import fingerprint
from tsdi.models.load import LoadOptions
from tsdi.runs.loading import Loading
from tsdi.runs.stage import StageProgress
from tsdi.study.cells import CELLS, Cell, cell_folder, copied, run_cell
from tsdi.study.config import RuleEntry
from tsdi.study.family import Member, ModelFamily
from tsdi.study.members import train_seed
from tsdi.study.outcomes import best_setting, safe_setting, share_of_safe
from tsdi.study.places import find_judge, judge_fingerprints, pool_fingerprint
from tsdi.study.plan import Plan
from tsdi.study.rule_engines import build
from tsdi.study.rules import RULES
from tsdi.study.settings import Setting
from tsdi.suites.prompts import Prompt, prompts_sha256

PROGRESS = "progress.jsonl"
SPLITS = ("validation", "test")


def run_grid(made: Plan, cluster: Cluster | None, progress: StageProgress) -> None:
    """Train the study's organisms, then answer and judge every cell.

    The workers of a cluster must see the study's folders; without one this process does it all.
    """
    with working_in(made.out):
        study = made.study
        if study.organism is not None:
            jobs = [(study.organism, made.out, seed) for seed in study.organism.seeds]
            progress("train", 0, len(jobs))
            _run(_train, jobs, made.out, cluster, lambda done: progress("train", done, len(jobs)))
        total, log = count_cells(made), made.out / PROGRESS
        log.unlink(missing_ok=True)  # every job says again what is done, which costs it nothing

        def tell(_: int = 0) -> None:
            progress("cells", _lines(log), total)

        how = (1, tell) if cluster is None else (cluster.workers, None)
        _run(_run_member, [(made, one, *how) for one in made.members], made.out, cluster, tell)


def _run(
    work: Callable[..., None],
    jobs: Sequence[tuple[Any, ...]],
    out: Path,
    cluster: Cluster | None,
    tell: Callable[[int], None],
) -> None:
    """Run jobs, in a cluster's workers or here; the first error ends the study.

    `tell` is called with the number of jobs done: after each, and every second in a cluster.
    """
    if cluster is None:
        for finished, job in enumerate(jobs, start=1):
            work(*job)
            tell(finished)
        return
    finished = 0

    def look() -> None:
        tell(finished)

    with cluster.open(partial(_sees, out)) as started:
        for _ in started.map(partial(_in_worker, work), jobs, look):
            finished += 1
            look()


def _sees(out: Path) -> Path:
    """The study's folder, as long as a worker sees it."""
    if not out.is_dir():
        raise UsageError(
            f"A worker on {platform.node()} does not see {out}.",
            "Put the study, its models and its folder where all machines see them.",
        )
    return out


def _in_worker(work: Callable[..., None], _out: Path, job: tuple[Any, ...]) -> None:
    work(*job)


def _threads(workers: int) -> int:
    """CPU threads of a worker: OMP_NUM_THREADS if set, else an even share."""
    asked = os.environ.get("OMP_NUM_THREADS", "")
    return int(asked) if asked.isdecimal() else max(1, (os.cpu_count() or 1) // workers)


def _train(organism: Any, out: Path, seed: int) -> None:
    """Train one seed's models, once the workers of a killed study are gone."""
    with working_on(out / f"train-{seed}", wait=True):
        train_seed(organism, out, seed)


def _run_member(
    made: Plan, member: Member, workers: int, told: Callable[[], None] | None = None
) -> None:
    """Run all cells of a member, and the seed's shared cells if it is the seed's first.

    `told` is called after each cell.
    """
    generation = made.study.generation
    torch.set_num_threads(generation.threads or _threads(workers))
    with working_on(made.out / member.id.replace("/", "-"), wait=True):
        job = Job(made, member, told)
        try:
            for entry in made.entries:
                if member in made.members_of(entry):
                    job.run(entry)
        finally:
            job.family.close()


class Job:
    """The cells of one member."""

    def __init__(self, made: Plan, member: Member, told: Callable[[], None] | None = None) -> None:
        self._made, self._member, self._told = made, member, told
        self.family = open_family(made, member)
        self._judge: Judge | None = None

    def run(self, entry: RuleEntry) -> None:
        """Choose an entry's setting on validation prompts, then test it, plain and attacked."""
        tried = tried_cells(self._made, self._member, entry)
        for cell in tried:
            self._run(cell)
            check_scored(cell)  # before more is answered that nobody can judge
        for cell in tested_cells(self._made, self._member, entry, tried):
            self._run(cell)
            check_scored(cell)

    def _run(self, cell: Cell) -> None:
        started = time.monotonic()
        if not cell.done and not copied(cell, self._made.out / CELLS, self._digests(cell)):
            self._judge = self._judge or open_judge(self._made)
            run_cell(
                cell,
                self._made.study,
                asked(self._made, cell.split, cell.attack),
                lambda: build(cell.entry.rule, self.family, cell.setting),
                self._judge,
            )
        seconds = round(time.monotonic() - started, 3)
        line = json.dumps({"cell": str(cell.folder.relative_to(self._made.out)), "s": seconds})
        with (self._made.out / PROGRESS).open("a", encoding="utf-8") as log:
            log.write(line + "\n")
        if self._told is not None:
            self._told()

    def _digests(self, cell: Cell) -> list[str]:
        """Hashes of cells with the same answers: its own, and plain's if the setting does nothing.

        So no rule is answered twice under two names, and `plain` not once for each rule.
        """
        rule, found = RULES[cell.entry.rule], [cell.digest]
        if rule.nothing and rule.nothing.items() <= cell.setting.items():
            name = "plain" if rule.of == "aligned" else rule.of
            for entry in self._made.entries:
                if entry.rule == name:
                    setting = entry.candidates[0]
                    as_it_is = locate(
                        self._made, self._member, entry, setting, cell.split, cell.attack
                    )
                    found.append(as_it_is.digest)
        return found


def open_family(made: Plan, member: Member, keeps_states: bool = True) -> ModelFamily:
    """The model family of a member, as rules need it."""
    generation = made.study.generation
    dtype = generation.dtype
    if made.study.organism is not None and dtype == "auto":
        dtype = "float32"  # float16 keeps their files small, and is slow on CPUs
    return ModelFamily(
        member,
        made.study.estimation,
        Loading(
            LoadOptions(dtype=dtype, device_map=generation.device_map),
            engine=generation.choice,
        ),
        generation.chat_format,
        made.prompts,
        made.out / "biases",
        made.pools,
        keeps_states,
    )


def open_judge(made: Plan) -> Judge:
    """Load the study's judge."""
    settings = made.study.judge
    options = JudgeOptions(url=settings.url, labels=settings.labels, dtype=settings.dtype)
    return load_judge(find_judge(settings.name, made.base), options)


def asked(made: Plan, split: str, attack: str) -> list[Prompt]:
    """The prompts of a split; under attack the harmful ones only."""
    prompts = made.prompts[split]
    return [p for p in prompts if p.kind == "harmful"] if attack else prompts


def locate(
    made: Plan, member: Member, entry: RuleEntry, setting: Setting, split: str, attack: str = ""
) -> Cell:
    """The cell of a member, rule, setting and split, with its folder."""
    rule, study = RULES[entry.rule], made.study
    shown = member.id if rule.of == "aligned" else f"seed{member.seed}/{rule.of}"
    # Directions are learned from validation prompts, so these decide answers to test prompts too.
    described: dict[str, Any] = {
        "models": {
            role: fingerprint(member.paths[role]) for role in _roles(member, entry, setting)
        },
        "pool": pool_fingerprint(str(setting.get("pool") or study.estimation.pool), made.pools),
        "prompts": prompts_sha256(asked(made, split, attack)),
        "learned": prompts_sha256(made.prompts["validation"]),
        "generation": study.generation.decides,
        "estimation": study.estimation.model_dump(mode="json", exclude={"diagnose"}),
        "judge": study.judge.model_dump(exclude={"pairwise", "pairwise_url"}),
        "judge's files": judge_fingerprints(study.judge.name, made.base),
        "attack": attack,
    }
    if entry.fitted:
        labelled = made.prompts["fit"]
        described["fitted"] = [prompts_sha256(labelled), [prompt.group for prompt in labelled]]
    parts = (*shown.split("/"), f"{split}{'-' + attack if attack else ''}")
    folder = cell_folder(made.out / CELLS, parts, described, entry, setting)
    return Cell(shown, entry, setting, split, attack, folder)


def _roles(member: Member, entry: RuleEntry, setting: Setting) -> list[str]:
    rule = RULES[entry.rule]
    used = {*rule.holds, rule.of, "reference", setting.get("reference")}
    return [role for role in member.paths if role in used]


def chosen_settings(entry: RuleEntry, tried: Sequence[Cell]) -> list[Setting]:
    """The settings of a rule that are tested: the best on validation, or all.

    All are tested where a parameter is varied to be shown, and where a rule belongs to no grid
    point: there its settings are what points of a front are chosen from.
    """
    if len(tried) == 1 or entry.vary is not None or RULES[entry.rule].of != "aligned":
        return [cell.setting for cell in tried]
    return [tried[best_setting([cell.point for cell in tried])].setting]


def tried_cells(made: Plan, member: Member, entry: RuleEntry) -> list[Cell]:
    """The cells of all settings of an entry on validation prompts."""
    return [locate(made, member, entry, one, "validation") for one in entry.candidates]


def tested_cells(made: Plan, member: Member, entry: RuleEntry, tried: Sequence[Cell]) -> list[Cell]:
    """The cells of an entry on test prompts; the last may be the first once more.

    Args:
        made: The study.
        member: One of its models.
        entry: One of its rules.
        tried: Its cells on validation prompts, judged.
    """
    attacks = ("", *made.attacks(member, entry))
    return [
        *(
            locate(made, member, entry, setting, "test", attack)
            for setting in chosen_settings(entry, tried)
            for attack in attacks
        ),
        *(
            locate(made, member, entry, setting, "test")
            for setting in safe_settings(made, member, entry, tried)
        ),
    ]


def has_safe_settings(made: Plan, member: Member, entry: RuleEntry) -> bool:
    """Whether a safe setting is chosen too: at the main point, where there is a choice."""
    at_main = member.name == made.main and RULES[entry.rule].of == "aligned"
    return at_main and entry.vary is None and len(entry.candidates) > 1


def safe_settings(
    made: Plan, member: Member, entry: RuleEntry, tried: Sequence[Cell]
) -> list[Setting]:
    """The setting that helps most while safety is kept (`safe_setting`), in a list; or []."""
    if not has_safe_settings(made, member, entry):
        return []
    plain = locate(made, member, made.plain, made.plain.candidates[0], "validation")
    points = [cell.point for cell in tried]
    found = safe_setting(points, plain.point)
    return [] if found is None else [tried[found].setting]


def check_scored(cell: Cell) -> None:
    """Raise UsageError if the judge scored none of a cell's answers."""
    try:
        cell.point if not cell.attack else share_of_safe(cell.codes)
    except UsageError as error:
        raise UsageError(f"{cell.folder}: {error.problem}", error.remedy) from None


def count_cells(made: Plan) -> int:
    """The number of cells of a study."""
    total = 0
    for entry in made.entries:
        tried = len(entry.candidates)
        one = entry.vary is None and RULES[entry.rule].of == "aligned"
        for member in made.members_of(entry):
            total += tried + (1 if one else tried) * (1 + len(made.attacks(member, entry)))
            total += has_safe_settings(made, member, entry)
    return total


def _lines(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.exists() else 0
