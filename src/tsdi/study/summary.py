"""The summary of a study: every statistic behind its tables, figures and sentences.

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
    """One statistic for each measure of a rule's answers.

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
        """The statistics by the measures' titles, without those that are None."""
        found = {field.name: getattr(self, field.name) for field in fields(self)}
        return {_TITLES.get(name, name): one for name, one in found.items() if one is not None}


@dataclass(frozen=True)
class Effect:
    """A rule's share of answers, and its change from the plain model's."""

    value: Estimate
    change: Estimate


@dataclass(frozen=True)
class RuleEffect:
    """The effect of a rule at the main grid point.

    Attributes:
        cell: That point; of a rule without grid points the setting that validation chose.
        settings: The setting that validation chose, seed by seed; none where there is no choice.
        measures: Shares, and changes from the plain model.
    """

    cell: str
    settings: tuple[str, ...]
    measures: Measures[Effect]


@dataclass(frozen=True)
class SafeEffect:
    """The effect of a rule at the main grid point, with settings that keep safety.

    Attributes:
        settings: Of the settings that lose at most `tsdi.study.outcomes.MARGIN` of the plain
            model's safety on validation prompts, the one that helps most, seed by seed; "plain"
            where there is none, and the plain model's answers stand.
        measures: Shares, and changes from the plain model.
        ours_minus: Helpful answers of TSDI with a condition, else with a tuned strength, minus
            this rule's; None of that rule's own.
    """

    settings: tuple[str, ...]
    measures: Measures[Effect]
    ours_minus: Estimate | None


@dataclass(frozen=True)
class Front:
    """A rule's front: chosen operating points and their hypervolume.

    Attributes:
        chosen: Its points, chosen on validation prompts.
        volume: Its hypervolume.
        ours_minus: TSDI's hypervolume minus it; None of TSDI's own.
        tuned_minus: Hypervolume of TSDI with a tuned strength minus it; None without such a rule.
        conditioned_minus: Hypervolume of TSDI with a condition minus it; None without one.
    """

    chosen: tuple[str, ...]
    volume: Estimate
    ours_minus: Estimate | None
    tuned_minus: Estimate | None
    conditioned_minus: Estimate | None

    @property
    def is_ahead(self) -> bool:
        """Whether its hypervolume exceeds TSDI's beyond the interval."""
        return self.ours_minus is not None and self.ours_minus.high < 0


@dataclass(frozen=True)
class FrontComparison:
    """The fronts of all rules that have at least k operating points.

    Attributes:
        helpfulness: The measure that stands beside safety: "helpful" or "win rate".
        k: Number of operating points of every front.
        fronts: Fronts by the rule's name.
    """

    helpfulness: str
    k: int
    fronts: Mapping[str, Front]

    @property
    def size(self) -> str:
        """The number of operating points in words, such as "3 points"."""
        return f"{self.k} point{'' if self.k == 1 else 's'}"


@dataclass(frozen=True)
class OperatingPoint:
    """Shares of a rule's answers at one operating point, and safety by category."""

    cell: str
    measures: Measures[Estimate]
    by_category: Mapping[str, Estimate]


@dataclass(frozen=True)
class Cost:
    """Speed and memory of decoding by a rule.

    Attributes:
        tokens_per_second: Rows x decoding steps per second.
        ratio: Speed relative to the plain model's.
        memory: Bytes held over the plain model's.
    """

    tokens_per_second: Estimate
    ratio: Estimate
    memory: float


@dataclass(frozen=True)
class GateRow:
    """Change of safety from the plain model to a rule, in one category under one attack.

    Attributes:
        attack: Attack on the prompts; "" for none.
        category: Category of the prompts; "all" for all harmful ones.
        change: Before, after, and the change.
        lost: Whether safety was lost beyond the interval, or significantly.
    """

    attack: str
    category: str
    change: Change
    lost: bool


@dataclass(frozen=True)
class SeedRow:
    """Shares of test answers of one seed's main model, plain and with TSDI."""

    seed: int
    plain: Measures[float]
    debiased: Measures[float]


@dataclass(frozen=True)
class AblationRow:
    """The effect of one value of a varied parameter, at the main grid point."""

    value: Number
    measures: Measures[Effect]


@dataclass(frozen=True)
class Ablation:
    """The effects of a rule at every value of one parameter."""

    name: str
    parameter: str
    values: tuple[AblationRow, ...]


@dataclass(frozen=True)
class Summary:
    """All statistics of a study.

    Attributes:
        title: Title of the report.
        judge: The judge of harmful prompts.
        main: Name of the main grid point.
        test_seeds: Training seeds that are reported.
        choosing_seeds: Training seeds on which grid points were chosen.
        prompts: Number of prompts, by split and kind.
        rules: Rules that were compared.
        effects: Effect of each rule at the main grid point.
        safe_effects: Effects with settings that keep safety; empty for older results.
        comparisons: Comparisons of fronts, by measure of helpfulness and number of points.
        each_point: Safety times helpful answers at a single grid point, mean over the grid; empty
            where the grid is one point.
        grid: Every operating point of each rule.
        costs: Speed and memory of each rule.
        gate: Changes of safety by each rule but the plain model.
        harm: Share of harmful prompts that each rule complies with, by attack ("": none).
        types: Compliance of TSDI at strength 1, with a tuned strength and with a condition against
            the plain model, by kind and type of harmless prompts; no types where they have none.
        seeds: The main model seed by seed.
        ablations: Ablations of parameters.
        biases: Shifts by the bias of every aligned model.
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
        """The main comparison: by helpful answers, at `FRONT_SIZE` points if there is one."""
        first = [c for c in self.comparisons if c.helpfulness == self.comparisons[0].helpfulness]
        return next((one for one in first if one.k == FRONT_SIZE), first[0])

    @property
    def grid_of_a_seed(self) -> list[ModelEntry]:
        """The grid's models of the first training seed."""
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
