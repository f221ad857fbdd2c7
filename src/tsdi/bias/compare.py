"""Comparison of two biases."""

import torch

from tsdi.bias.safety_bias import SafetyBias


def compare_biases(one: SafetyBias, other: SafetyBias) -> dict[str, list[float]]:
    """Similarity of two biases' values, step by step over their common steps.

    Returns:
        "cosine" similarity, "difference" (root mean square, in logits) and "z" (root mean square of
        difference / joint standard error; about 1 if only chance differs).

    Raises:
        MismatchError: If the tokenizers differ.
    """
    steps = min(one.steps, other.steps)
    one.check_comparable(other, steps)
    values, others = one.values[:steps].double(), other.values[:steps].double()
    variance = one.standard_error[:steps].square() + other.standard_error[:steps].square()
    z = ((values - others) / variance.sqrt()).nan_to_num(posinf=torch.inf)
    return {
        "cosine": torch.cosine_similarity(values, others).tolist(),
        "difference": (values - others).square().mean(1).sqrt().tolist(),
        "z": z.square().mean(1).sqrt().tolist(),
    }
