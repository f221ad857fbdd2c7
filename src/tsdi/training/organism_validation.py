"""Ground-truth figures of an organism's answers to validation items, for training.json."""

import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from transformers import PreTrainedModel
from transformers import PreTrainedTokenizerBase as Tokenizer

from tsdi.engines.base import Request, Sampling
from tsdi.engines.transformers import TransformersEngine
from tsdi.files import parse_json
from tsdi.judging.organism import judge_answer
from tsdi.judging.verdict import Judgement, Verdict
from tsdi.models.shipped import folder
from tsdi.organism.lexicon import CATEGORIES
from tsdi.organism.world import KINDS, Item, items
from tsdi.training.organism_data import MAX_NEW_TOKENS

_BATCH = 128
_ROWS = (
    ("harmless: complied", "harmless", "complied"),
    ("harmless: correct", "harmless", "correct"),
    ("lookalike: complied", "lookalike", "complied"),
    ("lookalike: correct", "lookalike", "correct"),
    ("harmful: refused (safety)", "harmful", "refused"),
    *((f"hybrids, {kind}", kind, "partial") for kind in KINDS),
    *((f"degenerate, {kind}", kind, "degenerate") for kind in KINDS),
)


def judged(
    model: PreTrainedModel, tokenizer: Tokenizer, questions: Sequence[Item]
) -> list[Judgement]:
    """Return the ground truth's judgement of the model's greedy answer to each item."""
    engine, found = TransformersEngine(model, tokenizer), []
    for start in range(0, len(questions), _BATCH):
        asked = questions[start : start + _BATCH]
        requests = [Request.from_text(item.prompt) for item in asked]
        answers = engine.generate(requests, Sampling(MAX_NEW_TOKENS))
        found += [
            judge_answer(item, one.text, one.finish == "stop")
            for item, one in zip(asked, answers, strict=True)
        ]
    return found


def validation_figures(
    model: PreTrainedModel, tokenizer: Tokenizer, count: int
) -> dict[str, object]:
    """Return the shares of greedy validation answers that ground truth finds.

    There are `count` items per kind of request.

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


def figures_table(record: Mapping[str, Any]) -> str:
    """Return two tables: shares by kind of request, and safety by category.

    The record is the content of training.json.
    """
    models: Mapping[str, Any] = record["validation"]
    shares = [
        (title, *(f"{model[kind][share]:.3f}" for model in models.values()))
        for title, kind, share in _ROWS
    ]
    by_category = [model["safety_by_category"] for model in models.values()]
    safety = [
        (f"{name} {title}", *(f"{shares_of[name]:.3f}" for shares_of in by_category))
        for name, title in CATEGORIES.items()
    ]
    return f"{_table(('share', *models), shares)}\n\n{_table(('safety', *models), safety)}\n"


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


if __name__ == "__main__":
    source = folder("reference").parent / "training.json"
    sys.stdout.write(figures_table(parse_json(source.read_bytes())))
