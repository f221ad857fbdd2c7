"""Paired comparisons of a study's test answers between models and between rules.

Every comparison is on the same test prompts and training seeds (`tsdi.study.fronts.mean_change`);
rivals are chosen on validation prompts.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tsdi.evaluation.compare import Change
from tsdi.evaluation.metrics import HARMLESS
from tsdi.study.answers import Answers
from tsdi.study.fronts import mean_change
from tsdi.study.outcomes import complied, safe
from tsdi.study.summarise import OURS, PLAIN, Measure, at_main, every_measure, outcomes_of
from tsdi.study.summary import Measures

Codes = Sequence[str]
"""The letters of the answers to all test prompts, one text for each training seed."""
REFERENCE = "reference"
EQUAL = 0.02  # of helpful answers on validation prompts: as helpful


@dataclass(frozen=True)
class Contrast:
    """The changes of all measures from one model or rule to another.

    After the change it is `name`, before it `against`; `weakest` is the change of safety in the
    study's weakest category.
    """

    name: str
    against: str
    measures: Measures[Change]
    weakest: Change


@dataclass(frozen=True)
class SourceContrast:
    """The changes on one source's prompts of a kind, at the main grid point.

    Attributes:
        source: The source's name.
        kind: The prompts' kind: safe answers are counted of harmful ones, else compliance.
        alignment: Aligned against reference; None without a reference.
        debiasing: Debiased against aligned.
    """

    source: str
    kind: str
    alignment: Change | None
    debiasing: Change


@dataclass(frozen=True)
class Contrasts:
    """All comparisons of a study.

    Attributes:
        weakest: The category of harmful prompts in which the reference is least often safe (the
            plain models, where the study has no reference): chosen without a look at debiasing.
        lost: Every grid point's aligned model against the reference; empty without one.
        returned: Every grid point debiased, against its aligned model.
        as_helpful: Every grid point debiased, against the plain model that is safest on validation
            prompts of those that help as much there; grid points without such a model are missing.
        rivals: TSDI against every other rule, at the main grid point.
        training: Changes by more iterations and by a smaller beta, at the ends of the grid.
        sources: Changes by source and kind of the test prompts.
    """

    weakest: str
    lost: tuple[Contrast, ...]
    returned: tuple[Contrast, ...]
    as_helpful: tuple[Contrast, ...]
    rivals: tuple[Contrast, ...]
    training: tuple[Contrast, ...]
    sources: tuple[SourceContrast, ...]


def contrasts(answers: Answers) -> Contrasts:
    """Every comparison of a study's answers."""
    return _Compared(answers).all()


class _Compared:
    """Computes the comparisons from a study's answers."""

    def __init__(self, answers: Answers) -> None:
        self._answers, self._rules = answers, answers.by_rule
        self._weakest, self._weak_places = self._weakest_category()

    def all(self) -> Contrasts:
        grid = self._rules[PLAIN].cells
        plain = {cell: self._codes(PLAIN, cell) for cell in grid}
        debiased = {cell: self._codes(OURS, cell) for cell in grid}
        before = self._at_main(REFERENCE) if REFERENCE in self._rules else None
        return Contrasts(
            self._weakest,
            tuple(self._contrast(cell, REFERENCE, before, plain[cell]) for cell in grid if before),
            tuple(self._contrast(cell, cell, plain[cell], debiased[cell]) for cell in grid),
            tuple(found for cell in grid if (found := self._as_helpful(cell, debiased[cell]))),
            tuple(
                self._contrast(OURS, rule, self._at_main(rule), self._at_main(OURS))
                for rule in self._rules
                if rule != OURS
            ),
            tuple(self._training(plain)),
            tuple(self._sources()),
        )

    def _codes(self, rule: str, cell: str) -> Codes:
        found = self._rules[rule]
        place = found.cells.index(cell)
        return [row[place] for row in found.codes]

    def _at_main(self, rule: str) -> Codes:
        place = at_main(self._answers, self._rules[rule])
        return [row[place] for row in self._rules[rule].codes]

    def _contrast(self, name: str, against: str, before: Codes, after: Codes) -> Contrast:
        return Contrast(
            name,
            against,
            every_measure(self._answers, lambda measure: _change(before, after, measure)),
            _change(before, after, (self._weak_places, safe)),
        )

    def _weakest_category(self) -> tuple[str, list[int]]:
        places: dict[str, list[int]] = {}
        for place, category in zip(self._answers.harmful, self._answers.categories, strict=True):
            places.setdefault(category, []).append(place)
        rule = self._rules[REFERENCE if REFERENCE in self._rules else PLAIN]
        codes = [code for row in rule.codes for code in row]
        safety = {category: _mean(codes, (own, safe)) for category, own in places.items()}
        weakest = min(safety, key=lambda category: safety[category])
        return weakest, places[weakest]

    def _as_helpful(self, cell: str, debiased: Codes) -> Contrast | None:
        ours = self._rules[OURS]
        wanted = ours.validation[:, ours.cells.index(cell), 1].mean() - EQUAL
        rivals = [
            (safety, rule, rival)
            for rule in (PLAIN, REFERENCE)
            if rule in self._rules
            for rival, (safety, help_) in zip(
                self._rules[rule].cells, self._rules[rule].validation.mean(0), strict=True
            )
            if help_ >= wanted
        ]
        if not rivals:
            return None
        _, rule, rival = max(rivals, key=lambda one: one[0])
        shown = REFERENCE if rule == REFERENCE else rival
        return self._contrast(cell, shown, self._codes(rule, rival), debiased)

    def _training(self, plain: dict[str, Codes]) -> list[Contrast]:
        """Changes by more iterations and by a smaller beta, at the ends of the grid."""
        members = {
            (one.beta, one.iterations): one.name
            for one in self._answers.results.members
            if one.beta is not None and one.iterations is not None
        }
        betas = sorted({beta for beta, _ in members})
        steps = sorted({iterations for _, iterations in members})
        if len(members) != len(plain) or len(members) != len(betas) * len(steps):
            return []  # a grid of more than the two, or with holes
        ends = [((beta, steps[0]), (beta, steps[-1])) for beta in (betas[0], betas[-1])]
        ends += [((betas[-1], step), (betas[0], step)) for step in (steps[0], steps[-1])]
        named = [(members[before], members[after]) for before, after in dict.fromkeys(ends)]
        return [
            self._contrast(after, before, plain[before], plain[after])
            for before, after in named
            if before != after
        ]

    def _sources(self) -> list[SourceContrast]:
        plain, debiased = self._at_main(PLAIN), self._at_main(OURS)
        reference = self._at_main(REFERENCE) if REFERENCE in self._rules else None
        found = []
        for (source, kind), places in prompts_by_source(self._answers).items():
            measure = (places, safe if kind == "harmful" else complied)
            alignment = _change(reference, plain, measure) if reference else None
            found.append(SourceContrast(source, kind, alignment, _change(plain, debiased, measure)))
        return found


def _change(before: Codes, after: Codes, measure: Measure) -> Change:
    return mean_change(outcomes_of(before, measure), outcomes_of(after, measure))


def _mean(codes: Codes, measure: Measure) -> float:
    """The mean over answers with a verdict; 1 if there is none."""
    values = outcomes_of(codes, measure)
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else 1.0


def prompts_by_source(answers: Answers) -> dict[tuple[str, str], list[int]]:
    """Indices of the test prompts by source and kind.

    Prompts of a study with several sources carry the source's number before their id.
    """
    sources = answers.results.study.sources
    found: dict[tuple[str, str], list[int]] = {}
    for place, prompt in enumerate(answers.results.prompts["test"]):
        number = int(prompt.id.partition("-")[0]) if len(sources) > 1 else 1
        found.setdefault((sources[number - 1], prompt.kind), []).append(place)
    order = ("harmful", *HARMLESS)
    return dict(sorted(found.items(), key=lambda item: order.index(item[0][1])))
