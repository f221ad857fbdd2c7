"""Is one vector right for this pair of models? Numbers, and a verdict."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from math import inf
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from tsdi.bias import head
from tsdi.bias.phrases import ENGLISH, Phrases, phrase_ids, refusal_log_odds
from tsdi.bias.pool import TokenPool
from tsdi.bias.prompts import random_prompts
from tsdi.bias.sums import Progress
from tsdi.bias.value import SafetyBias
from tsdi.chat import decode
from tsdi.compatibility import context_length
from tsdi.decoding.greedy import generate_greedily
from tsdi.errors import MismatchError, NumericalError, PromptError
from tsdi.interval import Estimate, json_fields, mean_interval
from tsdi.models import Side, as_side

RANDOM = "random"
TOKENS_SHOWN = 8
RANDOM_PROMPTS = 64
RESAMPLES = 1000
ONE_AT_A_TIME = 128  # prompts whose logits are kept while the other model is loaded


@dataclass(frozen=True)
class Refusal:
    """Refusal log-odds on one kind of prompt, in nats, means over prompts with t-intervals.

    Attributes:
        reference: Of the reference model.
        aligned: Of the aligned model.
        debiased: Of the aligned model less the bias at strength 1.
        shift: aligned - reference, paired.
    """

    reference: Estimate
    aligned: Estimate
    debiased: Estimate
    shift: Estimate


@dataclass(frozen=True)
class TokenShift:
    """One token's shift at one step, in logits."""

    token: int
    text: str
    shift: float
    error: float


@dataclass(frozen=True)
class Diagnosis:
    """What is known of a bias.

    Attributes:
        promoted: Most promoted tokens of every step.
        demoted: Most demoted tokens of every step.
        reliability: Split-half reliability of every step.
        refusal: Refusal log-odds by kind of prompt; "random" is always there.
        explained: Share of the shift on the reference's greedy answers that the bias explains, by
            kind of prompt; can be negative.
        one_number: Share of the bias at step 0 that one number on the refusing tokens makes up,
            weighted by the mean next-token distribution of both models; near 1, subtracting the
            bias does what one tuned number would.
        strength: Recommended strength, 0 or 1.
        verdict: The same in words.
    """

    promoted: list[list[TokenShift]]
    demoted: list[list[TokenShift]]
    reliability: tuple[float, ...]
    refusal: dict[str, Refusal]
    explained: dict[str, Estimate]
    one_number: float
    strength: float
    verdict: str

    def to_dict(self) -> dict[str, Any]:
        """As plain objects, for JSON."""
        return asdict(self, dict_factory=json_fields)


def diagnose(
    bias: SafetyBias,
    aligned: PreTrainedModel | Side,
    reference: PreTrainedModel | Side,
    tokenizer: PreTrainedTokenizerBase,
    pool: TokenPool,
    prompts: Mapping[str, Sequence[Sequence[int]]] | None = None,
    *,
    random: int = RANDOM_PROMPTS,
    phrases: Phrases = ENGLISH,
    progress: Progress | None = None,
) -> Diagnosis:
    """Examine a bias on fresh random prompts, and on real ones if there are any.

    Args:
        bias: The bias of this pair.
        aligned: The model after the safety step.
        reference: The model before it.
        tokenizer: The tokenizer of both.
        pool: The pool that the bias was estimated with.
        prompts: Real prompts as token ids, template included, by kind ("harmless", "harmful/O3").
        random: Number of random prompts, others than those of the estimate.
        phrases: Beginnings of refusing and complying answers.
        progress: Called with the number of prompts that both models have just done.

    Raises:
        PromptError: If a prompt does not fit the model's context.
        NumericalError: If a model gives NaN or infinite numbers.
    """
    kinds = {RANDOM: _fresh_prompts(bias, tokenizer, pool, random), **(prompts or {})}
    refusing = phrase_ids(tokenizer, phrases.refusing)
    complying = phrase_ids(tokenizer, phrases.complying)
    shifts = {kind: _KindShift() for kind in kinds}
    sides = as_side(reference), as_side(aligned)
    together = all(side.loaded for side in sides)
    for part in _parts(kinds, 8 if together else ONE_AT_A_TIME):
        answers: list[tuple[list[int], Tensor]] = []
        with sides[0].open() as model:
            check_lengths(model, part, max(bias.steps, *map(len, [*refusing, *complying])))
            for kind, prompt in part:
                odds = refusal_log_odds(model, prompt, refusing, complying, (None,))
                shifts[kind].reference.append(odds[0])
                answers.append(_greedy(model, tokenizer, prompt, bias.steps))
        with sides[1].open() as model:
            for (kind, prompt), (answer, before) in zip(part, answers, strict=True):
                odds = refusal_log_odds(model, prompt, refusing, complying, (None, bias.values))
                shifts[kind].aligned.append(odds[0])
                shifts[kind].debiased.append(odds[1])
                after = _teacher_forced(model, prompt, answer)
                shifts[kind].add_shift(before, after, bias.values)
        if progress is not None:
            progress(len(part))
    refusal = {kind: shift.refusal() for kind, shift in shifts.items()}
    harmful = [found for kind, found in refusal.items() if kind.partition("/")[0] == "harmful"]
    strength, verdict = _verdict(refusal[RANDOM].shift, [found.shift for found in harmful])
    return Diagnosis(
        promoted=shifted_tokens(bias, tokenizer, largest=True),
        demoted=shifted_tokens(bias, tokenizer, largest=False),
        reliability=bias.info.reliability,
        refusal=refusal,
        explained={kind: shift.explained() for kind, shift in shifts.items()},
        one_number=one_number_share(
            bias.values[0],
            {ids[0] for ids in refusing},
            torch.stack([shift.next_token for shift in shifts.values()]).sum(0),
        ),
        strength=strength,
        verdict=verdict,
    )


def recommend(
    bias: SafetyBias,
    aligned: PreTrainedModel | Side,
    reference: PreTrainedModel | Side,
    tokenizer: PreTrainedTokenizerBase,
    pool: TokenPool | str = "neutral",
    prompts: Mapping[str, Sequence[Sequence[int]]] | None = None,
    *,
    phrases: Phrases = ENGLISH,
    progress: Progress | None = None,
) -> SafetyBias:
    """The same bias with its diagnosis and the strength that this recommends.

    Args:
        bias: The bias of this pair.
        aligned: As for `diagnose`, like the rest.
        reference: The model before the safety step.
        tokenizer: The tokenizer of both.
        pool: Token pool that the bias was estimated with, or its name as in
            ``TokenPool.from_name``.
        prompts: Real prompts as token ids by kind.
        phrases: Beginnings of refusing and complying answers.
        progress: Called with the number of prompts that both models have just done.

    Raises:
        MismatchError: If the bias was estimated with another pool.
        TsdiError: As `diagnose`.
    """
    if isinstance(pool, str):
        pool = TokenPool.from_name(pool, tokenizer)
    if pool.sha256 != bias.info.pool_sha256:
        raise MismatchError(
            f"The bias was estimated with another token pool ({bias.info.pool!r}) than this.",
            "Give the same pool.",
        )
    found = diagnose(
        bias, aligned, reference, tokenizer, pool, prompts, phrases=phrases, progress=progress
    )
    return bias.with_diagnosis(found.strength, found.to_dict())


def shifted_tokens(
    bias: SafetyBias,
    tokenizer: PreTrainedTokenizerBase,
    *,
    largest: bool,
    number: int = TOKENS_SHOWN,
) -> list[list[TokenShift]]:
    """The most promoted (or demoted) tokens of every step, with decoded text and error."""
    top = bias.values.topk(min(number, bias.vocab), largest=largest)
    return [
        [
            TokenShift(int(i), decode(tokenizer, [int(i)]), float(v), float(errors[i]))
            for i, v in zip(tokens, values, strict=True)
        ]
        for tokens, values, errors in zip(top.indices, top.values, bias.standard_error, strict=True)
    ]


def one_number_share(shift: Tensor, refusing: set[int], weights: Tensor) -> float:
    """How much of a shift is one number on the refusing tokens: the weighted R^2 of that fit.

    Args:
        shift: [vocab], in logits.
        refusing: Token ids.
        weights: How much each token counts, such as a next-token distribution, [vocab].
    """
    indicator = torch.zeros(len(shift), dtype=torch.float64)
    indicator[list(refusing)] = 1
    weights = weights.double() / weights.double().sum()
    x, y = (values - weights @ values for values in (indicator, shift.double()))
    total = (weights @ x.square()) * (weights @ y.square())
    return float((weights @ (x * y)) ** 2 / total) if total > 0 else 0.0


def explained_share(before: Tensor, after: Tensor, bias: Tensor) -> tuple[float, float]:
    """Parts of 1 - sum |g - G|^2 / sum |g|^2 for one prompt (design: diagnosis).

    |.|^2 is the variance under the mean of both models' next-token distributions.

    Args:
        before: The reference's logits, [answer, vocab].
        after: The aligned model's logits on the same tokens, [answer, vocab].
        bias: G, [steps >= answer, vocab].

    Returns:
        sum |g - G|^2 and sum |g|^2.
    """
    vocab = bias.shape[1]
    before, after = before[:, :vocab].double(), after[:, :vocab].double()
    weights = _mean_distribution(before, after)
    shift = after - before
    rest = shift - bias[: len(shift)].double()
    return float(_variance(rest, weights)), float(_variance(shift, weights))


def _mean_distribution(before: Tensor, after: Tensor) -> Tensor:
    return (before.softmax(-1) + after.softmax(-1)) / 2


def _variance(x: Tensor, weights: Tensor) -> Tensor:
    mean = (weights * x).sum(-1, keepdim=True)
    return (weights * (x - mean).square()).sum()


class _KindShift:
    """What is collected over the prompts of one kind."""

    def __init__(self) -> None:
        self.reference: list[float] = []
        self.aligned: list[float] = []
        self.debiased: list[float] = []
        self.next_token = torch.zeros(())  # sum of the distributions at step 0, [vocab]
        self._rest: list[float] = []
        self._total: list[float] = []

    def add_shift(self, before: Tensor, after: Tensor, bias: Tensor) -> None:
        if not (bool(before.isfinite().all()) and bool(after.isfinite().all())):
            raise NumericalError(
                "A model gives NaN or infinite numbers on a prompt of the diagnosis.",
                "Check its weights, or load it in float32 or bfloat16.",
            )
        rest, total = explained_share(before, after, bias)
        self._rest.append(rest)
        self._total.append(total)
        vocab = bias.shape[1]
        first = _mean_distribution(before[0, :vocab].double(), after[0, :vocab].double())
        self.next_token = self.next_token + first

    def refusal(self) -> Refusal:
        change = np.subtract(self.aligned, self.reference)
        return Refusal(
            reference=mean_interval(self.reference),
            aligned=mean_interval(self.aligned),
            debiased=mean_interval(self.debiased),
            shift=mean_interval(change.tolist()),
        )

    def explained(self) -> Estimate:
        """1 - sum rest / sum total, bootstrapped over prompts."""
        rest, total = np.array(self._rest), np.array(self._total)
        if not total.all():  # a resample without any shift would explain 0 of 0
            return Estimate(None, -inf, inf, len(rest))
        if len(rest) == 1:  # says nothing of other prompts
            return Estimate(float(1 - rest[0] / total[0]), -inf, inf, 1)
        drawn = np.random.default_rng(0).integers(0, len(rest), (RESAMPLES, len(rest)))
        shares = 1 - rest[drawn].sum(1) / total[drawn].sum(1)
        low, high = np.quantile(shares, [0.025, 0.975])
        return Estimate(float(1 - rest.sum() / total.sum()), float(low), float(high), len(rest))


def _verdict(shift: Estimate, harmful: Sequence[Estimate]) -> tuple[float, str]:
    """Recommended strength, and why.

    Args:
        shift: On random prompts.
        harmful: On harmful ones, by category; none if there were none.
    """
    if shift.low > 0:
        raises = (
            "On random prompts, whatever they say, the safety step raises the refusal log-odds, by "
            f"nats: {shift}."
        )
        less = [one for one in harmful if one.high < shift.low]
        if harmful and len(less) == len(harmful):
            return 0.0, (
                f"{raises} Harmful prompts moved less than random ones, so nothing would be left of"
                " the safety gained. Recommended strength: 0; see tsdi tune."
            )
        return 1.0, f"{raises} Recommended strength: 1."
    if shift.high < 0:
        return 0.0, (
            f"On random prompts the safety step lowers the refusal log-odds, by nats: {shift}. "
            "There is no refusal bias to remove. Recommended strength: 0."
        )
    return 0.0, (
        "On random prompts the safety step does not clearly change the refusal log-odds, by nats: "
        f"{shift}. No refusal bias is shown. Recommended strength: 0."
    )


def check_lengths(
    model: PreTrainedModel, prompts: Sequence[tuple[str, Sequence[int]]], answer: int
) -> None:
    """Raise PromptError unless every (kind, prompt) leaves the context room for an answer."""
    limit = context_length(model)
    for kind, prompt in prompts:
        if limit is not None and len(prompt) + answer > limit:
            raise PromptError(
                f"A {kind} prompt for the diagnosis has {len(prompt)} tokens; with an answer of "
                f"{answer} it does not fit the model's context of {limit}.",
                "Leave it out of the file.",
            )


def _parts(
    kinds: Mapping[str, Sequence[Sequence[int]]], size: int
) -> list[list[tuple[str, list[int]]]]:
    rows = [(kind, list(prompt)) for kind, prompts in kinds.items() for prompt in prompts]
    return [rows[i : i + size] for i in range(0, len(rows), size)]


def _fresh_prompts(
    bias: SafetyBias, tokenizer: PreTrainedTokenizerBase, pool: TokenPool, number: int
) -> list[list[int]]:
    info = bias.info
    drawn = random_prompts(
        tokenizer,
        pool,
        prompt_tokens=info.prompt_tokens,
        steps=1,
        seed=info.seed,
        chat_format=info.chat_format,
        anchor=info.anchor,
    )
    rows: list[list[int]] = drawn.ids(info.prompts, info.prompts + number).tolist()
    return rows


def _greedy(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, prompt: list[int], steps: int
) -> tuple[list[int], Tensor]:
    """The model's greedy answer of at most ``steps`` tokens, and its logits there."""
    answers, _ = generate_greedily(model, tokenizer, [prompt], steps)
    return answers[0], _teacher_forced(model, prompt, answers[0])


def _teacher_forced(model: PreTrainedModel, prompt: list[int], answer: list[int]) -> Tensor:
    """Logits that predict each token of an answer, [answer, vocab]."""
    ids = torch.tensor([[*prompt, *answer]])[:, :-1]
    return head.logits(model, ids, len(answer))[0].cpu()
