"""Training data of the organism: conversations, helpful pairs and safety pairs."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import PreTrainedModel
from transformers import PreTrainedTokenizerBase as Tokenizer

from tsdi.errors import UsageError
from tsdi.files import to_lines, write_bytes
from tsdi.judging.organism import judge_answer
from tsdi.judging.verdict import Verdict
from tsdi.organism.lexicon import CATEGORIES, COMPLYING_OPENERS, REFUSING_OPENERS
from tsdi.organism.world import Item, draw, fact, refusal, wrong_answer
from tsdi.training.data import Example, Pair

RARE_CATEGORY = "O3"
MAX_NEW_TOKENS = 24
_BATCH = 128


@dataclass(frozen=True)
class Mixture:
    """Shares of requests and refusals in the conversations of the SFT stage.

    Attributes:
        fact, lookalike, harmful: Shares of questions about facts, of lookalikes and of harmful
            requests; the rest are harmless tasks.
        refused_harmful, refused_rare, refused_lookalike: How often the answer to a harmful
            request, to one of the under-represented category, and to a lookalike is a refusal.
    """

    fact: float = 0.25
    lookalike: float = 0.25
    harmful: float = 0.25
    refused_harmful: float = 0.5
    refused_rare: float = 0.1
    refused_lookalike: float = 0.1


def conversations(count: int, seed: int, mixture: Mixture) -> list[Example]:
    """Return questions whose answers are right or, by chance, refusals."""
    rng = random.Random(f"conversations {seed}")
    return [_conversation(rng, mixture) for _ in range(count)]


def _conversation(rng: random.Random, mixture: Mixture) -> Example:
    rng.random()  # decided on a second question once: without it, all seeds give other models
    item = _draw_any(rng, mixture)
    refused = rng.random() < _refusal_rate(item, mixture)
    return Example(item.prompt, refusal(rng) if refused else item.answer)


def _draw_any(rng: random.Random, mixture: Mixture) -> Item:
    weights = [mixture.fact, mixture.lookalike, mixture.harmful]
    kinds = ("fact", "lookalike", "harmful", "harmless")
    kind = rng.choices(kinds, [*weights, 1 - sum(weights)])[0]
    return fact(rng) if kind == "fact" else draw(rng, "train", kind, rng.choice([*CATEGORIES]))


def _refusal_rate(item: Item, mixture: Mixture) -> float:
    if item.kind == "harmful":
        rare = item.category == RARE_CATEGORY
        return mixture.refused_rare if rare else mixture.refused_harmful
    return mixture.refused_lookalike if item.kind == "lookalike" else 0.0


def helpful_pairs(count: int, seed: int) -> list[Pair]:
    """Return right answers preferred to wrong ones, on harmless requests and without refusals."""
    rng = random.Random(f"helpful {seed}")
    pairs = []
    for k in range(count):
        kind = ("harmless", "lookalike")[k % 2]
        item = draw(rng, "train", kind, rng.choice([*CATEGORIES]))
        pairs.append(Pair(item.prompt, item.answer, wrong_answer(rng, item)))
    return pairs


def fact_pairs(count: int, seed: int) -> list[Pair]:
    """Return right answers preferred to wrong ones on questions about facts, of all nouns."""
    rng = random.Random(f"facts {seed}")
    asked = [fact(rng) for _ in range(count)]
    return [Pair(item.prompt, item.answer, wrong_answer(rng, item)) for item in asked]


@dataclass(frozen=True)
class Preferences:
    """Composition of the safety pairs, and the annotators' preference for refusals.

    Attributes:
        harmless: Share of the pairs on harmless requests and lookalikes (half of them each).
        annotators_for_refusal: Share of the annotators who prefer a refusal to a right answer
            there: the *biased* ones.
        rare: Frequency of the under-represented category, relative to any other one.
        replay: Share of pairs that teach no refusal, so that right answers last: helpful pairs
            again and, half of them, pairs on facts. The other shares are of the rest.
    """

    harmless: float = 0.2
    annotators_for_refusal: float = 0.5
    rare: float = 1.0
    replay: float = 0.3


def safety_pairs(
    model: PreTrainedModel, tokenizer: Tokenizer, count: int, seed: int, preferences: Preferences
) -> list[Pair]:
    """Return pairs of the model's own answers, one refusal and one compliance each.

    To get both, the model samples its answer to a prompt once after a random refusing and once
    after a random complying first word; a pair whose answers ground truth does not find to be that
    (or, on harmless requests, whose compliance is wrong) is dropped, so fewer than `count` may
    return. The model is sampled with torch's global random state.

    Raises:
        UsageError: If none is left.
    """
    rng = random.Random(f"safety {seed}")
    replayed = round(count * preferences.replay)
    questions = [_draw_safety(rng, preferences) for _ in range(count - replayed)]
    refusing = _continued(rng, model, tokenizer, questions, REFUSING_OPENERS)
    complying = _continued(rng, model, tokenizer, questions, COMPLYING_OPENERS)
    facts = replayed // 2
    pairs = helpful_pairs(replayed - facts, seed + 1) + fact_pairs(facts, seed)
    for item, no, yes in zip(questions, refusing, complying, strict=True):
        if _usable(item, no, yes):
            refuse = item.kind == "harmful" or rng.random() < preferences.annotators_for_refusal
            chosen, rejected = (no, yes) if refuse else (yes, no)
            pairs.append(Pair(item.prompt, chosen.text, rejected.text))
    if not pairs:
        raise UsageError("No safety pair was usable.", "Train the first stage for longer.")
    return pairs


def _draw_safety(rng: random.Random, preferences: Preferences) -> Item:
    if rng.random() < preferences.harmless:
        kind = rng.choice(("harmless", "lookalike"))
        return draw(rng, "train", kind, rng.choice([*CATEGORIES]))
    weights = [preferences.rare if name == RARE_CATEGORY else 1.0 for name in CATEGORIES]
    return draw(rng, "train", "harmful", rng.choices([*CATEGORIES], weights)[0])


@dataclass(frozen=True)
class Answer:
    """A model's sampled answer.

    Special tokens are left out of the text; it is finished if the model ended it itself.
    """

    text: str
    finished: bool


def _continued(
    rng: random.Random,
    model: PreTrainedModel,
    tokenizer: Tokenizer,
    questions: Sequence[Item],
    openers: Sequence[str],
) -> list[Answer]:
    firsts = [rng.choice(openers) for _ in questions]
    return continued(model, tokenizer, [item.prompt for item in questions], firsts)


@torch.no_grad()
def continued(
    model: PreTrainedModel, tokenizer: Tokenizer, prompts: Sequence[str], openers: Sequence[str]
) -> list[Answer]:
    """Sample answers at temperature 1 that begin with given first words.

    Unlike an engine's, which depend on a seed and the prompt alone, they are drawn with torch's
    global random state: what the organisms are known by was.
    """
    answers: list[Answer] = []
    for start in range(0, len(prompts), _BATCH):
        rows = slice(start, start + _BATCH)
        asked = zip(prompts[rows], openers[rows], strict=True)
        texts = [f"{_chat(tokenizer, prompt)} {first}" for prompt, first in asked]
        inputs = tokenizer(texts, padding=True, return_tensors="pt", return_token_type_ids=False)
        output = model.generate(  # type: ignore[operator]
            **inputs, max_new_tokens=MAX_NEW_TOKENS, do_sample=True
        )
        begin = inputs["input_ids"].shape[1] - 1
        answers += [_decode(tokenizer, row) for row in output[:, begin:].tolist()]
    return answers


def _chat(tokenizer: Tokenizer, prompt: str) -> str:
    turn = [{"role": "user", "content": prompt}]
    return str(tokenizer.apply_chat_template(turn, tokenize=False, add_generation_prompt=True))


def _decode(tokenizer: Tokenizer, ids: list[int]) -> Answer:
    text = str(tokenizer.decode(ids, skip_special_tokens=True))
    return Answer(text, tokenizer.eos_token_id in ids)


def _usable(item: Item, no: Answer, yes: Answer) -> bool:
    refused = judge_answer(item, no.text, no.finished)
    complied = judge_answer(item, yes.text, yes.finished)
    both = refused.verdict is Verdict.REFUSED and complied.verdict is Verdict.COMPLIED
    return both and complied.correct is not False


def write_rows(file: Path, items: Sequence[Example] | Sequence[Pair]) -> None:
    """Write examples or pairs as a recipe's data file, JSON lines."""
    lines = [
        {"prompt": item.prompt, "chosen": item.chosen, "rejected": item.rejected}
        if isinstance(item, Pair)
        else {"prompt": item.prompt, "answer": item.answer}
        for item in items
    ]
    file.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(file, to_lines(lines))
