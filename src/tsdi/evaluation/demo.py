"""The main job, end to end, on the shipped model organism: estimate, debias, compare."""

from collections.abc import Callable
from dataclasses import dataclass

from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from tsdi import organism
from tsdi.bias import SafetyBias, TokenPool, estimate_bias
from tsdi.bias.diagnosis import diagnose
from tsdi.bias.phrases import Phrases
from tsdi.chat import encode_chat
from tsdi.engines.base import Completion, Engine, Request, Sampling
from tsdi.engines.transformers import TransformersEngine
from tsdi.evaluation.metrics import (
    ArmMetrics,
    Judged,
    arm_metrics,
    correct_change,
    safety_change,
)
from tsdi.evaluation.statistics import Estimate
from tsdi.organism.lexicon import COMPLYING_OPENERS, REFUSING_OPENERS

ARMS = ("reference", "aligned", "debiased")
COUNTS = {"harmless": 320, "lookalike": 320, "harmful": 640}  # 40 harmful ones per category
RANDOM_PROMPTS = 512
DIAGNOSED = 32  # validation prompts of each kind, for the diagnosis
PROMPT_TOKENS = 8  # about the length of the organism's own requests
STEPS = 16
BATCH_SIZE = 64
SAMPLING = Sampling(max_new_tokens=24)

Progress = Callable[[str, int, int], None]
"""Called with the name of a stage, what is done of it and what there is to do."""


@dataclass(frozen=True)
class Example:
    """One test prompt with the answer of every arm."""

    item: organism.Item
    answers: dict[str, str]


@dataclass(frozen=True)
class DemoResult:
    """Everything that the demo shows.

    Attributes:
        arms: Figures of the reference, the aligned and the debiased model.
        correct_change: Debiased minus aligned, share of right answers on harmless and lookalike
            prompts, paired.
        safety_change: Debiased minus aligned, share of safe answers on harmful prompts, paired.
        examples: Of each kind, the first test prompt on which aligned and debiased differ.
        bias: The estimated bias, with its diagnosis on random and on validation prompts.
    """

    arms: dict[str, ArmMetrics]
    correct_change: Estimate
    safety_change: Estimate
    examples: list[Example]
    bias: SafetyBias


def run_demo(seed: int, progress: Progress) -> DemoResult:
    """Estimate the organism's bias, then answer and judge test prompts with three arms.

    Args:
        seed: Decides random prompts and test prompts.
        progress: Called as the work goes on.
    """
    aligned, reference = load_organism("aligned"), load_organism("reference")
    tokenizer = AutoTokenizer.from_pretrained(organism.folder("aligned"))
    pool = TokenPool.from_tokenizer(tokenizer)
    done = 0

    def estimated(more: int) -> None:
        nonlocal done
        done += more
        progress("estimate", done, 2 * RANDOM_PROMPTS)

    bias = estimate_bias(
        aligned,
        reference,
        tokenizer,
        prompts=RANDOM_PROMPTS,
        steps=STEPS,
        seed=seed,
        pool=pool,
        prompt_tokens=PROMPT_TOKENS,
        progress=estimated,
    )
    phrases = Phrases(REFUSING_OPENERS, COMPLYING_OPENERS)
    real = {kind: _chats(tokenizer, kind, seed) for kind in COUNTS}
    progress("diagnose", 0, 1)
    diagnosis = diagnose(bias, aligned, reference, tokenizer, pool, real, phrases=phrases)
    items = [
        item for kind, count in COUNTS.items() for item in organism.items("test", kind, count, seed)
    ]
    engines = {
        "reference": TransformersEngine(reference, tokenizer),
        "aligned": TransformersEngine(aligned, tokenizer),
        "debiased": TransformersEngine(aligned, tokenizer, bias),
    }
    answers = {name: answer_items(engines[name], items, name, progress) for name in ARMS}
    judged = {name: judge_items(items, answers[name]) for name in ARMS}
    return DemoResult(
        arms={name: arm_metrics(judged[name]) for name in ARMS},
        correct_change=correct_change(judged["aligned"], judged["debiased"]),
        safety_change=safety_change(judged["aligned"], judged["debiased"]),
        examples=[_example(kind, items, answers) for kind in COUNTS],
        bias=bias.with_diagnosis(diagnosis.strength, diagnosis.to_dict()),
    )


def _chats(tokenizer: PreTrainedTokenizerBase, kind: str, seed: int) -> list[list[int]]:
    """Validation prompts of one kind, as token ids."""
    return [
        encode_chat(tokenizer, Request.from_text(item.prompt).messages)
        for item in organism.items("validation", kind, DIAGNOSED, seed)
    ]


def load_organism(name: str) -> PreTrainedModel:
    """A shipped model in float32, ready to run."""
    model = AutoModelForCausalLM.from_pretrained(organism.folder(name), dtype="float32")
    loaded: PreTrainedModel = model.eval()
    loaded.config._name_or_path = f"organism/{name}"  # shown instead of where tsdi is installed
    return loaded


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


def judge_items(items: list[organism.Item], completions: list[Completion]) -> list[Judged]:
    """Judge answers by ground truth; ids are the items' places."""
    return [
        Judged(
            id=str(number),
            kind=item.kind,
            category=item.category,
            judgement=organism.judge(item, completion.text, completion.finish == "stop"),
        )
        for number, (item, completion) in enumerate(zip(items, completions, strict=True))
    ]


def _example(
    kind: str, items: list[organism.Item], answers: dict[str, list[Completion]]
) -> Example:
    numbers = [number for number, item in enumerate(items) if item.kind == kind]
    differing = (n for n in numbers if answers["aligned"][n].text != answers["debiased"][n].text)
    chosen = next(differing, numbers[0])
    return Example(items[chosen], {name: answers[name][chosen].text for name in ARMS})
