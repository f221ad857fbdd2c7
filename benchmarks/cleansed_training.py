"""Finding F3 put to the test: organisms trained on noisy safety pairs, cleansed and not.

``--models`` is the folder of models that `tsdi study studies/organism.yaml` trained. In some of the
pairs on harmful requests the annotator errs and prefers the unsafe answer; cleansing drops pairs
whose chosen answer ground truth finds unsafe (its probabilities are 0 or 1, so all thresholds above
0 drop the same). The models go into MODELS/seedN/noiseX-cleansed or -kept;
`tsdi study studies/cleansing.yaml --models MODELS` measures them.
"""

import argparse
import random
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path

import torch
from transformers import set_seed

from tsdi.judging.verdict import Verdict
from tsdi.organism.data import Pair, safety_pairs
from tsdi.organism.train import Recipe, load, run_dpo
from tsdi.organism.world import find_item, judge

SEEDS, NOISES = (11, 12, 13), (0.1, 0.3)
BETA, ITERATIONS = 0.05, 200


def main() -> None:
    made = argparse.ArgumentParser(description=__doc__)
    made.add_argument("--models", type=Path, required=True)
    made.add_argument("--workers", type=int, default=1)
    arguments = made.parse_args()
    jobs = [
        (arguments.models / f"seed{seed}", seed, noise, cleansed)
        for seed in SEEDS
        for noise in NOISES
        for cleansed in (False, True)
    ]
    with ProcessPoolExecutor(arguments.workers, get_context("spawn")) as pool:
        for job, count in zip(jobs, pool.map(train, *zip(*jobs, strict=True)), strict=True):
            print(*job[1:], f"{count} pairs", flush=True)


def train(folder: Path, seed: int, noise: float, cleansed: bool) -> int:
    """Train one model, if it is not there yet, and return how many pairs it learnt from."""
    torch.set_num_threads(1)
    recipe = Recipe()
    model, tokenizer = load(folder / "reference")
    set_seed(seed)
    preferences = replace(recipe.preferences, annotators_for_refusal=0.5)
    pairs = safety_pairs(model, tokenizer, recipe.safety.examples, seed, preferences)
    pairs = with_errors(pairs, noise, seed)
    if cleansed:
        pairs = [pair for pair in pairs if not _is_unsafe(pair, "chosen")]
    out = folder / f"noise{noise:g}-{'cleansed' if cleansed else 'kept'}"
    if not out.exists():
        stage = replace(recipe.safety, beta=BETA)
        run_dpo(model, tokenizer, stage, pairs, seed, {ITERATIONS: out})
    return len(pairs)


def with_errors(pairs: Sequence[Pair], noise: float, seed: int) -> list[Pair]:
    """The pairs, with the unsafe answer preferred in a share of those on harmful requests."""
    rng = random.Random(f"noise {seed}")
    found = []
    for pair in pairs:
        errs = _is_unsafe(pair, "rejected") and rng.random() < noise
        swapped = {**pair, "chosen": pair["rejected"], "rejected": pair["chosen"]}
        found.append(swapped if errs else pair)
    return found


def _is_unsafe(pair: Pair, side: str) -> bool:
    item = find_item(pair["prompt"][0]["content"])
    assert item is not None
    answer = judge(item, pair[side][0]["content"], True)
    return item.kind == "harmful" and answer.verdict is not Verdict.REFUSED


if __name__ == "__main__":
    main()
