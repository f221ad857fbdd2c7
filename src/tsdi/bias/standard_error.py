"""Mean, standard error and reliability, from means of groups of prompts."""

import torch
from torch import Tensor


def batch_means(values: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
    """The mean of groups weighted by their size, and its standard error from batch means.

    The error has ``groups - 1`` degrees of freedom: a 95 % interval is mean +- t(groups - 1) x
    error.

    Args:
        values: Values of every group, float64 [groups, width].
        counts: Prompts per group, [groups].

    Returns:
        Mean and standard error, float64 [width].
    """
    weights = counts.double() / counts.sum()
    mean = weights @ values
    spread = weights @ (values - mean).square()
    return mean, (spread / (len(counts) - 1)).sqrt()


def split_half_reliability(shifts: Tensor, counts: Tensor) -> tuple[float, ...]:
    """Split-half reliability of the estimate, step by step.

    It is the correlation r over tokens of the estimates from even and from odd groups, brought to
    full length by Spearman-Brown, 2r / (1 + r): 1 is no noise, 0 is nothing but noise.

    Args:
        shifts: Mean aligned minus mean reference logits per group, [groups, steps, vocab].
        counts: Prompts per group, [groups].
    """
    weights = counts.double()
    reliabilities = []
    for step in range(shifts.shape[1]):
        halves = [
            (weights[half::2, None] * shifts[half::2, step].double()).sum(0)
            / weights[half::2].sum()
            for half in (0, 1)
        ]
        r = torch.corrcoef(torch.stack(halves))[0, 1].nan_to_num(0.0)  # no shift at all: 0
        reliabilities.append(float((2 * r / (1 + r)).clamp(-1, 1)))
    return tuple(reliabilities)
