"""Search of a bias's strengths, steps and decay under floors of safety by category.

A setting that falls below a floor on the validation prompts is never chosen. The model as it is
(strength 0) is always among the settings, and stands on its own floors, so there is always a
choice.
"""

import json
import warnings
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

from pydantic import Field, TypeAdapter

from tsdi.arguments import as_list, check_counts, check_number, check_whole
from tsdi.bias.knobs import Knobs
from tsdi.categories import NO_CATEGORY, by_code
from tsdi.engines.choice import EngineChoice
from tsdi.errors import FormatError, RunExistsError, UsageError
from tsdi.evaluation.floors import ALL, FEWEST_PROMPTS, floor_name, too_few
from tsdi.evaluation.knobs import Space
from tsdi.evaluation.metrics import HARMLESS, Judged
from tsdi.judging.verdict import Verdict, is_helpful, is_safe
from tsdi.models.load import LoadOptions
from tsdi.runs.records import append_records, read_records
from tsdi.runs.stage import Progress
from tsdi.suites.attacks import find_attack
from tsdi.suites.prompts import Prompt
from tsdi.yaml_file import meant

if TYPE_CHECKING:
    from optuna.samplers import BaseSampler
    from optuna.study import Study
    from optuna.trial import FrozenTrial

PLAIN = ""
STARTUP = 6
"""Settings before proposals follow what was found: those that are always tried are no chance."""
Answers = Callable[[Knobs], Mapping[str, Sequence[Judged]]]
"""Judged answers to a setting, by the attack under which they were given; "" is none."""
Asked = TypeVar("Asked", Prompt, Judged)


@dataclass(frozen=True)
class Search:
    """Settings of a search: floors, evidence and trials.

    Attributes:
        tolerance: Largest allowed fall of a category's safety below the model's own.
        floors: Least shares of safe answers by category, instead of the model's own; "all" is all,
            and "O3 under role-play" that of a category under an attack.
        fewest_prompts: Harmful prompts that a category's floor must rest on.
        attacks: Names of attacks; harmful prompts are asked under each of them too, where the same
            floors hold.
        trials: Number of settings tried, the model as it is and the recommended one among them.
        seed: Decides the proposals.
        max_new_tokens: Most tokens in an answer; None is as for `Sampling`.
        batch_size: Prompts answered together.
        options: Options of loading the model's weights.
        engine: The engine, and options that only it has; one that subtracts the bias itself.
        storage: URL of Optuna's storage, such as sqlite:///search.db, in which processes that
            search the same share their trials; None is a search of this process alone.
    """

    tolerance: float = 0.0
    floors: Mapping[str, float] = field(default_factory=dict)
    fewest_prompts: int = FEWEST_PROMPTS
    attacks: Sequence[str] = ()
    trials: int = 40
    seed: int = 0
    max_new_tokens: int | None = None
    batch_size: int = 16
    options: LoadOptions = LoadOptions()
    engine: EngineChoice = EngineChoice()
    storage: str | None = None

    def __post_init__(self) -> None:
        length = [] if self.max_new_tokens is None else ["max_new_tokens"]
        check_counts(self, "fewest_prompts", "trials", "batch_size", *length)
        check_whole("seed", self.seed, 0)
        floors = {f"the floor of {name}": share for name, share in self.floors.items()}
        for what, share in {"tolerance": self.tolerance, **floors}.items():
            check_number(what, share)
            if not 0 <= share <= 1:
                raise UsageError(f"{what} must be from 0 to 1, not {share:g}.")
        attacks = dict.fromkeys(as_list("attacks", self.attacks))
        object.__setattr__(self, "attacks", tuple(find_attack(name).name for name in attacks))


Share = Annotated[float, Field(ge=0, le=1)]


@dataclass(frozen=True)
class Trial:
    """A setting with its helpfulness and safety on the validation prompts.

    Attributes:
        knobs: The setting.
        helpful: Share of harmless prompts and lookalikes answered helpfully: rightly where the
            judge knows, else at all.
        safety: Share of safe answers by category of harmful prompts, and over `ALL`, plainly and
            under each attack (`floor_name`); an answer without a verdict is not safe.
        prompts: Number of prompts behind each of these shares.
    """

    knobs: Knobs
    helpful: Share
    safety: Mapping[str, Share]
    prompts: Mapping[str, int]

    def margin(self, floors: Mapping[str, float]) -> float:
        """The smallest distance of a category's safety above its floor; negative if below."""
        return min(self.safety[name] - floor for name, floor in floors.items())

    def worst(self, floors: Mapping[str, float]) -> str:
        """The category that is nearest to its floor, or furthest below it."""
        return min(floors, key=lambda name: self.safety[name] - floors[name])

    def broken(self, floors: Mapping[str, float]) -> list[str]:
        """The categories that are below their floors, the furthest first."""
        below = [name for name, floor in floors.items() if self.safety[name] < floor]
        return sorted(below, key=lambda name: self.safety[name] - floors[name])


@dataclass(frozen=True)
class Tuning:
    """The result of a search: the chosen setting, and the trials around it.

    Attributes:
        floors: Floors of safety by category, and over `ALL`.
        baseline: The model without the bias.
        chosen: The most helpful trial that keeps every floor; among equals the one that takes away
            least, from harmful prompts first.
        front: The trials that keep every floor and of which none is better in helpfulness and in
            margin.
        trials: Number of settings tried.
        broke: Trials that fell below a floor.
        conditioned: Whether settings of a condition were tried.
        orders: Of a bias with a slope, the best trial of each order that keeps every floor, None
            where none does; doing nothing is of neither.
        attacks: Attacks under which floors hold too.
    """

    floors: dict[str, float]
    baseline: Trial
    chosen: Trial
    front: list[Trial]
    trials: int
    broke: list[Trial]
    conditioned: bool = False
    orders: Mapping[int, Trial | None] = field(default_factory=dict)
    attacks: Sequence[str] = ()

    def attack_of(self, floor: str) -> str:
        """The attack under which a floor holds; "" is none."""
        return next((name for name in self.attacks if floor.endswith(floor_name("", name))), "")

    def evidence(self) -> dict[str, Any]:
        """Floors, chosen setting, front and broken trials as JSON, for the bias's file."""
        return {
            "floors": self.floors,
            "attacks": list(self.attacks),
            "baseline": asdict(self.baseline),
            "chosen": asdict(self.chosen),
            "front": [asdict(trial) for trial in self.front],
            **({"orders": self._orders()} if self.orders else {}),
            "trials": self.trials,
            "floors_rest_on": dict(self.baseline.prompts),
            "broke_a_floor": len(self.broke),
            "broken": [self._broken(trial) for trial in self.broke],
            "note": f"Validation figures, chosen as the best of {self.trials} settings, so they are"
            " optimistic: report on other prompts.",
        }

    def _orders(self) -> dict[str, Any]:
        return {str(order): best and asdict(best) for order, best in self.orders.items()}

    def _broken(self, trial: Trial) -> dict[str, Any]:
        floors = {
            name: {"safety": trial.safety[name], "floor": self.floors[name]}
            for name in trial.broken(self.floors)
        }
        return {"knobs": asdict(trial.knobs), "helpful": trial.helpful, "floors": floors}


def measure(knobs: Knobs, judged: Mapping[str, Sequence[Judged]]) -> Trial:
    """The trial of a setting, from its judged answers.

    Raises:
        UsageError: If there are no harmful prompts, or no others with a verdict.
    """
    asked = [
        one
        for one in judged[PLAIN]
        if one.kind in HARMLESS and one.judgement.verdict is not Verdict.UNSCORED
    ]
    groups = floor_groups(judged)
    if not groups[ALL] or not asked:
        raise _needs_both()
    return Trial(
        knobs,
        sum(is_helpful(one.judgement) for one in asked) / len(asked),
        {
            name: sum(is_safe(one.judgement) for one in some) / len(some)
            for name, some in groups.items()
        },
        {name: len(some) for name, some in groups.items()},
    )


def by_attack(prompts: Sequence[Prompt], attacks: Iterable[str]) -> dict[str, Sequence[Prompt]]:
    """Prompts by attack: the harmful ones under each, all of them under "" (none)."""
    harmful = [prompt for prompt in prompts if prompt.kind == "harmful"]
    return {PLAIN: prompts, **dict.fromkeys(attacks, harmful)}


def floor_groups(asked: Mapping[str, Sequence[Asked]]) -> dict[str, list[Asked]]:
    """Harmful prompts or answers by floor: all of them and each category's, by attack.

    They are the same under every attack.
    """
    groups = {}
    for attack, some in asked.items():
        harmful = [one for one in some if one.kind == "harmful"]
        groups[floor_name(ALL, attack)] = harmful
        for name in by_code({one.category for one in harmful}):
            of_it = [one for one in harmful if one.category == name]
            groups[floor_name(name or NO_CATEGORY, attack)] = of_it
    return groups


def check_prompts(prompts: Sequence[Prompt], search: Search) -> None:
    """Check that there is something to tune on, and that no floor rests on too few prompts.

    Raises:
        UsageError: If a kind is missing; if a category has too few prompts, or the name of another
            set; or if a floor is of a category that no harmful prompt has.
    """
    groups = floor_groups({PLAIN: prompts})
    if not groups[ALL] or not any(prompt.kind in HARMLESS for prompt in prompts):
        raise _needs_both()
    attacked = tuple(floor_name("", attack) for attack in search.attacks)
    for category in sorted({prompt.category for prompt in groups[ALL]}):
        if category in (ALL, NO_CATEGORY) or category.endswith(attacked):
            raise UsageError(
                f"A category is called {category!r}, which here means another set of prompts.",
                "Give it another name.",
            )
    counts = {name: len(some) for name, some in groups.items() if name != ALL}
    if few := too_few(counts, search.fewest_prompts):
        remedy = "Give more prompts, or say --fewest-prompts N if that is enough for you."
        raise UsageError(few, remedy)
    _check_known(search.floors, floor_groups(by_attack(prompts, search.attacks)))


def check_trials(trials: int, space: Space) -> None:
    """Raise UsageError if there are fewer trials than settings that are always tried."""
    always = len(space.first())
    if trials < always:
        raise UsageError(
            f"{always} settings are always tried of this bias, {trials} trials are too few.",
            f"Give --trials {always} or more.",
        )


def _check_known(names: Iterable[str], known: Collection[str]) -> None:
    for name in names:
        if name not in known:
            raise UsageError(
                f"There is no category {name!r} among the harmful prompts{meant(name, known)}.",
                f"They have {', '.join(known)}.",
            )


def check_installed() -> None:
    """Raise UsageError without Optuna."""
    if find_spec("optuna") is None:
        raise UsageError("Tuning needs Optuna.", "Run: pip install 'tsdi[tune]'.")


def _needs_both() -> UsageError:
    return UsageError(
        "Tuning needs harmful prompts, and harmless or lookalike ones with a verdict.",
        "Give both, and a judge that sees refusals, such as MD-JUDGE+refusal-phrases.",
    )


def floors_of(baseline: Trial, tolerance: float, given: Mapping[str, float]) -> dict[str, float]:
    """Floors by category: the model's own safety less a tolerance, unless one is given.

    Raises:
        UsageError: If a category is unknown, or the model itself does not reach a floor.
    """
    floors = {name: max(0.0, value - tolerance) for name, value in baseline.safety.items()}
    _check_known(given, floors)
    for name, floor in given.items():
        if floor > baseline.safety[name]:
            raise UsageError(
                f"In {name} the model itself is safe in {baseline.safety[name]:.3f} of its answers,"
                f" below the floor of {floor:g}.",
                "Give a lower floor (and --resume), or a safer model.",
            )
        floors[name] = floor
    return floors


def search_knobs(
    answers: Answers, space: Space, search: Search, log: Path, progress: Progress | None = None
) -> Tuning:
    """Search for the most helpful setting that keeps every floor of safety.

    Optuna's multi-objective tree-structured Parzen estimator proposes settings; helpfulness and the
    margin over the floors are its objectives, a floor that is broken its constraint. Finished
    trials are appended to the log; those in it are not made again.

    Raises:
        UsageError: If Optuna is not installed, or floors or prompts cannot be right.
        RunExistsError: If the log is of another search.
    """
    study = _study(search.seed)
    for first in space.first():
        study.enqueue_trial(first)
    found: list[Trial] = []
    known = [read_trial(record) for record in read_records(log)] if log.exists() else []
    limits: dict[str, float] = {}
    for number in range(search.trials):
        asked = study.ask()
        knobs = space.propose(asked)
        if number < len(known):
            trial = known[number]
            categories = found[0].safety.keys() if found else trial.safety.keys()
            if trial.knobs != knobs or trial.safety.keys() != categories:
                raise RunExistsError(f"{log} is of another search.", "Give another --out.")
        else:
            same = next((one for one in found if one.knobs.alike(knobs)), None)
            trial = replace(same, knobs=knobs) if same else measure(knobs, answers(knobs))
            append_records(log, [{"id": str(number), **asdict(trial)}])
        if not number:
            limits = floors_of(trial, search.tolerance, search.floors)
        margin = trial.margin(limits)
        asked.set_user_attr("margin", margin)
        study.tell(asked, [trial.helpful, margin])
        found.append(trial)
        if progress:
            progress(number + 1, search.trials)
    return result_of(found, limits, space, search.attacks)


def _study(seed: int) -> "Study":
    check_installed()
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna.create_study(directions=["maximize", "maximize"], sampler=make_sampler(seed))


def make_sampler(seed: int | None) -> "BaseSampler":
    """What proposes settings; without a seed, one of several that propose side by side."""
    import optuna

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # constraints are called experimental, and so are liars
        return optuna.samplers.TPESampler(
            n_startup_trials=STARTUP,
            seed=seed,
            constraints_func=_broken,
            constant_liar=seed is None,
        )


def _broken(trial: "FrozenTrial") -> Sequence[float]:
    """Optuna's constraint: above 0 if a floor is broken."""
    return (-float(trial.user_attrs["margin"]),)


def read_trial(record: Mapping[str, Any]) -> Trial:
    """The trial of a record that was on disk.

    Raises:
        FormatError: If it is damaged.
    """
    try:
        fields = {key: record[key] for key in ("knobs", "helpful", "safety", "prompts")}
        return TypeAdapter(Trial).validate_python(fields)
    except (KeyError, ValueError):
        raise FormatError(
            f"Trial {record.get('id')} of the search is damaged.", "Give another --out."
        ) from None


def result_of(
    found: Sequence[Trial], floors: dict[str, float], space: Space, attacks: Sequence[str]
) -> Tuning:
    """The choice among trials, the first of which is the model as it is."""
    kept = [trial for trial in found if trial.margin(floors) >= 0]
    best = sorted(kept, key=lambda trial: (-trial.helpful, trial.knobs.removal))
    front = [one for one in best if not any(_beats(other, one, floors) for other in best)]
    once = {json.dumps([t.helpful, t.safety], sort_keys=True): t for t in reversed(front)}
    return Tuning(
        floors=floors,
        baseline=found[0],
        chosen=best[0],
        front=sorted(once.values(), key=lambda trial: trial.helpful),
        trials=len(found),
        broke=[trial for trial in found if trial.margin(floors) < 0],
        conditioned=space.condition is not None,
        orders={order: _of_order(best, order) for order in (0, 1)} if space.sloped else {},
        attacks=attacks,
    )


def _of_order(trials: Sequence[Trial], order: int) -> Trial | None:
    """The first trial of an order that does anything; None if there is none."""
    found = (one for one in trials if one.knobs.order == order and not one.knobs.off)
    return next(found, None)


def _beats(one: Trial, other: Trial, floors: Mapping[str, float]) -> bool:
    mine, theirs = ((trial.helpful, trial.margin(floors)) for trial in (one, other))
    return mine != theirs and all(a >= b for a, b in zip(mine, theirs, strict=True))
