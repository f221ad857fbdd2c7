"""The diagnosis of a bias: is one vector right for this pair of models?"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from math import inf
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from tsdi.bias.accumulate import Progress
from tsdi.bias.case import NOTHING, Case
from tsdi.bias.examination import RANDOM, Examination, Row, check_lengths, examined_rows
from tsdi.bias.explained_variance import PromptShift, mean_distribution
from tsdi.bias.pool import TokenPool
from tsdi.bias.read_prompts import PromptReader
from tsdi.bias.refusal_log_odds import phrase_ids
from tsdi.bias.safety_bias import SafetyBias
from tsdi.errors import MismatchError
from tsdi.models.chat import decode
from tsdi.models.sides import Side, as_side
from tsdi.stats.interval import Estimate, as_json
from tsdi.stats.seeds import mean_interval

TOKENS_SHOWN = 8
LEAST_REMOVED = 0.5  # of the shift on random prompts, for a bias that is worth subtracting
RESAMPLES = 1000
BATCH_SIZE = 32
ONE_AT_A_TIME = 128  # prompts whose logits are kept while the other model is loaded

_NO_SHIFT = (
    "The two models give exactly the same logits on all random prompts: no safety step lies between"
    " them, or it changed nothing. There is nothing to subtract. Recommended strength: 0."
)


@dataclass(frozen=True)
class Refusal:
    """Refusal log-odds on one kind of prompt, in nats, means over prompts with t-intervals.

    Attributes:
        reference: Log-odds of the reference model.
        aligned: Log-odds of the aligned model.
        debiased: Log-odds of the aligned model less the bias at strength 1.
        shift: aligned - reference, paired.
        removed: aligned - debiased, paired: the part of the shift that subtracting removes.
    """

    reference: Estimate
    aligned: Estimate
    debiased: Estimate
    shift: Estimate
    removed: Estimate


@dataclass(frozen=True)
class TokenShift:
    """One token's shift at one step, in logits.

    `likely` is its probability there, a mean over prompts and both models; None where no model was
    asked.
    """

    token: int
    text: str
    shift: float
    error: float
    likely: float | None = None


@dataclass(frozen=True)
class Diagnosis:
    """The findings about a bias, and the strength that follows from them.

    Attributes:
        promoted: Most promoted tokens of every step, by shift times probability: the largest shifts
            are those of tokens that no answer has.
        demoted: Most demoted tokens of every step, likewise.
        reliability: Split-half reliability of every step.
        refusal: Refusal log-odds by kind of prompt; "random" is always there.
        explained: Share of the shift on the reference's greedy answers that the bias explains, by
            kind of prompt; can be negative.
        one_number: Share of the bias at step 0 that one number on the refusing tokens explains,
            weighted by the mean next-token distribution of both models; near 1, subtracting the
            bias does what one tuned number would.
        strength: Recommended strength, 0 or 1.
        verdict: The recommendation and its reason, in words.
        case: Whether there is nothing to remove; else None, as only labelled prompts say more
            (`tsdi.condition.case`).
    """

    promoted: list[list[TokenShift]]
    demoted: list[list[TokenShift]]
    reliability: tuple[float, ...]
    refusal: dict[str, Refusal]
    explained: dict[str, Estimate]
    one_number: float
    strength: float
    verdict: str
    case: Case | None = None

    def to_dict(self) -> dict[str, Any]:
        """The diagnosis as JSON."""
        return as_json(self)


def diagnose(
    bias: SafetyBias,
    aligned: PreTrainedModel | Side,
    reference: PreTrainedModel | Side,
    tokenizer: PreTrainedTokenizerBase,
    settings: Examination = Examination(),
    *,
    batch_size: int = BATCH_SIZE,
    progress: Progress | None = None,
) -> Diagnosis:
    """Diagnose a bias on fresh random prompts, and on real ones if there are any.

    Args:
        bias: The bias of this pair.
        aligned: The model after the safety step.
        reference: The model before it.
        tokenizer: The tokenizer of both.
        settings: Prompts and phrases of the diagnosis.
        batch_size: Prompts read together; halved where memory runs out.
        progress: Called with the number of prompts that both models have just done.

    Raises:
        PromptError: If a prompt does not fit the model's context.
        NumericalError: If a model gives NaN or infinite numbers.
    """
    pool = TokenPool.from_name(settings.pool, tokenizer)
    asked = examined_rows(bias, tokenizer, pool, settings)
    refusing = phrase_ids(tokenizer, settings.phrases.refusing)
    complying = phrase_ids(tokenizer, settings.phrases.complying)
    reader = PromptReader(tokenizer, refusing, complying, bias.steps, batch_size)
    sides = as_side(aligned), as_side(reference)
    shifts, likely = _shifts(bias, asked, *sides, reader, settings.answers, progress)
    refusal = {kind: _refusal(every) for kind, every in shifts.items()}
    harmful = [found for kind, found in refusal.items() if kind.partition("/")[0] == "harmful"]
    strength, verdict, nothing = 0.0, _NO_SHIFT, True
    if bias.values.any():
        strength, verdict = _verdict(refusal[RANDOM], [found.shift for found in harmful])
        nothing = not _verdict(refusal[RANDOM], [])[0]  # whatever harmful prompts lose
    return Diagnosis(
        promoted=shifted_tokens(bias, tokenizer, largest=True, likely=likely),
        demoted=shifted_tokens(bias, tokenizer, largest=False, likely=likely),
        reliability=bias.info.reliability,
        refusal=refusal,
        explained={kind: found for kind, every in shifts.items() if (found := _explained(every)).n},
        one_number=one_number_share(bias.values[0], {ids[0] for ids in refusing}, likely[0]),
        strength=strength,
        verdict=verdict,
        case=NOTHING if nothing else None,
    )


def _shifts(
    bias: SafetyBias,
    rows: Sequence[Row],
    aligned: Side,
    reference: Side,
    reader: PromptReader,
    answers: int | None,
    progress: Progress | None,
) -> tuple[dict[str, list[PromptShift]], Tensor]:
    """The shift of every prompt by kind, in order, and mean next-token distributions by step.

    At a step that no answer reaches all tokens are alike.
    """
    answered = _answered([row.kind for row in rows], answers)
    found: dict[int, PromptShift] = {}
    likely = torch.zeros(bias.steps, bias.vocab, dtype=torch.float64)
    batched: dict[str, bool] = {}
    for numbers, reads in _parts(rows, answered, reader, aligned.loaded and reference.loaded):
        with reference.open() as model:
            if not batched:
                theirs = [row.before for row in rows]
                check_lengths(model, [(row.kind, row.before) for row in rows], reader.longest)
                batched["reference"] = reader.can_batch(model, theirs)
            part = [rows[n].before for n in numbers]
            before = list(reads.read(model, part, None, (None,), batched["reference"]))
        with aligned.open() as model:
            if "aligned" not in batched:
                batched["aligned"] = reader.can_batch(model, [row.after for row in rows])
            part, answer = [rows[n].after for n in numbers], [one.answer for one in before]
            after = reads.read(model, part, answer, (None, bias.shift), batched["aligned"])
            for n, one, other in zip(numbers, before, after, strict=True):
                found[n] = PromptShift.between(one, other, bias.shift, answered=n in answered)
                read = [said.logits[:, : bias.vocab].double() for said in (one, other)]
                likely[: len(read[0])] += mean_distribution(*read)
        if progress is not None:
            progress(len(numbers))
    shifts: dict[str, list[PromptShift]] = {}
    for n, row in enumerate(rows):
        shifts.setdefault(row.kind, []).append(found[n])
    likely[likely.sum(1) == 0] = 1.0
    return shifts, likely / likely.sum(1, keepdim=True)


def _answered(kinds: Sequence[str], limit: int | None) -> set[int]:
    """Indices of the prompts whose answers are read.

    Args:
        kinds: Kind and category of every prompt.
        limit: Most prompts of a sort: random, harmless, harmful. They are the first of each of its
            categories in turn.
    """
    turns: dict[str, list[tuple[int, int]]] = {}
    seen: dict[str, int] = {}
    for n, kind in enumerate(kinds):
        turns.setdefault(kind.partition("/")[0], []).append((seen.get(kind, 0), n))
        seen[kind] = seen.get(kind, 0) + 1
    return {n for sort in turns.values() for _, n in sorted(sort)[:limit]}


def _parts(
    rows: Sequence[Row], answered: set[int], reader: PromptReader, together: bool
) -> Iterator[tuple[list[int], PromptReader]]:
    """Batches of prompts, as indices, with the reader for each."""
    size = reader.batch_size if together else max(ONE_AT_A_TIME, reader.batch_size)
    ascending = sorted(range(len(rows)), key=lambda n: len(rows[n].after))
    for reads, numbers in (
        (reader, [n for n in ascending if n in answered]),
        (replace(reader, steps=1), [n for n in ascending if n not in answered]),
    ):
        for start in range(0, len(numbers), size):
            yield numbers[start : start + size], reads


def recommend(
    bias: SafetyBias,
    aligned: PreTrainedModel | Side,
    reference: PreTrainedModel | Side,
    tokenizer: PreTrainedTokenizerBase,
    settings: Examination = Examination(),
    *,
    batch_size: int = BATCH_SIZE,
    progress: Progress | None = None,
) -> SafetyBias:
    """The bias with its diagnosis and the recommended strength added.

    Raises:
        MismatchError: If the bias was estimated with another pool.
        TsdiError: If a prompt or a model cannot be used, as for `diagnose`.
    """
    pool = TokenPool.from_name(settings.pool, tokenizer)
    if pool.sha256 != bias.info.pool_sha256:
        raise MismatchError(
            f"The bias was estimated with another token pool ({bias.info.pool!r}) than this.",
            "Give the same pool.",
        )
    asked = replace(settings, pool=pool)
    found = diagnose(
        bias, aligned, reference, tokenizer, asked, batch_size=batch_size, progress=progress
    )
    return bias.with_diagnosis(found.strength, found.to_dict())


def shifted_tokens(
    bias: SafetyBias,
    tokenizer: PreTrainedTokenizerBase,
    *,
    largest: bool,
    number: int = TOKENS_SHOWN,
    likely: Tensor | None = None,
) -> list[list[TokenShift]]:
    """The most promoted (or demoted) tokens of every step, with decoded text and error.

    Args:
        bias: The bias.
        tokenizer: Its tokenizer.
        largest: Promoted tokens; else demoted ones.
        number: Tokens of a step.
        likely: Probabilities [steps, vocab] by which shifts count; None counts all alike.
    """
    weighted = bias.values if likely is None else bias.values * likely
    rows = weighted.topk(min(number, bias.vocab), largest=largest).indices

    def shown(step: int, token: int) -> TokenShift:
        value, error = float(bias.values[step, token]), float(bias.standard_error[step, token])
        probability = None if likely is None else float(likely[step, token])
        return TokenShift(token, decode(tokenizer, [token]), value, error, probability)

    return [[shown(step, token) for token in row] for step, row in enumerate(rows.tolist())]


def one_number_share(shift: Tensor, refusing: set[int], weights: Tensor) -> float:
    """The weighted R^2 of a shift fitted by one number on the refusing tokens.

    Args:
        shift: Shift of logits, [vocab].
        refusing: Token ids of refusing openers.
        weights: Weight of each token, such as a next-token distribution, [vocab].
    """
    indicator = torch.zeros(len(shift), dtype=torch.float64)
    indicator[list(refusing)] = 1
    weights = weights.double() / weights.double().sum()
    x, y = (values - weights @ values for values in (indicator, shift.double()))
    total = (weights @ x.square()) * (weights @ y.square())
    return float((weights @ (x * y)) ** 2 / total) if total > 0 else 0.0


def _refusal(shifts: Sequence[PromptShift]) -> Refusal:
    return Refusal(
        reference=mean_interval([one.reference for one in shifts]),
        aligned=mean_interval([one.aligned for one in shifts]),
        debiased=mean_interval([one.debiased for one in shifts]),
        shift=mean_interval([one.aligned - one.reference for one in shifts]),
        removed=mean_interval([one.aligned - one.debiased for one in shifts]),
    )


def _explained(shifts: Sequence[PromptShift]) -> Estimate:
    """Explained share, 1 - sum |g - G|^2 / sum |g|^2, bootstrapped over prompts."""
    parts = [one.explained for one in shifts if one.explained is not None]
    rest, total = np.array(parts).reshape(-1, 2).T
    if not len(total) or not total.all():  # a resample without any shift would explain 0 of 0
        return Estimate(None, -inf, inf, len(rest))
    if len(rest) == 1:  # says nothing of other prompts
        return Estimate(float(1 - rest[0] / total[0]), -inf, inf, 1)
    drawn = np.random.default_rng(0).integers(0, len(rest), (RESAMPLES, len(rest)))
    shares = 1 - rest[drawn].sum(1) / total[drawn].sum(1)
    low, high = np.quantile(shares, [0.025, 0.975])
    return Estimate(float(1 - rest.sum() / total.sum()), float(low), float(high), len(rest))


def _verdict(random: Refusal, harmful: Sequence[Estimate]) -> tuple[float, str]:
    """The recommended strength, and its reason in words.

    It is 1 where random prompts got likelier to be refused, subtracting the bias removes more than
    `LEAST_REMOVED` of that, and not all kinds of harmful prompts moved less; else 0.
    """
    shift, removed = random.shift, random.removed
    if shift.high < 0:
        return 0.0, (
            f"On random prompts the safety step lowers the refusal log-odds, by nats: {shift}. "
            "There is no refusal bias to remove. Recommended strength: 0. Are the two models"
            " exchanged? The one after the safety step comes first. An abliterated model is not the"
            " one before it."
        )
    if shift.value is None or shift.low <= 0:
        return 0.0, (
            "On random prompts the safety step does not clearly change the refusal log-odds, by"
            f" nats: {shift}. No refusal bias is shown. Recommended strength: 0."
        )
    raises = (
        "On random prompts, whatever they say, the safety step raises the refusal log-odds, by "
        f"nats: {shift}. Subtracting the bias takes away: {removed}."
    )
    if removed.low <= LEAST_REMOVED * shift.value:
        return 0.0, (
            f"{raises} That is not clearly more than half of it, so the bias is not what makes"
            " refusals likelier. Recommended strength: 0."
        )
    if harmful and all(one.high < shift.low for one in harmful):
        return 0.0, (
            f"{raises} Harmful prompts moved less than random ones, so nothing would be left of"
            " the safety gained. Recommended strength: 0; see tsdi tune."
        )
    return 1.0, f"{raises} Recommended strength: 1."
