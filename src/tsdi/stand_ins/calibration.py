"""The scale of a stand-in's bias: how much it takes from refusals at strength 1."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from tsdi.bias import SafetyBias
from tsdi.stand_ins.subject import Subject
from tsdi.stats.interval import Estimate
from tsdi.stats.seeds import mean_interval


@dataclass(frozen=True)
class Calibrated:
    """A stand-in's bias, scaled on validation prompts.

    Attributes:
        bias: The bias; at strength 1 it takes `wanted` from the refusal log-odds.
        removed: What it took before that, in nats: mean over prompts with its t-interval.
        wanted: What it is good to take (`Odds.wanted`); 0 if nothing is to be gained.
        factor: Its scale; 1 where it takes nothing or nothing is wanted.
    """

    bias: SafetyBias
    removed: Estimate
    wanted: float
    factor: float

    @property
    def taken(self) -> Estimate:
        """What it takes at strength 1, in nats."""
        value = None if self.removed.value is None else self.removed.value * self.factor
        ends = self.removed.low * self.factor, self.removed.high * self.factor
        return Estimate(value, *ends, self.removed.n)

    @property
    def wrong(self) -> bool:
        """Whether subtracting it does not clearly make refusals less likely."""
        return self.removed.low <= 0


def calibrate(subject: Subject, biases: Sequence[SafetyBias]) -> list[Calibrated]:
    """Scale biases to what is good to take from all prompts, by one reading of the validation half.

    A vector moves the refusal log-odds of all prompts alike, so that whichever it is, the best
    threshold is the same one. Scaled to it, biases differ in what else they move.
    """
    with subject.side.open() as model:
        odds = subject.odds(model, subject.validation, (None, *(one.shift for one in biases)))
    every = torch.cat([odds.harmless, odds.harmful])
    taken = every[:, :1] - every[:, 1:]
    return [
        _calibrated(bias, mean_interval(taken[:, n].tolist()), odds.wanted)
        for n, bias in enumerate(biases)
    ]


def _calibrated(bias: SafetyBias, removed: Estimate, wanted: float) -> Calibrated:
    if removed.value is None or removed.low <= 0 or not wanted:
        return Calibrated(bias, removed, wanted, 1.0)
    factor = wanted / removed.value
    return Calibrated(bias.scale(factor), removed, wanted, factor)
