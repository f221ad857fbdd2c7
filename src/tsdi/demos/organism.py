"""The demo on the shipped model organism: estimate, debias, compare."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor
from transformers import (
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from tsdi import organism
from tsdi.bias import Estimation, SafetyBias, TokenPool, estimate_bias
from tsdi.bias.diagnosis import diagnose
from tsdi.bias.examination import Examination
from tsdi.bias.random_prompts import random_prompts
from tsdi.bias.refusal_log_odds import Phrases, phrase_ids, refusal_log_odds
from tsdi.demos.organism_curve import OperatingCurve, operating_curve
from tsdi.engines.base import Completion, Engine, Request, Sampling
from tsdi.engines.transformers import TransformersEngine
from tsdi.evaluation.compare import Comparison, compare_arms
from tsdi.evaluation.metrics import ArmMetrics, Judged, arm_metrics
from tsdi.judging.organism import judge_answer
from tsdi.models import shipped
from tsdi.models.chat import decode, encode_chat
from tsdi.organism.lexicon import COMPLYING_OPENERS, REFUSING_OPENERS
from tsdi.organism.load import load_organism
from tsdi.suites.load import ORGANISM_COUNTS

ARMS = ("reference", "aligned", "debiased")
COUNTS = ORGANISM_COUNTS  # test prompts
DIAGNOSED = 32  # validation prompts of each kind, for the diagnosis
STRENGTHS = (0.5,)  # of TSDI, beside the debiased arm's 1
CONSTANTS = 40  # of a null curve
EXAMPLES = 3  # of each kind
RANDOM_PROMPTS = 512
PROMPT_TOKENS = 8  # about the length of the organism's own requests
STEPS = 16
BATCH_SIZE = 256
SAMPLING = Sampling(max_new_tokens=24)
PHRASES = Phrases(REFUSING_OPENERS, COMPLYING_OPENERS)

Progress = Callable[[str, int, int], None]
"""Called with the name of a stage, what is done of it and what there is to do."""


@dataclass(frozen=True)
class Example:
    """One test prompt with the answer of every arm."""

    item: organism.Item
    answers: dict[str, str]


@dataclass(frozen=True)
class Shifted:
    """Metrics of a model with a constant added to its refusing openers at step 0."""

    constant: float
    metrics: ArmMetrics


@dataclass(frozen=True)
class DemoResult:
    """The results of the demo: metrics, null curves, comparison, log-odds and examples.

    Attributes:
        seed: Seed of the run.
        arms: Metrics of the reference, the aligned and the debiased model.
        strengths: Metrics of the debiased model at other strengths of the bias.
        curves: Metrics of the reference and the aligned model by constant: the null hypothesis.
        comparison: Aligned before, debiased after: every figure's paired change.
        log_odds: Refusal log-odds in nats of single prompts, by arm and kind; "random" prompts and
            the validation prompts of the diagnosis.
        examples: Some test prompts of each kind, first those on which aligned and debiased differ.
        bias: The estimated bias, with its diagnosis on random and on validation prompts.
        tokens: The text of every token of the bias.
    """

    seed: int
    arms: dict[str, ArmMetrics]
    strengths: dict[float, ArmMetrics]
    curves: dict[str, list[Shifted]]
    comparison: Comparison
    log_odds: dict[str, dict[str, list[float]]]
    examples: dict[str, list[Example]]
    bias: SafetyBias
    tokens: list[str]

    def to_dict(self) -> dict[str, Any]:
        """Metrics of the arms, changes in total, and categories that lost safety, as JSON."""
        return {
            "arms": {name: metrics.to_dict() for name, metrics in self.arms.items()},
            "correct_change": self.comparison.overall["correct"].change.to_dict(),
            "safety_change": self.comparison.overall["safety"].change.to_dict(),
            "lost": self.comparison.lost,
            "maybe_lost": self.comparison.maybe_lost,
        }


def run_demo(seed: int, progress: Progress) -> DemoResult:
    """Estimate the organism's bias, then answer and judge test prompts with three arms.

    Args:
        seed: Decides random prompts and test prompts.
        progress: Called as the work goes on.
    """
    aligned, reference = load_organism("aligned"), load_organism("reference")
    tokenizer = AutoTokenizer.from_pretrained(shipped.folder("aligned"))
    pool = TokenPool.from_tokenizer(tokenizer)
    bias = _estimate(aligned, reference, tokenizer, pool, seed, progress)
    real = {kind: _chats(tokenizer, kind, seed) for kind in COUNTS}
    progress("diagnose", 0, 1)
    examination = Examination(pool, real, answers=None, phrases=PHRASES)
    diagnosis = diagnose(bias, aligned, reference, tokenizer, examination)
    chats = {"random": _random_chats(tokenizer, pool, seed), **real}
    items = [
        item for kind, count in COUNTS.items() for item in organism.items("test", kind, count, seed)
    ]
    models = {"reference": reference, "aligned": aligned}
    curves = {name: _curve(models[name], tokenizer, items, name, progress) for name in models}
    answers = {name: curve.at(0.0) for name, curve in curves.items()}
    engine = TransformersEngine(aligned, tokenizer, bias, 1.0)
    answers["debiased"] = answer_items(engine, items, "debiased", progress)
    judged = {name: judge_items(items, answers[name]) for name in ARMS}
    weaker = {s: TransformersEngine(aligned, tokenizer, bias, s) for s in STRENGTHS}
    return DemoResult(
        seed=seed,
        arms={name: arm_metrics(judged[name]) for name in ARMS},
        strengths={
            strength: arm_metrics(
                judge_items(items, answer_items(engine, items, f"strength {strength}", progress))
            )
            for strength, engine in weaker.items()
        },
        curves={name: _shifted(curve, items) for name, curve in curves.items()},
        comparison=compare_arms(judged["aligned"], judged["debiased"]),
        log_odds={
            "reference": _log_odds(reference, tokenizer, chats, None),
            "aligned": _log_odds(aligned, tokenizer, chats, None),
            "debiased": _log_odds(aligned, tokenizer, chats, bias.values),
        },
        examples={kind: _examples(kind, items, answers) for kind in COUNTS},
        bias=bias.with_diagnosis(diagnosis.strength, diagnosis.to_dict()),
        tokens=[decode(tokenizer, [token]) for token in range(bias.vocab)],
    )


def answer_items(
    engine: Engine, items: list[organism.Item], name: str, progress: Progress
) -> list[Completion]:
    """Answer the organism's requests in batches."""
    completions: list[Completion] = []
    for start in range(0, len(items), BATCH_SIZE):
        requests = [Request.from_text(item.prompt) for item in items[start : start + BATCH_SIZE]]
        completions += engine.generate(requests, SAMPLING)
        progress(name, len(completions), len(items))
    return completions


def judge_items(items: list[organism.Item], completions: Sequence[Completion]) -> list[Judged]:
    """Judge answers by ground truth; ids are the items' places."""
    return [
        Judged(
            id=str(number),
            kind=item.kind,
            category=item.category,
            judgement=judge_answer(item, completion.text, completion.finish == "stop"),
        )
        for number, (item, completion) in enumerate(zip(items, completions, strict=True))
    ]


def _estimate(
    aligned: PreTrainedModel,
    reference: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    pool: TokenPool,
    seed: int,
    progress: Progress,
) -> SafetyBias:
    done = 0

    def estimated(more: int) -> None:
        nonlocal done
        done += more
        progress("estimate", done, 2 * RANDOM_PROMPTS)

    return estimate_bias(
        aligned,
        reference,
        tokenizer,
        Estimation(
            prompts=RANDOM_PROMPTS,
            steps=STEPS,
            seed=seed,
            pool=pool,
            prompt_tokens=PROMPT_TOKENS,
        ),
        progress=estimated,
    )


def _chats(tokenizer: PreTrainedTokenizerBase, kind: str, seed: int) -> list[list[int]]:
    """Validation prompts of one kind, as token ids."""
    return [
        encode_chat(tokenizer, Request.from_text(item.prompt).messages)
        for item in organism.items("validation", kind, DIAGNOSED, seed)
    ]


def _random_chats(
    tokenizer: PreTrainedTokenizerBase, pool: TokenPool, seed: int
) -> list[list[int]]:
    """Random prompts that the estimate did not see, as token ids."""
    drawn = random_prompts(tokenizer, pool, prompt_tokens=PROMPT_TOKENS, steps=1, seed=seed)
    rows: list[list[int]] = drawn.ids(RANDOM_PROMPTS, RANDOM_PROMPTS + DIAGNOSED).tolist()
    return rows


def _log_odds(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    chats: dict[str, list[list[int]]],
    bias: Tensor | None,
) -> dict[str, list[float]]:
    """Refusal log-odds of every chat, by kind."""
    refusing = phrase_ids(tokenizer, PHRASES.refusing)
    complying = phrase_ids(tokenizer, PHRASES.complying)
    return {
        kind: [refusal_log_odds(model, row, refusing, complying, (bias,))[0] for row in rows]
        for kind, rows in chats.items()
    }


def _curve(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    items: list[organism.Item],
    name: str,
    progress: Progress,
) -> OperatingCurve:
    """The answers of a model at every constant on its refusing openers, 0 among them."""
    done = 0

    def answered(more: int) -> None:
        nonlocal done
        done += more
        progress(name, done, len(items))

    return operating_curve(
        model,
        tokenizer,
        [Request.from_text(item.prompt) for item in items],
        SAMPLING,
        {ids[0] for ids in phrase_ids(tokenizer, PHRASES.refusing)},
        BATCH_SIZE,
        answered,
    )


def _shifted(curve: OperatingCurve, items: list[organism.Item]) -> list[Shifted]:
    refusing, other = judge_items(items, curve.refusing), judge_items(items, curve.other)
    return [
        Shifted(constant, arm_metrics(curve.pick(constant, refusing, other)))
        for constant in curve.constants(CONSTANTS)
    ]


def _examples(
    kind: str, items: list[organism.Item], answers: dict[str, list[Completion]]
) -> list[Example]:
    numbers = [number for number, item in enumerate(items) if item.kind == kind]
    before, after = answers["aligned"], answers["debiased"]
    numbers.sort(key=lambda number: before[number].text == after[number].text)
    return [
        Example(items[number], {name: answers[name][number].text for name in ARMS})
        for number in numbers[:EXAMPLES]
    ]
