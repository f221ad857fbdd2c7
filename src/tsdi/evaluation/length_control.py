"""The length-controlled win rate, since judges favour long answers."""

from collections.abc import Hashable, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, stdtrit

from tsdi.stats.interval import Estimate

Array = NDArray[np.float64]
# A larger coefficient means that wins and losses are nearly separable: no estimate exists.
_LARGEST = 10.0


def length_controlled(
    preferences: Sequence[float], longer: Sequence[float], clusters: Sequence[Hashable]
) -> Estimate:
    """The win rate predicted for answers of equal length, with its 95 % interval.

    The preferences are regressed on the difference in length by maximum likelihood,

        P(win) = sigmoid(model + length * tanh(longer / sd(longer))),

    and the value is sigmoid(model), the prediction for no difference. The interval is that of
    `model` with a standard error clustered by prompt, mapped by the sigmoid. Swapping the two
    models gives 1 minus the value.

    This is the length-controlled win rate of AlpacaEval 2 without its term for the difficulty of
    each instruction and without its penalty, which need preferences of other models on its own 805
    instructions: figures are not comparable with its leaderboard's.

    Args:
        preferences: Preference of each prompt, 0..1; 1 is a win.
        longer: Length of each answer minus that of the base's, in characters.
        clusters: Cluster of each prompt.

    Returns:
        The win rate; no value, and [0, 1], where the lengths explain the preferences so well, or
        differ so little, that nothing tells them apart from the model.

    Raises:
        ValueError: If the lengths differ.

    Source: Dubois et al. (2024), arXiv 2404.04475, section 3.
    """
    if not len(preferences) == len(longer) == len(clusters):
        raise ValueError("not one preference, length and cluster per prompt")
    wins, unknown = np.array(preferences, np.float64), Estimate(None, 0.0, 1.0, len(preferences))
    features = _features(np.array(longer, np.float64))
    freedom = len(set(clusters)) - features.shape[1]
    if freedom < 1 or np.linalg.matrix_rank(features) < features.shape[1]:
        return unknown
    coefficients = _fit(features, wins)
    if np.abs(coefficients).max() > _LARGEST:
        return unknown
    error = _standard_error(features, wins, coefficients, clusters)
    ends = coefficients[0] + np.array([-1, 1]) * stdtrit(freedom, 0.975) * error
    value, low, high = (float(expit(end)) for end in (coefficients[0], *ends))
    return Estimate(value, low, high, len(wins))


def _features(longer: Array) -> Array:
    """Regression features [prompts, 2]: ones and length differences; ones alone if all are 0."""
    ones = np.ones(len(longer))
    if not longer.any():
        return ones[:, None]
    spread = longer.std(ddof=1) if len(longer) > 1 else 0.0
    return np.stack([ones, np.tanh(longer / spread) if spread else ones], axis=1)


def _fit(features: Array, wins: Array) -> Array:
    """Maximum-likelihood coefficients of the logistic regression, [features]."""
    from scipy.optimize import minimize  # most that load this file never call it

    def loss(coefficients: Array) -> tuple[float, Array]:
        scores = features @ coefficients
        value = float(np.mean(np.logaddexp(0, scores) - wins * scores))
        return value, features.T @ (expit(scores) - wins) / len(wins)

    start = np.zeros(features.shape[1])
    found: Array = minimize(loss, start, jac=True, method="BFGS", options={"gtol": 1e-9}).x
    return found


def _standard_error(
    features: Array, wins: Array, coefficients: Array, clusters: Sequence[Hashable]
) -> float:
    """The cluster-robust (sandwich) standard error of the first coefficient."""
    chances = expit(features @ coefficients)
    bread = np.linalg.inv(features.T @ (features * (chances * (1 - chances))[:, None]))
    sums: dict[Hashable, Array] = {}
    for name, score in zip(clusters, features * (wins - chances)[:, None], strict=True):
        sums[name] = sums.get(name, np.zeros(len(coefficients))) + score
    scores = np.array(list(sums.values()))
    variance = bread @ scores.T @ scores @ bread * len(sums) / (len(sums) - 1)
    return float(np.sqrt(variance[0, 0]))
