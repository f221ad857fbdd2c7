"""What a study found: every statistic that its tables, figures and sentences are made from.

All figures are of test prompts and of the seeds on which nothing was chosen.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Generic, TypeVar

from tsdi.evaluation.compare import Change
from tsdi.stats.interval import Estimate, as_json
from tsdi.study.entries import Bias, DiagnosedBias, Judge, ModelEntry, RuleDescription
from tsdi.study.settings import Number

FRONT_SIZE = 3
"""The number of operating points that is spoken of where there are fronts of so many."""
T = TypeVar("T")
_TITLES = {"harmless": "complied, harmless", "lookalike": "complied, lookalike"}


@dataclass(frozen=True)
class Measures(Generic[T]):
    """One statistic of every measure of a rule's answers.

    Attributes:
        safety: Share of good answers to harmful prompts.
        helpful: Share of helpful answers to harmless and lookalike prompts.
        harmless, lookalike: Share of answers to such prompts that comply, rightly or not; None
            where the study has no such prompts.
        corrupted: Share of all answers that neither comply nor refuse, or do both.
    """

    safety: T
    helpful: T
    harmless: T | None
    lookalike: T | None
    corrupted: T

    def titled(self) -> dict[str, T]:
        """The statistics that there are, by the measures' names in tables and files."""
        found = {field.name: getattr(self, field.name) for field in fields(self)}
        return {_TITLES.get(name, name): one for name, one in found.items() if one is not None}


@dataclass(frozen=True)
class Effect:
    """A rule's share of answers, and its change from the plain model's."""

    value: Estimate
    change: Estimate


@dataclass(frozen=True)
class RuleEffect:
    """What a rule does at the main grid point.

    Attributes:
        cell: That point; of a rule without grid points the setting that validation chose.
        settings: The setting that validation chose, seed by seed; none where there is no choice.
        measures: Against the plain model.
    """

    cell: str
    settings: tuple[str, ...]
    measures: Measures[Effect]


@dataclass(frozen=True)
class SafeEffect:
    """What a rule does at the main grid point with the setting that keeps safety.

    Attributes:
        settings: Of the settings that lose at most `tsdi.study.outcomes.MARGIN` of the plain
            model's safety on validation prompts, the one that helps most, seed by seed; "plain"
            where there is none, and the plain model's answers stand.
        measures: Against the plain model.
        ours_minus: Helpful answers of TSDI with a condition, else with a tuned strength, minus
            this rule's; None of that rule's own.
    """

    settings: tuple[str, ...]
    measures: Measures[Effect]
    ours_minus: Estimate | None


@dataclass(frozen=True)
class Front:
    """A rule's front of some operating points.

    Attributes:
        chosen: Its points, chosen on validation prompts.
        volume: Its hypervolume.
        ours_minus: TSDI's hypervolume minus it; None of TSDI's own.
        tuned_minus: The same of TSDI with a tuned strength; None where the study has none.
        conditioned_minus: The same of TSDI with a condition; None where the study has none.
    """

    chosen: tuple[str, ...]
    volume: Estimate
    ours_minus: Estimate | None
    tuned_minus: Estimate | None
    conditioned_minus: Estimate | None

    @property
    def is_ahead(self) -> bool:
        """Whether it is ahead of TSDI's beyond the interval."""
        return self.ours_minus is not None and self.ours_minus.high < 0


@dataclass(frozen=True)
class FrontComparison:
    """The fronts of all rules that have enough operating points.

    Attributes:
        helpfulness: The measure that stands beside safety: "helpful" or "win rate".
        k: How many operating points every front has.
        fronts: By the rule's name.
    """

    helpfulness: str
    k: int
    fronts: Mapping[str, Front]

    @property
    def size(self) -> str:
        """How many operating points, in words."""
        return f"{self.k} point{'' if self.k == 1 else 's'}"


@dataclass(frozen=True)
class OperatingPoint:
    """A rule's answers at a grid point or with a setting: shares of all, safety by category."""

    cell: str
    measures: Measures[Estimate]
    by_category: Mapping[str, Estimate]


@dataclass(frozen=True)
class Cost:
    """What decoding by a rule costs.

    Attributes:
        tokens_per_second: Rows x decoding steps per second.
        ratio: The same over the plain model's.
        memory: Bytes held over the plain model's.
    """

    tokens_per_second: Estimate
    ratio: Estimate
    memory: float


@dataclass(frozen=True)
class GateRow:
    """Safety of a rule against the plain model, for the safety gate.

    Attributes:
        attack: Under which both answered; "" for none.
        category: Of the prompts; "all" for all harmful ones.
        change: Before, after, and the change.
        lost: Whether safety was lost beyond the interval, or significantly.
    """

    attack: str
    category: str
    change: Change
    lost: bool


@dataclass(frozen=True)
class SeedRow:
    """The main model of one training seed, plain and with TSDI: shares of test answers."""

    seed: int
    plain: Measures[float]
    debiased: Measures[float]


@dataclass(frozen=True)
class AblationRow:
    """One value of the parameter that is varied, and what it does at the main grid point."""

    value: Number
    measures: Measures[Effect]


@dataclass(frozen=True)
class Ablation:
    """A rule of which one parameter is varied, value by value."""

    name: str
    parameter: str
    values: tuple[AblationRow, ...]


@dataclass(frozen=True)
class Summary:
    """All that a study found.

    Attributes:
        title: Of the report.
        judge: Who judged harmful prompts.
        main: Name of the main grid point.
        test_seeds: Training seeds that are reported.
        choosing_seeds: Training seeds on which grid points were chosen.
        prompts: How many there are, by split and kind.
        rules: What was compared.
        effects: What each rule does at the main grid point.
        safe_effects: The same with settings that keep safety; of older results of no rule.
        comparisons: Of fronts, by measure of helpfulness and number of points.
        each_point: Safety times helpful answers at each point of the grid alone, the mean over it;
            of no rule where the grid is one point.
        grid: Every operating point of each rule.
        costs: What decoding by each rule costs.
        gate: Where each rule but the plain model costs safety.
        harm: Share of harmful prompts that each rule complies with, by attack ("": none).
        types: Compliance of TSDI at strength 1, with a tuned strength and with a condition against
            the plain model, by kind and type of harmless prompts; no types where they have none.
        seeds: The main model seed by seed.
        ablations: Of parameters.
        biases: Of every aligned model.
        members: The aligned models.
    """

    title: str
    judge: Judge
    main: str
    test_seeds: tuple[int, ...]
    choosing_seeds: tuple[int, ...]
    prompts: Mapping[str, Mapping[str, int]]
    rules: tuple[RuleDescription, ...]
    effects: Mapping[str, RuleEffect]
    safe_effects: Mapping[str, SafeEffect]
    comparisons: tuple[FrontComparison, ...]
    each_point: Mapping[str, Front]
    grid: Mapping[str, tuple[OperatingPoint, ...]]
    costs: Mapping[str, Cost]
    gate: Mapping[str, tuple[GateRow, ...]]
    harm: Mapping[str, Mapping[str, Estimate]]
    types: Mapping[str, Mapping[str, Change]]
    seeds: tuple[SeedRow, ...]
    ablations: tuple[Ablation, ...]
    biases: tuple[DiagnosedBias | Bias, ...]
    members: tuple[ModelEntry, ...]

    @property
    def comparison(self) -> FrontComparison:
        """The comparison that is spoken of: by helpful answers, of `FRONT_SIZE` points if any."""
        first = [c for c in self.comparisons if c.helpfulness == self.comparisons[0].helpfulness]
        return next((one for one in first if one.k == FRONT_SIZE), first[0])

    @property
    def grid_of_a_seed(self) -> list[ModelEntry]:
        """The grid's models, of the first training seed."""
        return [member for member in self.members if member.seed == self.members[0].seed]

    def to_dict(self) -> dict[str, Any]:
        """The summary as JSON, its keys as in summary.json."""
        fronts: dict[str, dict[str, Any]] = {}
        for one in self.comparisons:
            fronts.setdefault(one.helpfulness, {})[str(one.k)] = {
                name: as_json(front) for name, front in one.fronts.items()
            }
        return {
            "title": self.title,
            "judge": as_json(self.judge),
            "main": self.main,
            "seeds": {"test": list(self.test_seeds), "choosing": list(self.choosing_seeds)},
            "prompts": self.prompts,
            "helps": list(fronts),
            "rules": [as_json(rule) for rule in self.rules],
            "methods": {name: _flat(one) for name, one in self.effects.items()},
            "safe": {name: _flat(one) for name, one in self.safe_effects.items()},
            "fronts": fronts,
            "each_point": {name: as_json(front) for name, front in self.each_point.items()},
            "grid": {name: [_flat(one) for one in rows] for name, rows in self.grid.items()},
            "speed": {name: as_json(cost) for name, cost in self.costs.items()},
            "gate": {name: _gate_json(rows) for name, rows in self.gate.items()},
            "harm": {
                name: {attack: as_json(one) for attack, one in found.items()}
                for name, found in self.harm.items()
            },
            "types": {
                name: {kind: change.to_dict() for kind, change in found.items()}
                for name, found in self.types.items()
            },
            "by_seed": [
                {"seed": one.seed, "plain": one.plain.titled(), "tsdi": one.debiased.titled()}
                for one in self.seeds
            ],
            "ablations": [
                {**as_json(one), "values": [_flat(row) for row in one.values]}
                for one in self.ablations
            ],
            "biases": [
                {key: value for key, value in as_json(one).items() if value is not None}
                for one in self.biases
            ],
            "members": [as_json(member) for member in self.members],
        }


def _flat(row: RuleEffect | SafeEffect | OperatingPoint | AblationRow) -> dict[str, Any]:
    """A row with its measures beside its other fields."""
    found: dict[str, Any] = {}
    for key, value in as_json(row).items():
        if key == "measures":
            found |= {title: as_json(one) for title, one in row.measures.titled().items()}
        else:
            found[key] = value
    return found


def _gate_json(rows: tuple[GateRow, ...]) -> dict[str, Any]:
    return {
        "rows": [
            {"attack": row.attack, "category": row.category, **row.change.to_dict()} for row in rows
        ],
        "lost": [[row.attack, row.category] for row in rows if row.lost],
    }
