"""Diagnoses of a study's biases on real prompts, beside the gain of subtracting them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf

import numpy as np
from scipy.stats import spearmanr

from tsdi.stats.interval import Estimate
from tsdi.stats.seeds import mean_interval
from tsdi.study.answers import Answers
from tsdi.study.entries import DiagnosedBias
from tsdi.study.fronts import within
from tsdi.study.outcomes import helpful, safe
from tsdi.study.summarise import OURS, PLAIN, outcomes_of

_KINDS = ("lookalike", "harmless")  # whose share explained is set beside the gain: the first known
_ABLE = 3  # models of a seed that can be ranked


@dataclass(frozen=True)
class Diagnosed:
    """Diagnosis of one grid point's biases: means over test seeds with t-intervals.

    With a single test seed, intervals are over prompts.

    Attributes:
        name: The grid point.
        shift: Shift of the refusal log-odds by kind of prompt, nats.
        explained: Share of the real shift that the bias is, by kind of prompt.
        area: Share of pairs where a harmful prompt's log-odds exceed a lookalike's (the area under
            the ROC), "aligned" and "aligned minus reference"; empty without lookalikes.
        gain: Change of safety plus change of helpful answers by debiasing.
    """

    name: str
    shift: Mapping[str, Estimate]
    explained: Mapping[str, Estimate]
    area: Mapping[str, Estimate]
    gain: Estimate


@dataclass(frozen=True)
class Diagnoses:
    """Diagnoses of all grid points, and the rank correlation of their gains.

    Attributes:
        models: Grid point by grid point.
        kind: The kind of prompt whose share explained is ranked against the gain.
        rank: Spearman's correlation of the two over the models of a seed, mean over test seeds; no
            value where no seed has three different models.
    """

    models: tuple[Diagnosed, ...]
    kind: str
    rank: Estimate


@dataclass(frozen=True)
class _Own:
    """One seed's bias, with the gain of subtracting it."""

    seed: int
    bias: DiagnosedBias
    gain: float


def diagnoses(answers: Answers) -> Diagnoses:
    """Diagnoses of a study's biases, averaged over test seeds, with gains."""
    found: dict[str, list[_Own]] = {}
    for bias in answers.results.biases:
        seed, _, name = bias.model.removeprefix("seed").partition("/")
        if isinstance(bias, DiagnosedBias) and bias.area and int(seed) in answers.test_seeds:
            own = _Own(int(seed), bias, _gain(answers, int(seed), name))
            found.setdefault(name, []).append(own)
    every = [own for some in found.values() for own in some]
    kind = next((k for k in _KINDS if every and k in every[0].bias.explained), "")
    models = tuple(_diagnosed(name, some) for name, some in found.items())
    return Diagnoses(models, kind, _rank(every, kind))


def _gain(answers: Answers, seed: int, name: str) -> float:
    """Change of safety plus change of helpful answers by debiasing."""

    def merit(rule: str) -> float:
        codes = [answers.test_cells(rule, seed, name)[0].outcomes]
        measures = (answers.harmful, safe), (answers.harmless, helpful)
        return sum(float(np.nanmean(outcomes_of(codes, measure))) for measure in measures)

    return merit(OURS) - merit(PLAIN)


def _diagnosed(name: str, some: Sequence[_Own]) -> Diagnosed:
    first = some[0].bias
    areas = [
        (own.bias.area["aligned"]["lookalike"], own.bias.area["reference"]["lookalike"])
        for own in some
        if own.bias.area and "lookalike" in own.bias.area["aligned"]
    ]
    area = {
        "aligned": within(0.0, mean_interval([aligned for aligned, _ in areas])),
        "aligned minus reference": mean_interval([one - other for one, other in areas]),
    }
    return Diagnosed(
        name,
        {kind: _over([own.bias.shift[kind] for own in some]) for kind in first.shift},
        {
            kind: within(-inf, _over([own.bias.explained[kind] for own in some]))
            for kind in first.explained
        },
        area if areas else {},
        mean_interval([own.gain for own in some]),
    )


def _over(estimates: Sequence[Estimate]) -> Estimate:
    """The mean over seeds with its t-interval; a single seed's own estimate as it is."""
    if len(estimates) == 1:
        return estimates[0]
    return mean_interval([one.value for one in estimates if one.value is not None])


def _rank(every: Sequence[_Own], kind: str) -> Estimate:
    by_seed: dict[int, list[tuple[float, float]]] = {}
    for own in every:
        share = own.bias.explained[kind].value if kind else None
        if share is not None:
            by_seed.setdefault(own.seed, []).append((share, own.gain))
    columns = [list(zip(*pairs, strict=True)) for pairs in by_seed.values()]
    able = [one for one in columns if min(len(set(values)) for values in one) >= _ABLE]
    return within(-1.0, mean_interval([float(spearmanr(*one).statistic) for one in able]))
