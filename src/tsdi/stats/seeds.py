"""Means over a few independent numbers, such as training seeds, with t-intervals."""

from collections.abc import Sequence
from math import inf, sqrt

import numpy as np
from scipy.special import stdtrit

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
    quantile = stdtrit(len(data) - 1, (1 + confidence) / 2)
    half = float(quantile * data.std(ddof=1) / np.sqrt(len(data)))
    return Estimate(mean, mean - half, mean + half, len(data))


MANY_SEEDS = 8
"""From so many seeds on, an interval is of other prompts too."""


def crossed_interval(values: Sequence[float], from_prompts: float) -> Estimate:
    """The 95 % interval of a mean over seeds whose models answered the same prompts.

    Below `MANY_SEEDS` this is `mean_interval`: the few seeds decide how wide it is, and a bootstrap
    that draws them with replacement is far too narrow (three seeds: down to 78 % coverage). From
    there on the seeds' own error is small enough for what the prompts add to be seen, so its
    variance is added: twice where answers vary beyond seed and prompt, which errs on the safe side.
    `benchmarks.calibration` shows how often each covers.

    Args:
        values: The figure of each seed, which must not all be alike.
        from_prompts: Variance of the mean over these seeds, had other prompts been drawn.

    Source: Owen (2007), Annals of Applied Statistics 1, 386-411 (both variances); degrees of
    freedom: Satterthwaite (1946), Biometrics Bulletin 2, 110-114.
    """
    plain = mean_interval(values)
    if len(values) < MANY_SEEDS or plain.value is None:
        return plain
    from_seeds = float(np.var(values, ddof=1)) / len(values)
    both = from_seeds + from_prompts
    freedom = (len(values) - 1) * (both / from_seeds) ** 2
    half = float(stdtrit(freedom, 0.975)) * sqrt(both)
    return Estimate(plain.value, plain.value - half, plain.value + half, len(values))
