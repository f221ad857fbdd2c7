"""Merging the weights of two models in memory."""

import copy

import torch
from transformers import PreTrainedModel

from tsdi.errors import MismatchError


@torch.no_grad()
def merged(model: PreTrainedModel, other: PreTrainedModel, weight: float) -> PreTrainedModel:
    """A copy of a model with the weights weight x model + (1 - weight) x other.

    Raises:
        MismatchError: If names or shapes of the weights differ.

    Source: P-SACPO, Wachi et al. (2024), arXiv 2404.11049, section 5; the same arithmetic as
    `tsdi.training.merge`, which works on files.
    """
    mixed: PreTrainedModel = copy.deepcopy(model)
    others = dict(other.named_parameters())
    for name, parameter in mixed.named_parameters():
        if name not in others or others[name].shape != parameter.shape:
            raise MismatchError(
                f"The weights {name} of two models do not go together.",
                "Merge models of one architecture and size.",
            )
        mean = weight * parameter.float() + (1 - weight) * others[name].float()
        parameter.copy_(mean.to(parameter.dtype))
    return mixed
