"""The estimator: mean logit shift over random prompts and responses, the paper's G_i."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from tsdi.arguments import check_whole
from tsdi.bias.accumulate import Progress
from tsdi.bias.estimation import Estimation
from tsdi.bias.file import LARGEST_SHIFT
from tsdi.bias.first_order import with_slope
from tsdi.bias.info import BiasInfo, versions
from tsdi.bias.mean_logits import MeanLogits
from tsdi.bias.paired_rows import LabelledIds, labelled_rows, random_rows
from tsdi.bias.pool import TokenPool
from tsdi.bias.safety_bias import SafetyBias
from tsdi.bias.standard_error import mean_and_error, split_half_reliability
from tsdi.decoding.anchor import anchor_ids
from tsdi.errors import NumericalError, UsageError
from tsdi.models.chat import template_sha256, tokenizer_sha256
from tsdi.models.compatibility import shared_vocabulary, tokenizer_size, vocabulary_width
from tsdi.models.sides import Side, as_side, check_apart


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
        reference: The model before it; both see the same random prompts.
        tokenizer: The tokenizer of both.
        settings: Number, pool and lengths of random prompts, and how they become text.
        batch_size: Rows in a forward pass; halved when memory runs out.
        checkpoints: Folder for partial results; those that are there already are gone on with.
        progress: Called with the number of prompts after every batch of either model; those of a
            bias of first order are read once more.

    Returns:
        The bias, float32 [steps, vocab], zero mean per step, with its standard error; of order 1,
        with its slope.

    Raises:
        MismatchError: If vocabularies differ in more than padding.
        PoolError: If the pool is empty or tiny.
        NumericalError: If a model gives NaN or infinite numbers, or a shift beyond what is saved.
        UsageError: If steps go beyond the context, or numbers make no sense.
    """
    prompts = settings.random_prompts(tokenizer)
    check_whole("batch_size", batch_size)
    labelled = settings.labelled
    if labelled is not None and not isinstance(labelled, LabelledIds):
        raise UsageError("Labelled prompts are token ids here.", "Take tsdi.estimate for names.")
    check_apart(aligned, reference)
    sides = {"reference": as_side(reference), "aligned": as_side(aligned)}
    known, groups = tokenizer_size(tokenizer), settings.groups
    _check_together(sides, known, settings.target_error)
    mean_logits = {
        role: MeanLogits(role, side, prompts, groups, batch_size, checkpoints, progress)
        for role, side in sides.items()
    }
    done = max(one.resume() for one in mean_logits.values())
    for stop in _stops(settings, done):
        after = {role: one.after(stop) for role, one in mean_logits.items()}
        vocab = shared_vocabulary(after["aligned"].shape[-1], after["reference"].shape[-1], known)
        shifts = after["aligned"][..., :vocab] - after["reference"][..., :vocab]
        counts = torch.bincount(torch.arange(stop) % groups, minlength=groups)
        mean, error = mean_and_error(shifts, counts)
        largest = float(error.square().mean(-1).sqrt().max())
        if settings.target_error is not None and largest <= settings.target_error:
            break
    _check_range(mean, {sides[role].name: one for role, one in after.items()})
    info = _info(tokenizer, replace(settings, pool=prompts.pool, prompts=stop), mean_logits)
    reliability = split_half_reliability(shifts, counts)
    bias = SafetyBias(mean, error, info.model_copy(update={"reliability": reliability}))
    if settings.order == 0:
        return bias
    pair = sides["aligned"], sides["reference"]
    count = progress or (lambda done: None)
    if labelled is None:
        rows = random_rows(*pair, prompts, stop, batch_size, count)
    else:
        rows = labelled_rows(*pair, tokenizer, labelled, settings.steps, batch_size, count)
    return with_slope(bias, *pair, rows, tokenizer)


def _stops(settings: Estimation, done: int) -> list[int]:
    """Numbers of prompts after which the error is checked; the last one is all prompts."""
    if done > settings.prompts:
        raise UsageError(
            f"The checkpoints hold {done} prompts already, more than {settings.prompts}.",
            "Ask for at least as many, or take another folder.",
        )
    if settings.target_error is None:
        return [settings.prompts]
    stops, stop = [], 2 * settings.groups
    while stop < settings.prompts:
        stops.append(stop)
        stop *= 2
    return [stop for stop in (*stops, settings.prompts) if stop >= done]  # not met before


def _check_together(sides: Mapping[str, Side], known: int, target_error: float | None) -> None:
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
    models: Mapping[str, MeanLogits],
) -> BiasInfo:
    aligned, reference = models["aligned"], models["reference"]
    pool = TokenPool.from_name(settings.pool, tokenizer)
    return BiasInfo(
        tokenizer_sha256=tokenizer_sha256(tokenizer),
        template_sha256=template_sha256(tokenizer, settings.chat),
        tokenizer_size=tokenizer_size(tokenizer),
        aligned=aligned.side.name,
        reference=reference.side.name,
        aligned_revision=aligned.revision,
        reference_revision=reference.revision,
        pool=pool.name,
        pool_sha256=pool.sha256,
        prompts=settings.prompts,
        prompt_tokens=settings.prompt_tokens,
        ngram=settings.ngram,
        groups=settings.groups,
        seed=settings.seed,
        prompt_format=settings.chat.prompt_format,
        template_args=dict(settings.chat.template_args),
        anchor=settings.anchor,
        anchor_ids=tuple(anchor_ids(tokenizer, settings.anchor)),
        paths={role: one.sums.kind for role, one in models.items() if one.sums is not None},
        versions=versions(),
    )
