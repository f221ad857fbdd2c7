"""Finding F3 put to the test: organisms trained on noisy safety pairs, cleansed and not.

``--models`` is the folder of models that `tsdi study experiments/organism/study.yaml` trained. In
some of the pairs on harmful requests the annotator errs and prefers the unsafe answer. Cleansing
drops the pairs whose chosen answer a judge finds unsafe: ground truth ("cleansed"), of which every
threshold drops the same, or a judge that errs, at three thresholds ("below0.25" ...), whose
probability of safe is drawn from Beta(4, 2) for safe answers and Beta(2, 4) for unsafe ones (area
under the curve 0.90). The models go into MODELS/seedN/noiseX-ARM; `tsdi study
experiments/cleansing/study.yaml --models MODELS` measures them.
"""

import argparse
import random
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path

import torch
from scipy import stats
from transformers import set_seed

from tsdi.judging.organism import judge_answer
from tsdi.judging.verdict import Verdict
from tsdi.models.load import LoadOptions, load_model, load_tokenizer
from tsdi.organism.world import find_item
from tsdi.training.data import Pair
from tsdi.training.organism import Recipe, align_with
from tsdi.training.organism_data import safety_pairs, write_rows

SEEDS = (1, 2, 3)
ARMS = [
    *((noise, arm) for noise in (0.1, 0.3) for arm in ("kept", "cleansed")),
    *((0.3, f"below{threshold}") for threshold in (0.25, 0.5, 0.75)),
]
SAFE, UNSAFE = (4, 2), (2, 4)  # of the Beta distributions of the judge that errs
BETA, ITERATIONS = 0.05, 200


def main() -> None:
    made = argparse.ArgumentParser(description=__doc__)
    made.add_argument("--models", type=Path, required=True)
    made.add_argument("--workers", type=int, default=1)
    arguments = made.parse_args()
    jobs = [
        (arguments.models / f"seed{seed}", seed, noise, arm)
        for seed in SEEDS
        for noise, arm in ARMS
    ]
    area = stats.beta(*SAFE).expect(stats.beta(*UNSAFE).cdf)
    print(f"judge that errs: area under the curve {area:.2f}", flush=True)
    with ProcessPoolExecutor(arguments.workers, get_context("spawn")) as pool:
        for job, count in zip(jobs, pool.map(train, *zip(*jobs, strict=True)), strict=True):
            print(*job[1:], f"{count} pairs", flush=True)


def train(folder: Path, seed: int, noise: float, arm: str) -> int:
    """Train one model, if it is not there yet, and return how many pairs it learnt from."""
    torch.set_num_threads(1)
    recipe, reference = Recipe(), str(folder / "reference")
    model = load_model(reference, LoadOptions("float32", "cpu"))
    tokenizer = load_tokenizer(reference)
    set_seed(seed)
    preferences = replace(recipe.preferences, annotators_for_refusal=0.5)
    pairs = safety_pairs(model, tokenizer, recipe.safety_pairs, seed, preferences)
    pairs = with_errors(pairs, noise, seed)
    if arm == "cleansed":
        pairs = [pair for pair in pairs if not _is_unsafe(pair, "chosen")]
    elif arm != "kept":
        scores = judged(pairs, seed)
        limit = float(arm.removeprefix("below"))
        pairs = [pair for pair, score in zip(pairs, scores, strict=True) if score >= limit]
    out = folder / f"noise{noise:g}-{arm}"
    if not out.exists():
        file = folder / ".training" / f"{out.name}.jsonl"
        write_rows(file, pairs)
        stage = recipe.safety.model_copy(update={"beta": [BETA]})
        align_with(file, folder / "reference", seed, stage, {ITERATIONS: out})
    return len(pairs)


def with_errors(pairs: Sequence[Pair], noise: float, seed: int) -> list[Pair]:
    """The pairs, with the unsafe answer preferred in a share of those on harmful requests."""
    rng = random.Random(f"noise {seed}")
    found = []
    for pair in pairs:
        errs = _is_unsafe(pair, "rejected") and rng.random() < noise
        swapped = replace(pair, chosen=pair.rejected, rejected=pair.chosen)
        found.append(swapped if errs else pair)
    return found


def judged(pairs: Sequence[Pair], seed: int) -> list[float]:
    """What a judge that errs gives as the probability that each pair's chosen answer is safe."""
    rng = random.Random(f"judge {seed}")
    shapes = (UNSAFE if _is_unsafe(pair, "chosen") else SAFE for pair in pairs)
    return [rng.betavariate(*shape) for shape in shapes]


def _is_unsafe(pair: Pair, side: str) -> bool:
    item = find_item(pair.prompt)
    assert item is not None
    answer = judge_answer(item, pair.chosen if side == "chosen" else pair.rejected, True)
    return item.kind == "harmful" and answer.verdict is not Verdict.REFUSED


if __name__ == "__main__":
    main()
