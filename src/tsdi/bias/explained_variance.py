"""The logit shift of a model after one prompt, and the share that a bias explains."""

from dataclasses import dataclass

import torch
from torch import Tensor

from tsdi.bias.read_prompts import Reading
from tsdi.decoding.rule import shift_at
from tsdi.decoding.slope import Bias
from tsdi.errors import NumericalError


@dataclass(frozen=True)
class PromptShift:
    """Refusal log-odds after one prompt, and sums of squares of the explained share.

    Attributes:
        reference: Refusal log-odds of the reference.
        aligned: Refusal log-odds of the aligned model.
        debiased: Refusal log-odds of the aligned model less the bias.
        explained: sum |g - G|^2 and sum |g|^2 over the answer, see `explained_share`; None where
            there is no answer.
    """

    reference: float
    aligned: float
    debiased: float
    explained: tuple[float, float] | None

    @classmethod
    def between(
        cls, before: Reading, after: Reading, bias: Bias, *, answered: bool
    ) -> "PromptShift":
        """The shift from the reference to the aligned model, with and without the bias.

        Raises:
            NumericalError: If a model gives NaN or infinite numbers.
        """
        if not (bool(before.logits.isfinite().all()) and bool(after.logits.isfinite().all())):
            raise NumericalError(
                "A model gives NaN or infinite numbers on a prompt of the diagnosis.",
                "Check its weights, or load it in float32 or bfloat16.",
            )
        parts = explained_share(before.logits, after.logits, bias) if answered else None
        return cls(before.odds[0], after.odds[0], after.odds[1], parts)


def explained_share(before: Tensor, after: Tensor, bias: Bias) -> tuple[float, float]:
    """Unexplained and total sum of squares of the shift after one prompt.

    The share that the bias explains is 1 - sum |g - G|^2 / sum |g|^2, over prompts.
    |.|^2 is the variance under the mean of both models' next-token distributions.

    Args:
        before: The reference's logits, [answer, vocab].
        after: The aligned model's logits on the same tokens, [answer, vocab].
        bias: G, [steps >= answer, vocab].

    Returns:
        sum |g - G|^2 and sum |g|^2.
    """
    vocab = bias.shape[1]
    before, after = before[:, :vocab], after[:, :vocab]
    weights = mean_distribution(before, after)
    shift = after - before
    rest = shift - shift_at(after, torch.arange(len(shift)), bias)
    return _variance(rest, weights), _variance(shift, weights)


def mean_distribution(before: Tensor, after: Tensor) -> Tensor:
    """The mean of both models' next-token distributions, [..., vocab] like their logits."""
    return (before.softmax(-1) + after.softmax(-1)) / 2


def _variance(x: Tensor, weights: Tensor) -> float:
    mean = (weights * x).sum(-1, keepdim=True)
    return float((weights * (x - mean).square()).sum(dtype=torch.float64))
