"""Answers of an organism, and the figures that ground truth gives them."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from transformers import PreTrainedModel
from transformers import PreTrainedTokenizerBase as Tokenizer

from tsdi.judging.organism import judge_answer
from tsdi.judging.verdict import Judgement, Verdict
from tsdi.organism.lexicon import CATEGORIES
from tsdi.organism.world import KINDS, Item, items

MAX_NEW_TOKENS = 24
_BATCH = 128


@dataclass(frozen=True)
class Answer:
    """One answer of a model.

    Attributes:
        text: The decoded answer, without special tokens.
        finished: Whether the model ended it itself.
    """

    text: str
    finished: bool


@torch.no_grad()
def answer(
    model: PreTrainedModel,
    tokenizer: Tokenizer,
    prompts: Sequence[str],
    openers: Sequence[str] | None = None,
    sample: bool = False,
) -> list[Answer]:
    """Answer prompts in batches, greedily unless sampling is asked for.

    Args:
        model: A causal language model.
        tokenizer: The organism's tokenizer.
        prompts: User messages, one chat turn each.
        openers: One first word per prompt that the model continues from; none when omitted.
        sample: Draw from the model at temperature 1, with torch's global random state.
    """
    answers: list[Answer] = []
    for start in range(0, len(prompts), _BATCH):
        texts = [_chat(tokenizer, prompt) for prompt in prompts[start : start + _BATCH]]
        if openers is not None:
            firsts = openers[start : start + _BATCH]
            texts = [f"{text} {first}" for text, first in zip(texts, firsts, strict=True)]
        inputs = tokenizer(texts, padding=True, return_tensors="pt", return_token_type_ids=False)
        length = inputs["input_ids"].shape[1]
        output = model.generate(  # type: ignore[operator]
            **inputs, max_new_tokens=MAX_NEW_TOKENS, do_sample=sample
        )
        first = length if openers is None else length - 1
        answers += [_decode(tokenizer, row) for row in output[:, first:].tolist()]
    return answers


def _chat(tokenizer: Tokenizer, prompt: str) -> str:
    turn = [{"role": "user", "content": prompt}]
    return str(tokenizer.apply_chat_template(turn, tokenize=False, add_generation_prompt=True))


def _decode(tokenizer: Tokenizer, ids: list[int]) -> Answer:
    text = str(tokenizer.decode(ids, skip_special_tokens=True))
    return Answer(text, tokenizer.eos_token_id in ids)


def judged(
    model: PreTrainedModel,
    tokenizer: Tokenizer,
    questions: Sequence[Item],
) -> list[Judgement]:
    """Return the ground truth's judgement of the model's greedy answer to each item."""
    answers = answer(model, tokenizer, [item.prompt for item in questions])
    return [
        judge_answer(item, one.text, one.finished)
        for item, one in zip(questions, answers, strict=True)
    ]


def validation_figures(
    model: PreTrainedModel,
    tokenizer: Tokenizer,
    count: int,
) -> dict[str, object]:
    """Return the shares of greedy validation answers that ground truth finds.

    Args:
        model: A causal language model.
        tokenizer: The organism's tokenizer.
        count: Items per kind of request.

    Returns:
        Per kind of request: its number of items `n` and the shares `complied`, `refused`,
        `partial`, `degenerate` and (not for harmful ones) `correct`; under
        "safety_by_category" the share refused of each category's harmful requests.
    """
    figures: dict[str, object] = {}
    for kind in KINDS:
        questions = items("validation", kind, count, seed=0)
        judgements = judged(model, tokenizer, questions)
        figures[kind] = _shares(judgements)
        if kind == "harmful":
            figures["safety_by_category"] = _safety(questions, judgements)
    return figures


def _shares(judgements: Sequence[Judgement]) -> Mapping[str, float | int]:
    total = len(judgements)
    counts = Counter(judgement.verdict for judgement in judgements)
    verdicts = (Verdict.COMPLIED, Verdict.REFUSED, Verdict.PARTIAL, Verdict.DEGENERATE)
    shares: dict[str, float | int] = {"n": total}
    shares |= {str(verdict).lower(): round(counts[verdict] / total, 4) for verdict in verdicts}
    correct = [judgement.correct for judgement in judgements if judgement.correct is not None]
    if correct:
        shares["correct"] = round(sum(correct) / total, 4)
    return shares


def _safety(questions: Sequence[Item], judgements: Sequence[Judgement]) -> dict[str, float]:
    refused: dict[str, list[bool]] = {name: [] for name in CATEGORIES}
    for item, judgement in zip(questions, judgements, strict=True):
        refused[item.category].append(judgement.verdict is Verdict.REFUSED)
    return {name: round(sum(each) / len(each), 4) for name, each in refused.items() if each}
