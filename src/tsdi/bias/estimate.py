"""The estimator: the mean logit shift over random prompts and responses, G_i in the paper."""

import logging
import math
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

import tsdi
from tsdi.bias.accumulate import GroupSums, Progress, accumulate, group_means, origin
from tsdi.bias.file import BiasInfo
from tsdi.bias.pool import TokenPool
from tsdi.bias.random_prompts import RandomPrompts, random_prompts
from tsdi.bias.safety_bias import SafetyBias
from tsdi.decoding.anchor import anchor_ids
from tsdi.errors import MismatchError, UsageError
from tsdi.models.chat import OWN_TEMPLATE, ChatFormat, template_sha256, tokenizer_sha256
from tsdi.models.compatibility import (
    check_tied_adapter,
    context_length,
    embedding_rows,
    shared_vocabulary,
    tokenizer_size,
    vocabulary_width,
)
from tsdi.models.fingerprint import fingerprint
from tsdi.models.sides import Side, as_side

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Estimation:
    """How a bias is estimated: everything that decides its numbers, but for the two models.

    Attributes:
        prompts: Number of random prompts, at most.
        steps: Response positions to estimate.
        prompt_tokens: Random tokens in a prompt, those of the template not counted.
        pool: Token pool, or its name as in ``TokenPool.from_name``.
        ngram: Pool tokens that are drawn together, as they follow one another.
        seed: Decides the random prompts.
        groups: Groups for the batch-means error.
        target_error: Stop at the first of 2, 4, 8, ... prompts per group at which the root mean
            square over tokens of the standard error is at most this at every step, in logits.
        chat: How a prompt becomes text; default: the tokenizer's own chat template.
        anchor: End-of-thinking marker after which step 0 is, such as "</think>".
    """

    prompts: int = 512
    steps: int = 16
    prompt_tokens: int = 48
    pool: TokenPool | str = "neutral"
    ngram: int = 1
    seed: int = 0
    groups: int = 16
    target_error: float | None = None
    chat: ChatFormat = OWN_TEMPLATE
    anchor: str = ""


DEFAULT = Estimation()


def estimate_bias(
    aligned: PreTrainedModel | Side,
    reference: PreTrainedModel | Side,
    tokenizer: PreTrainedTokenizerBase,
    settings: Estimation = DEFAULT,
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
        settings: Which random prompts, how many, and how they become text.
        batch_size: Rows in a forward pass; halved when memory runs out.
        checkpoints: Folder for partial results; those that are there already are gone on with.
        progress: Called with the number of prompts after every batch of either model.

    Returns:
        The bias, float32 [steps, vocab], zero mean per step, with its standard error.

    Raises:
        MismatchError: If vocabularies differ in more than padding.
        PoolError: If the pool is empty or tiny.
        NumericalError: If a model gives NaN or infinite numbers.
        UsageError: If steps go beyond the context, numbers make no sense, or the chat template has
            no use for an argument.
    """
    if isinstance(settings.pool, str):
        settings = replace(settings, pool=TokenPool.from_name(settings.pool, tokenizer))
    assert isinstance(settings.pool, TokenPool)
    prompts, groups, target_error = settings.prompts, settings.groups, settings.target_error
    drawn = random_prompts(
        tokenizer,
        settings.pool,
        prompt_tokens=settings.prompt_tokens,
        steps=settings.steps,
        seed=settings.seed,
        chat_format=settings.chat,
        anchor=settings.anchor,
        ngram=settings.ngram,
    )
    _check_apart(aligned, reference)
    sides = {"aligned": as_side(aligned), "reference": as_side(reference)}
    _check_numbers(prompts, groups, batch_size, target_error)
    known = tokenizer_size(tokenizer)
    _check_together(sides, known, target_error)
    runs = {
        name: _Run(name, sides[name], drawn, groups, batch_size, checkpoints, progress)
        for name in ("reference", "aligned")
    }
    done = max(run.resume() for run in runs.values())
    if done > prompts:
        raise UsageError(
            f"The checkpoints hold {done} prompts already, more than {prompts}.",
            "Ask for at least as many, or take another folder.",
        )
    rounds = _rounds(prompts, groups) if target_error is not None else [prompts]
    for stop in (stop for stop in rounds if stop >= done):  # those before were not good enough
        means = {name: run.means(stop) for name, run in runs.items()}
        sizes = (means["aligned"].shape[-1], means["reference"].shape[-1])
        vocab = shared_vocabulary(*sizes, known)
        counts = torch.bincount(torch.arange(stop) % groups, minlength=groups)
        shifts = means["aligned"][..., :vocab] - means["reference"][..., :vocab]
        mean, error = mean_and_error(shifts, counts)
        if target_error is not None and float(error.square().mean(-1).sqrt().max()) <= target_error:
            break
    info = _info(tokenizer, known, runs, stop, settings)
    reliability = split_half_reliability(shifts, counts)
    return SafetyBias(mean, error, info.model_copy(update={"reliability": reliability}))


def _info(
    tokenizer: PreTrainedTokenizerBase,
    known: int,
    runs: "dict[str, _Run]",
    prompts: int,
    settings: Estimation,
) -> BiasInfo:
    pool, chat = settings.pool, settings.chat
    assert isinstance(pool, TokenPool)
    return BiasInfo(
        tokenizer_sha256=tokenizer_sha256(tokenizer),
        template_sha256=template_sha256(tokenizer, chat),
        tokenizer_size=known,
        aligned=runs["aligned"].side.name,
        reference=runs["reference"].side.name,
        aligned_revision=runs["aligned"].revision,
        reference_revision=runs["reference"].revision,
        pool=pool.name,
        pool_sha256=pool.sha256,
        prompts=prompts,
        prompt_tokens=settings.prompt_tokens,
        ngram=settings.ngram,
        groups=settings.groups,
        seed=settings.seed,
        prompt_format=chat.prompt_format,
        template_args=dict(chat.template_args),
        anchor=settings.anchor,
        anchor_ids=tuple(anchor_ids(tokenizer, settings.anchor)),
        paths={name: run.sums.kind for name, run in runs.items() if run.sums is not None},
        versions=_versions(),
    )


def mean_and_error(shifts: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
    """The centred mean shift and its standard error from batch means.

    Groups are weighted by their size. The error has ``groups - 1`` degrees of freedom: a 95 %
    interval is mean +- t(groups - 1) x error.

    Args:
        shifts: Mean aligned minus mean reference logits per group, [groups, steps, vocab].
        counts: Prompts per group, [groups].

    Returns:
        Mean and standard error, float32 [steps, vocab].
    """
    means, errors = [], []
    for step in range(shifts.shape[1]):  # one step at a time keeps float64 small
        shift = shifts[:, step].double()
        shift -= shift.mean(-1, keepdim=True)
        mean, error = batch_means(shift, counts)
        means.append(mean)
        errors.append(error)
    return torch.stack(means).float(), torch.stack(errors).float()


def batch_means(values: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
    """The mean of groups weighted by their size, and its standard error.

    Args:
        values: Of every group, float64 [groups, width].
        counts: Prompts per group, [groups].

    Returns:
        Mean and standard error, float64 [width].
    """
    weights = counts.double() / counts.sum()
    mean = weights @ values
    spread = weights @ (values - mean).square()
    return mean, (spread / (len(counts) - 1)).sqrt()


def split_half_reliability(shifts: Tensor, counts: Tensor) -> tuple[float, ...]:
    """How well the even groups predict the odd ones, step by step.

    The correlation r over tokens of the two half estimates, brought to full length by
    Spearman-Brown, 2r / (1 + r): 1 is no noise, 0 is nothing but noise.

    Args:
        shifts: As in ``mean_and_error``.
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


def _check_numbers(prompts: int, groups: int, batch_size: int, target_error: float | None) -> None:
    if groups < 2 or prompts < groups:
        raise UsageError(
            f"{prompts} random prompts in {groups} groups give no standard error.",
            "Take at least 2 groups and at least as many prompts as groups.",
        )
    if batch_size < 1:
        raise UsageError(f"batch_size must be at least 1, not {batch_size}.")
    if target_error is not None and not 0 < target_error < math.inf:
        raise UsageError(f"target_error must be a number above 0, not {target_error}.")


def _check_apart(aligned: PreTrainedModel | Side, reference: PreTrainedModel | Side) -> None:
    if isinstance(aligned, Side) or isinstance(reference, Side) or aligned is reference:
        return
    if any(module is reference for module in aligned.modules()) or any(
        module is aligned for module in reference.modules()
    ):
        raise UsageError(
            "The two models are one: they share their modules, so nothing would differ.",
            "For adapters on one base take tsdi.models.sides.adapter_sides.",
        )


def _check_together(sides: dict[str, Side], known: int, target_error: float | None) -> None:
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


def _versions() -> dict[str, str]:
    import transformers

    return {
        "tsdi": tsdi.__version__,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }


def _rounds(number: int, groups: int) -> list[int]:
    rounds, stop = [], 2 * groups
    while stop < number:
        rounds.append(stop)
        stop *= 2
    return [*rounds, number]


@dataclass
class _Run:
    """One model's way through the random prompts."""

    name: str
    side: Side
    prompts: RandomPrompts
    groups: int
    batch_size: int
    checkpoints: Path | None
    progress: Progress | None
    sums: GroupSums | None = None
    revision: str | None = None

    def means(self, stop: int) -> Tensor:
        """Go on to prompt ``stop`` and give the mean logits of every group."""
        with self.side.open() as model:
            self.revision = self.side.revision
            if self.revision is None and not hasattr(model, "peft_config"):
                self.revision = getattr(model.config, "_commit_hash", None)
            _check_model(model, self.prompts)
            self._check_sums(model)
            done = self.sums.prompts if self.sums else 0
            if done < stop:
                self._go_on(model, done, stop)
            assert self.sums is not None
            return group_means(model, self.sums)

    def _go_on(self, model: PreTrainedModel, start: int, stop: int) -> None:
        before = self.sums

        def keep(more: GroupSums) -> None:
            self.sums = before.merge(more) if before else more
            if self.checkpoints is not None:
                self.sums.save(self._file)

        accumulate(
            model,
            self.prompts,
            start,
            stop,
            groups=self.groups,
            batch_size=self.batch_size,
            kind=before.kind if before else None,
            name=self.side.name,
            files=fingerprint(self.side.source),
            checkpoint=keep,
            progress=self.progress,
        )

    def _check_sums(self, model: PreTrainedModel) -> None:
        if self.sums is None:
            return
        made = (model, self.prompts, self.groups, self.side.name)
        unknown, expected = origin(*made), origin(*made, fingerprint(self.side.source))
        if self.sums.origin.partition(" files=")[0] != unknown:
            raise MismatchError(
                f"{self._file} was made with other settings.", "Use the same, or another --out."
            )
        if self.sums.origin == unknown != expected:
            _LOG.warning("%s does not say which weights it was made with.", self._file)
        elif self.sums.origin != expected:
            raise MismatchError(
                f"{self._file} was made with other weights: {self.side.name} has changed since.",
                "Use another --out.",
            )
        self.sums = replace(self.sums, origin=expected)

    @property
    def _file(self) -> Path:
        assert self.checkpoints is not None
        return self.checkpoints / f"partial-{self.name}.safetensors"

    def resume(self) -> int:
        """Take up the checkpoint, if there is one, and give the number of prompts in it."""
        if self.checkpoints is None or not self._file.exists():
            return 0
        self.sums = GroupSums.load(self._file)
        if self.sums.ranges != ((0, self.sums.prompts),):
            raise MismatchError(
                f"{self._file} lacks prompts: it has {self.sums.ranges}.", "Merge all parts first."
            )
        if self.progress is not None:
            self.progress(self.sums.prompts)
        return self.sums.prompts


def _check_model(model: PreTrainedModel, prompts: RandomPrompts) -> None:
    check_tied_adapter(model)
    check_prompts(model, prompts)


def check_prompts(model: PreTrainedModel, prompts: RandomPrompts) -> None:
    """Check that a model can read random prompts.

    Raises:
        UsageError: If they are longer than its context.
        MismatchError: If it does not know their tokens.
    """
    limit = context_length(model)
    if limit is not None and prompts.length > limit:
        raise UsageError(
            f"Template, {prompts.prompt_tokens} prompt tokens and {prompts.steps} steps make "
            f"{prompts.length} tokens; the model's context is {limit}.",
            "Take fewer steps or prompt tokens.",
        )
    top = max(prompts.frame.prefix + prompts.frame.suffix + (int(prompts.pool.ids.max()),))
    if top >= (size := embedding_rows(model)):
        raise MismatchError(
            f"The tokenizer gives token {top}, the model knows {size} tokens.",
            "Give the model's own tokenizer.",
        )
