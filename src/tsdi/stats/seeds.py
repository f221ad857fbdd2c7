"""Means of a few independent numbers, such as one figure over the seeds of a training."""

from collections.abc import Sequence
from math import inf

import numpy as np
from scipy import stats

from tsdi.stats.interval import Estimate


def mean_interval(values: Sequence[float], confidence: float = 0.95) -> Estimate:
    """A mean with its t-interval, such as a figure's over the seeds of one setting.

    Args:
        values: Independent numbers of one kind, in any unit.
        confidence: Two-sided coverage of the interval.

    Returns:
        The mean; a single number does not say how far others would be, so its interval has no ends
        (minus to plus infinity), and no number at all gives no value either.

    Source: Student (1908), Biometrika 6, 1-25.
    """
    data = np.asarray(values, dtype=np.float64)
    if len(data) < 2:
        return Estimate(float(data[0]) if len(data) else None, -inf, inf, len(data))
    mean = float(data.mean())
    quantile = stats.t.ppf((1 + confidence) / 2, len(data) - 1)
    half = float(quantile * data.std(ddof=1) / np.sqrt(len(data)))
    return Estimate(mean, mean - half, mean + half, len(data))
