"""The shrunken linear discriminant of harmful and harmless prompts, in closed form.

With x the input of the model's head at the end of a prompt, the shrunken linear discriminant is

    S_g  = (1 - g) S + g (tr S / d) I       S: covariance within the kinds, each counting half
    v    = S_g^-1 (m1 - m0)                 m1, m0: means of harmful and of harmless prompts
    t(x) = <v, x - (m1 + m0) / 2>           g = 1: the difference in means

and with a shift and a scale that held-out prompts decide, h becomes the log-odds that a prompt is
harmful, were both kinds equally frequent and t normal in each with one spread s:

    h(x) = (t(x) - c) (e1 - e0) / s^2       e1, e0: means of held-out t by kind; c = (e1 + e0) / 2

The shrinkage g is the one of `SHRINKAGES` with the largest area under the ROC curve of held-out t.

Sources: Ledoit and Wolf (2004), Journal of Multivariate Analysis 88, 365-411, for the target of the
shrinkage; Friedman (1989), JASA 84, 165-175, for choosing it by cross-validation.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from tsdi.bias.folds import folds
from tsdi.errors import PromptError
from tsdi.stats.auc import auc

SHRINKAGES = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
LEAST_LABELS = 8
"""Of each kind, for a fit."""


@dataclass(frozen=True)
class Direction:
    """A linear discriminant: h(x) = <vector, x> + intercept, log-odds of harmful.

    Attributes:
        vector: float64 [hidden].
        intercept: A number.
        shrinkage: Shrinkage of the covariance, 0 to 1.
    """

    vector: Tensor
    intercept: float
    shrinkage: float

    def score(self, inputs: Tensor) -> Tensor:
        """Compute h of head inputs [prompts, hidden]: float64 [prompts]."""
        return inputs @ self.vector + self.intercept


def fit_direction(inputs: Tensor, harmful: Tensor, groups: Sequence[str]) -> Direction:
    """Fit the discriminant, with the shrinkage of the largest AUC on held-out prompts.

    Args:
        inputs: Head inputs at the end of every prompt, float64 [prompts, hidden].
        harmful: Whether each prompt is harmful, bool [prompts].
        groups: Group of every prompt, such as its suite or type; none is on both sides of a
            split, as near copies would be.

    Raises:
        PromptError: If there are too few groups.
    """
    held_out = torch.empty(len(inputs), len(SHRINKAGES), dtype=torch.float64)
    for test in folds(harmful, groups):
        vectors, intercepts = discriminants(inputs[~test], harmful[~test], SHRINKAGES)
        held_out[test] = inputs[test] @ vectors.T + intercepts
    areas = [area(score, harmful) for score in held_out.T]
    best = max(range(len(areas)), key=lambda n: (areas[n], SHRINKAGES[n]))  # ties: the largest
    vectors, intercepts = discriminants(inputs, harmful, SHRINKAGES[best : best + 1])
    scale, centre = calibration(held_out[:, best], harmful)
    return Direction(vectors[0] * scale, float((intercepts[0] - centre) * scale), SHRINKAGES[best])


def discriminants(
    inputs: Tensor, harmful: Tensor, shrinkages: Sequence[float]
) -> tuple[Tensor, Tensor]:
    """The discriminant for each shrinkage, which is above 0.

    One singular value decomposition serves all: outside the span of the prompts S_g is a multiple
    of the identity.

    Returns:
        Vectors, float64 [shrinkages, hidden], and intercepts, float64 [shrinkages].
    """
    kinds = [inputs[~harmful], inputs[harmful]]
    means = [kind.mean(0) for kind in kinds]
    rows = [(kind - mean) / (2 * len(kind)) ** 0.5 for kind, mean in zip(kinds, means, strict=True)]
    _, singular, basis = torch.linalg.svd(torch.cat(rows), full_matrices=False)
    spread = singular.square().sum() / inputs.shape[1]  # tr S / d
    spread = torch.where(spread > 0, spread, 1.0)  # without any spread, any multiple will do
    difference = means[1] - means[0]
    inside = basis @ difference
    outside = difference - basis.T @ inside
    vectors = torch.stack(
        [
            basis.T @ (inside / ((1 - g) * singular.square() + g * spread)) + outside / (g * spread)
            for g in shrinkages
        ]
    )
    return vectors, -vectors @ (means[0] + means[1]) / 2


def calibration(score: Tensor, harmful: Tensor) -> tuple[float, float]:
    """Scale and centre that make held-out scores log-odds; scale 0 where they tell nothing."""
    kinds = score[~harmful], score[harmful]
    variance = sum(float(kind.var()) for kind in kinds) / 2
    means = [float(kind.mean()) for kind in kinds]
    apart = max(0.0, means[1] - means[0])
    return (apart / variance if variance > 0 else 1.0), sum(means) / 2


def area(score: Tensor, harmful: Tensor) -> float:
    """The area under the ROC curve."""
    found = auc(score[harmful].numpy(), score[~harmful].numpy()).value
    assert found is not None
    return found


def check_labels(harmful: Tensor) -> None:
    """Raise PromptError unless there are enough prompts of each kind for a fit."""
    for name, number in (("harmful", int(harmful.sum())), ("harmless", int((~harmful).sum()))):
        if number < LEAST_LABELS:
            raise PromptError(
                f"A condition needs at least {LEAST_LABELS} {name} prompts, not {number}.",
                "About a hundred of each kind do.",
            )
