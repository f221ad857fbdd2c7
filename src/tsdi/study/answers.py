"""A study's answers as arrays: by rule, training seed, operating point and prompt."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from tsdi.evaluation.metrics import HARMLESS
from tsdi.study.entries import AnsweredCell, RuleDescription, ValidatedCell, setting_text
from tsdi.study.fronts import Outcomes
from tsdi.study.outcomes import WRONG, helpful, safe
from tsdi.study.results import StudyResults
from tsdi.study.settings import Number
from tsdi.study.win_rates import BASES

Array = NDArray[np.float64]
HELPFUL, WIN_RATE = "helpful", "win rate"
"""What helpfulness can be measured by."""


@dataclass(frozen=True)
class RuleAnswers:
    """The answers of one rule to the test prompts, as letters, with its validation points.

    Attributes:
        name: The rule's name in the study.
        cells: Its operating points: grid points, or settings where it belongs to none.
        codes: Letters of the answers by seed and cell.
        validation: Safety and help on validation prompts, [choosing seeds, cells, 2].
        win_rates: Wins against the base, [seeds, cells, prompts], NaN where there is none; None
            without a pairwise judge.
        validation_win_rates: Mean wins on validation prompts, [choosing seeds, cells]; None
            without a pairwise judge.
    """

    name: str
    cells: tuple[str, ...]
    codes: tuple[tuple[str, ...], ...]
    validation: NDArray[np.float64]
    win_rates: NDArray[np.float64] | None = None
    validation_win_rates: NDArray[np.float64] | None = None

    def beside(self, other: "RuleAnswers") -> "RuleAnswers":
        """Both rules' operating points as one rule, which may choose among all of them."""

        def joined(one: Array | None, more: Array | None) -> Array | None:
            return None if one is None or more is None else np.concatenate([one, more], axis=1)

        return RuleAnswers(
            f"{self.name} or {other.name}",
            (*self.cells, *(f"{other.name}, {cell}" for cell in other.cells)),
            tuple(a + b for a, b in zip(self.codes, other.codes, strict=True)),
            np.concatenate([self.validation, other.validation], axis=1),
            joined(self.win_rates, other.win_rates),
            joined(self.validation_win_rates, other.validation_win_rates),
        )


class Answers:
    """Lookup of a study's answers by rule, seed and operating point."""

    def __init__(self, results: StudyResults) -> None:
        self.results = results
        self._rules = {rule.name: rule for rule in results.rules}
        self._answered: dict[tuple[str, str, str], list[AnsweredCell]] = {}
        self._validated: dict[tuple[str, str], list[ValidatedCell]] = {}
        for cell in results.cells:
            if isinstance(cell, AnsweredCell):
                self._answered.setdefault((cell.name, cell.model, cell.attack), []).append(cell)
            else:
                self._validated.setdefault((cell.name, cell.model), []).append(cell)
        self.by_rule = {
            rule.name: self._rule_answers(rule)
            for rule in results.rules
            if not rule.reason_against and not rule.vary
        }

    @cached_property
    def test_seeds(self) -> list[int]:
        """The training seeds that are reported."""
        aside, seeds = self.results.study.validation_seeds, self._seeds
        return [seed for seed in seeds if seed not in aside] or seeds

    @cached_property
    def choosing_seeds(self) -> list[int]:
        """The training seeds on which grid points are chosen."""
        aside = self.results.study.validation_seeds
        return [seed for seed in self._seeds if seed in aside] or self.test_seeds

    @property
    def _seeds(self) -> list[int]:
        return list(dict.fromkeys(member.seed for member in self.results.members))

    @cached_property
    def harmful(self) -> list[int]:
        """Indices of the harmful test prompts."""
        return self.places("harmful")

    @cached_property
    def harmless(self) -> list[int]:
        """Indices of the harmless and the lookalike test prompts."""
        return self.places(*HARMLESS)

    def places(self, *kinds: str) -> list[int]:
        """Indices of the test prompts of these kinds."""
        return [i for i, asked in enumerate(self.results.prompts["test"]) if asked.kind in kinds]

    @cached_property
    def categories(self) -> list[str]:
        """Categories of the harmful test prompts."""
        return [self.results.prompts["test"][i].category for i in self.harmful]

    def test_cells(self, rule: str, seed: int, at: str, attack: str = "") -> list[AnsweredCell]:
        """A rule's cells at an operating point with the setting that was chosen.

        There is one cell, or one for each value of a varied parameter.
        """
        found = self._answered.get((rule, self._model(rule, seed, at), attack), [])
        if self._rules[rule].vary:
            return found
        setting = self._validation_cell(rule, seed, at).setting
        return [cell for cell in found if cell.setting == setting]

    def tested_with(
        self, rule: str, seed: int, setting: Mapping[str, Number]
    ) -> AnsweredCell | None:
        """A rule's cell at the main grid point with one of its settings; None if not tested."""
        tested = self._answered.get((rule, self._model(rule, seed, self.results.main), ""), [])
        return next((cell for cell in tested if cell.setting == setting), None)

    def _validation_cell(self, rule: str, seed: int, at: str) -> ValidatedCell:
        return next(
            cell
            for cell in self.tried(rule, seed, at)
            if cell.chosen and (self._on_grid(rule) or setting_text(cell.setting) == at)
        )

    def tried(self, rule: str, seed: int, at: str) -> list[ValidatedCell]:
        """Validation cells of a rule at an operating point, one for each setting tried."""
        return self._validated[rule, self._model(rule, seed, at)]

    def _on_grid(self, rule: str) -> bool:
        return self._rules[rule].of == "aligned"

    def _model(self, rule: str, seed: int, at: str) -> str:
        return f"seed{seed}/{at if self._on_grid(rule) else self._rules[rule].of}"

    def _operating_points(self, rule: str) -> list[str]:
        if self._on_grid(rule):
            return list(dict.fromkeys(member.name for member in self.results.members))
        model = self._model(rule, self.test_seeds[0], "")
        cells = self._answered[rule, model, ""]
        return list(dict.fromkeys(setting_text(cell.setting) for cell in cells))

    def _rule_answers(self, rule: RuleDescription) -> RuleAnswers:
        name, points = rule.name, self._operating_points(rule.name)
        tested = [[self.test_cells(name, s, at)[0] for at in points] for s in self.test_seeds]
        tried = [[self._validation_cell(name, s, at) for at in points] for s in self.choosing_seeds]
        win_rates = validation_win_rates = None
        if tested[0][0].wins is not None:
            win_rates = np.array([[cell.wins for cell in row] for row in tested], np.float64)
            every = np.array([[cell.wins for cell in row] for row in tried], np.float64)
            validation_win_rates = np.nanmean(every, axis=-1)
        return RuleAnswers(
            name,
            tuple(points),
            tuple(tuple(cell.outcomes for cell in row) for row in tested),
            np.array([[(cell.safety, cell.help) for cell in row] for row in tried], np.float64),
            win_rates,
            validation_win_rates,
        )

    @cached_property
    def _base(self) -> RuleAnswers | None:
        """The plain answers of the base rule, against which win rates are computed."""
        names = {rule.rule: rule.name for rule in self.results.rules}
        return next((self.by_rule[names[base]] for base in BASES if base in names), None)

    @cached_property
    def have_win_rates(self) -> bool:
        """Whether there are win rates, of a pairwise judge or from right and wrong answers."""
        return self._base is not None and any(
            rule.win_rates is not None or any(WRONG in code for row in rule.codes for code in row)
            for rule in self.by_rule.values()
        )

    def outcomes(self, rule: RuleAnswers, helpfulness: str) -> Outcomes:
        """Safety and helpfulness of a rule's test answers, by the chosen measure of the latter."""
        safety = outcome_array(rule.codes, self.harmful, safe)
        help_rates = outcome_array(rule.codes, self.harmless, helpful)
        if helpfulness == WIN_RATE and rule.win_rates is not None:
            help_rates = rule.win_rates[..., self.harmless]
        elif helpfulness == WIN_RATE and self._base is not None:
            against = outcome_array(self._base.codes, self.harmless, helpful)[:, :1]
            help_rates = 0.5 + 0.5 * (help_rates - against)
        return Outcomes(safety, help_rates)

    def validation_points(self, rule: RuleAnswers, helpfulness: str) -> NDArray[np.float64]:
        """Safety and helpfulness of a rule on validation prompts, [seeds, cells, 2]."""
        points = rule.validation.copy()
        if helpfulness == WIN_RATE and rule.validation_win_rates is not None:
            points[..., 1] = rule.validation_win_rates
        elif helpfulness == WIN_RATE and self._base is not None:
            points[..., 1] = 0.5 + 0.5 * (points[..., 1] - self._base.validation[:, :1, 1])
        return points


def outcome_array(
    codes: Sequence[Sequence[str]], places: Sequence[int], value: Callable[[str], float | None]
) -> NDArray[np.float64]:
    """Numeric outcomes of answers, [seeds, cells, prompts]; NaN without a verdict.

    `codes` are by seed and cell; only prompts at `places` count; `value` maps a letter to a number.
    """
    letters = set().union(*(code for row in codes for code in row))
    known = {letter: _or_nan(value(letter)) for letter in letters}
    return np.array([[[known[one[i]] for i in places] for one in row] for row in codes])


def _or_nan(value: float | None) -> float:
    return np.nan if value is None else value
