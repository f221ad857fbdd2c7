"""Figure F3 on the organism's safety pairs, and what a weak judge does to human-labelled pairs.

The pairs are those that the shipped aligned model learnt from: answers of the shipped reference
model. They are scored by ground truth (1: a refusal of a harmful request, or any answer to a
harmless one) and by the rule `refusal-phrases`, with which a refusal stands for safety. The rule
also scores the 5k PKU-SafeRLHF pairs of one safe and one unsafe answer, where people say which is
which.

DIR holds pku-saferlhf/pku_saferlhf_test_safe_unsafe_pairs_5k.json.gz.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.stats import rankdata
from transformers import AutoTokenizer, set_seed
from transformers.utils import logging

from benchmarks.common import Claim, Report, parser, progress
from tsdi.judging.organism import judge_answer
from tsdi.judging.refusal import REFUSAL_PHRASES
from tsdi.judging.verdict import Verdict
from tsdi.models.shipped import folder
from tsdi.organism.lexicon import CATEGORIES
from tsdi.organism.load import load_organism
from tsdi.organism.world import Item, find_item
from tsdi.suites.prompts import read_rows
from tsdi.training.cleansing import THRESHOLD, cleanse_pairs
from tsdi.training.data import Pair, to_pairs
from tsdi.training.organism_data import RARE_CATEGORY, Preferences, safety_pairs

SEED, COUNT = 1, 4000  # of the shipped models' safety stage (organism/models/training.json)
REFUSAL, ANSWER, REPLAY = "harmless, refusal chosen", "harmless, answer chosen", "replay"
TRUTH, RULE = "ground truth", REFUSAL_PHRASES.name


def main() -> None:
    made = parser(__doc__)
    made.add_argument("--data", type=Path, required=True)
    measure(made.parse_args())


def measure(arguments: Any) -> None:
    torch.set_num_threads(1)
    logging.disable_progress_bar()
    count = COUNT // 20 if arguments.quick else COUNT
    report = Report("cleansing", arguments, {"seed": SEED, "pairs": count, "threshold": THRESHOLD})
    plain = organism_pairs(count)
    progress(f"cleansing: {len(plain)} pairs of the organism")
    scored = {TRUTH: scored_by(truth, plain), RULE: scored_by(rule, plain)}
    organism = {
        name: {
            "chosen": cleanse_pairs(pairs).to_dict(),
            "both": cleanse_pairs(pairs, rejected=True).to_dict(),
        }
        for name, pairs in scored.items()
    }
    source = arguments.data / "pku-saferlhf" / "pku_saferlhf_test_safe_unsafe_pairs_5k.json.gz"
    people = to_pairs(read_rows(source), "safe", drop_unusable=True)
    real = labelled_figures(scored_by(rule, people[: 10 * count]))
    report.write(_claims(organism, real), {"organism": organism, "people": real})


def organism_pairs(count: int) -> list[Pair]:
    """The safety pairs of the shipped models' recipe, with a category each.

    Sampled as in training, so that the same torch gives the same pairs.
    """
    tokenizer = AutoTokenizer.from_pretrained(folder("reference"))
    model = load_organism("reference")
    set_seed(SEED)
    found = safety_pairs(model, tokenizer, count, SEED, Preferences())
    return [replace(p, category=_category(p.prompt, p.chosen, p.rejected)) for p in found]


def _category(prompt: str, chosen: str, rejected: str) -> str:
    item = _item(prompt)
    if item.kind == "harmful":
        return item.category
    refusals = [
        judge_answer(item, text, True).verdict is Verdict.REFUSED for text in (chosen, rejected)
    ]
    if not any(refusals):
        return REPLAY
    return REFUSAL if refusals[0] else ANSWER


def _item(prompt: str) -> Item:
    item = find_item(prompt)
    if item is None:
        raise ValueError(f"not of the organism's world: {prompt}")
    return item


def truth(prompt: str, text: str) -> bool:
    """Whether an answer of the organism is safe."""
    item = _item(prompt)
    return item.kind != "harmful" or judge_answer(item, text, True).verdict is Verdict.REFUSED


def rule(_prompt: str, text: str) -> bool:
    """Whether the rule takes an answer for safe: it refuses."""
    return REFUSAL_PHRASES.finds(text)


def scored_by(safe: Callable[[str, str], bool], pairs: Sequence[Pair]) -> list[Pair]:
    """Pairs scored 0 or 1, by whether an answer to a prompt is safe."""
    return [
        replace(
            pair,
            chosen_safety=float(safe(pair.prompt, pair.chosen)),
            rejected_safety=float(safe(pair.prompt, pair.rejected)),
        )
        for pair in pairs
    ]


def labelled_figures(pairs: Sequence[Pair]) -> dict[str, Any]:
    """How far scores agree with people, of whom each pair's chosen answer is the safe one."""
    chosen = np.array([pair.chosen_safety for pair in pairs], dtype=np.float64)
    rejected = np.array([pair.rejected_safety for pair in pairs], dtype=np.float64)
    ranks = rankdata([*chosen, *rejected])
    n = len(pairs)
    both = {(p.prompt, p.chosen) for p in pairs} & {(p.prompt, p.rejected) for p in pairs}
    answers = {(p.prompt, text) for p in pairs for text in (p.chosen, p.rejected)}
    return {
        "cleansing": cleanse_pairs(pairs).to_dict(),
        "area_under_curve": float((ranks[:n].sum() - n * (n + 1) / 2) / n**2),
        "ordered": float(np.mean((chosen > rejected) + (chosen == rejected) / 2)),
        "chosen_below": float(np.mean(chosen < THRESHOLD)),
        "rejected_below": float(np.mean(rejected < THRESHOLD)),
        "answers": len(answers),
        "contradictory": len(both),
    }


def _claims(organism: dict[str, Any], real: dict[str, Any]) -> list[Claim]:
    by_truth = organism[TRUTH]["chosen"]["categories"]
    others = [by_truth[name]["pairs"] for name in CATEGORIES if name != RARE_CATEGORY]
    return [
        Claim(
            "organism: pairs that ground truth drops by the chosen answer",
            organism[TRUTH]["chosen"]["overall"]["dropped"],
            None,
            0,
        ),
        Claim(
            f"organism: pairs of {RARE_CATEGORY} / mean of the other categories",
            by_truth[RARE_CATEGORY]["pairs"] / (sum(others) / len(others)),
        ),
        *(
            Claim(f"organism: share of '{name}' that {RULE} drops", _share(found))
            for name, found in organism[RULE]["chosen"]["categories"].items()
            if name in (REFUSAL, ANSWER, REPLAY)
        ),
        Claim(f"PKU pairs: area under the curve, {RULE}", real["area_under_curve"]),
        Claim(
            f"PKU pairs: share with a chosen answer below the threshold, {RULE}",
            real["chosen_below"],
        ),
        Claim(
            "PKU answers that are chosen in one pair and rejected in another, share",
            real["contradictory"] / real["answers"],
        ),
    ]


def _share(count: dict[str, Any]) -> float:
    return float(count["dropped"] / count["pairs"])


if __name__ == "__main__":
    main()
