"""The estimator: mean logit shift over random prompts and responses, the paper's G_i."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from tsdi.arguments import check_whole
from tsdi.bias.accumulate import GroupSums, Progress, mean_rows
from tsdi.bias.estimation import Estimation
from tsdi.bias.file import LARGEST_SHIFT
from tsdi.bias.info import BiasInfo, versions
from tsdi.bias.mean_logits import MeanLogits
from tsdi.bias.pool import TokenPool
from tsdi.bias.safety_bias import SafetyBias
from tsdi.bias.standard_error import batch_means, split_half_reliability
from tsdi.decoding.anchor import anchor_ids
from tsdi.errors import NumericalError, UsageError
from tsdi.models.chat import template_sha256, tokenizer_sha256
from tsdi.models.compatibility import shared_vocabulary, tokenizer_size, vocabulary_width
from tsdi.models.sides import Side, as_side, check_apart


def mean_shift(shifts: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
    """G_i, and its standard error: float32 [steps, vocab] each.

    Args:
        shifts: Mean of f - f_r by group of prompts, [groups, steps, vocab].
        counts: Prompts per group, [groups].
    """
    means, errors = [], []
    for shift in shifts.unbind(1):
        g = shift.double()  # [groups, vocab]: one step at a time keeps float64 small
        g -= g.mean(-1, keepdim=True)  # softmax ignores a constant, so G has mean 0 over the tokens
        mean, error = batch_means(g, counts)
        means.append(mean)
        errors.append(error)
    return torch.stack(means).float(), torch.stack(errors).float()


def estimate_bias(
    aligned: PreTrainedModel | Side,
    reference: PreTrainedModel | Side,
    tokenizer: PreTrainedTokenizerBase,
    settings: Estimation = Estimation(),
    *,
    batch_size: int = 32,
    checkpoints: Path | None = None,
    progress: Progress | None = None,
) -> SafetyBias:
    """Estimate the safety bias of an aligned model against the model before its safety step.

    Args:
        aligned: The model after the safety step, or a ``Side`` that loads it.
        reference: The model before it; both see the same random tokens.
        tokenizer: The tokenizer of both.
        settings: Number, pool and lengths of random prompts, and how they become text.
        batch_size: Rows in a forward pass; halved when memory runs out.
        checkpoints: Folder for partial results; those that are there already are gone on with.
        progress: Called with the number of prompts after every batch of either model.

    Returns:
        The bias, float32 [steps, vocab], zero mean per step, with its standard error.

    Raises:
        MismatchError: If vocabularies differ in more than padding.
        PoolError: If the pool is empty or tiny.
        NumericalError: If a model gives NaN or infinite numbers, or a shift beyond what is saved.
        UsageError: If steps go beyond the context, or numbers make no sense.
    """
    prompts = settings.random_prompts(tokenizer)
    read = {
        "reference": replace(settings, chat=settings.reference_chat).random_prompts(tokenizer),
        "aligned": prompts,
    }
    check_whole("batch_size", batch_size)
    check_apart(aligned, reference)
    sides = {"reference": as_side(reference), "aligned": as_side(aligned)}
    known, groups = tokenizer_size(tokenizer), settings.groups
    check_together(sides, known, settings.target_error)
    models = {
        role: MeanLogits(role, side, read[role], groups, batch_size, checkpoints, progress)
        for role, side in sides.items()
    }
    done = max(model.resume(settings.prompts) for model in models.values())
    for number in settings.looks:  # one, unless a target error may stop it early
        if number < done:  # where a run that was killed has looked, and gone on
            continue
        f_r, f = (model.after(number) for model in models.values())  # E[f_r], E[f] by group
        vocab = shared_vocabulary(f.shape[-1], f_r.shape[-1], known)
        shifts = f[..., :vocab] - f_r[..., :vocab]
        counts = torch.bincount(torch.arange(number) % groups, minlength=groups)
        mean, error = mean_shift(shifts, counts)
        if settings.target_error is not None and _largest(error) <= settings.target_error:
            break
    _check_range(mean, {sides["reference"].name: f_r, sides["aligned"].name: f})
    made = replace(settings, pool=prompts.pool, prompts=number)
    summed = {role: Summed(x.side.name, x.revision, x.kind) for role, x in models.items()}
    info = _info(tokenizer, made, summed, split_half_reliability(shifts, counts))
    return SafetyBias(mean, error, info)


@dataclass(frozen=True)
class Summed:
    """A model whose logits were summed.

    Attributes:
        name: Folder or hub id.
        revision: The commit of a model from the hub.
        kind: What was summed (`tsdi.bias.accumulate.GroupSums`).
    """

    name: str
    revision: str | None
    kind: str


def bias_of_sums(
    models: Mapping[str, tuple[Summed, GroupSums]],
    tokenizer: PreTrainedTokenizerBase,
    settings: Estimation,
) -> SafetyBias:
    """The bias of sums of logits over all prompts, for which no model is needed.

    Args:
        models: The models "aligned" and "reference" with their sums.
        tokenizer: The tokenizer of both.
        settings: What the sums were made with.

    Raises:
        MismatchError: If vocabularies differ in more than padding.
        NumericalError: If a shift is beyond what is saved.
    """
    means = {role: mean_rows(sums) for role, (_, sums) in models.items()}
    f, f_r = means["aligned"], means["reference"]
    vocab = shared_vocabulary(f.shape[-1], f_r.shape[-1], tokenizer_size(tokenizer))
    shifts, counts = f[..., :vocab] - f_r[..., :vocab], models["aligned"][1].counts
    mean, error = mean_shift(shifts, counts)
    summed = {role: model for role, (model, _) in models.items()}
    _check_range(mean, {summed[role].name: logits for role, logits in means.items()})
    info = _info(tokenizer, settings, summed, split_half_reliability(shifts, counts))
    return SafetyBias(mean, error, info)


def _largest(error: Tensor) -> float:
    """The root mean square over tokens of the standard error, at the step where it is largest."""
    return float(error.square().mean(-1).sqrt().max())


def check_together(sides: Mapping[str, Side], known: int, target_error: float | None) -> None:
    """Check two models' vocabularies if both are loaded, and that both are for a target error."""
    if all(side.loaded for side in sides.values()):
        with sides["aligned"].open() as model:
            aligned = vocabulary_width(model)
        with sides["reference"].open() as model:
            shared_vocabulary(aligned, vocabulary_width(model), known)
    elif target_error is not None:
        raise UsageError(
            "A target error needs both models at once.",
            "Leave out the target, or load both models together.",
        )


def _check_range(mean: Tensor, logits: Mapping[str, Tensor]) -> None:
    """Raise NumericalError for a shift beyond the file's range, with the model at fault."""
    if float(mean.abs().max()) > LARGEST_SHIFT:
        name = max(logits, key=lambda one: float(logits[one].abs().max()))
        largest = float(logits[name].abs().max())
        raise NumericalError(
            f"{name} gives logits of up to {largest:.1e}: the shift is beyond"
            f" {LARGEST_SHIFT:,.0f} logits, the most that a bias can be.",
            "Check the model's weights: real logits are below a hundred.",
        )


def _info(
    tokenizer: PreTrainedTokenizerBase,
    settings: Estimation,
    models: Mapping[str, Summed],
    reliability: tuple[float, ...],
) -> BiasInfo:
    aligned, reference = models["aligned"], models["reference"]
    return BiasInfo(
        **provenance(tokenizer, settings),
        aligned=aligned.name,
        reference=reference.name,
        aligned_revision=aligned.revision,
        reference_revision=reference.revision,
        reliability=reliability,
        paths={role: one.kind for role, one in models.items()},
    )


def provenance(tokenizer: PreTrainedTokenizerBase, settings: Estimation) -> dict[str, Any]:
    """The fields of a bias's provenance that tokenizer and settings decide."""
    pool = TokenPool.from_name(settings.pool, tokenizer)
    return {
        "tokenizer_sha256": tokenizer_sha256(tokenizer),
        "template_sha256": template_sha256(tokenizer, settings.chat),
        "tokenizer_size": tokenizer_size(tokenizer),
        "pool": pool.name,
        "pool_sha256": pool.sha256,
        "prompts": settings.prompts,
        "prompt_tokens": settings.prompt_tokens,
        "ngram": settings.ngram,
        "groups": settings.groups,
        "seed": settings.seed,
        "prompt_format": settings.chat.prompt_format,
        "template_args": dict(settings.chat.template_args),
        "reference_format": settings.reference_format,
        "anchor": settings.anchor,
        "anchor_ids": tuple(anchor_ids(tokenizer, settings.anchor)),
        "versions": versions(),
    }
