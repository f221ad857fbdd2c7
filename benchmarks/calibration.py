"""Is the estimate right, and is its standard error? Planted biases and fresh prompts.

(a) A planted head bias (Phi) must come back, with errors of about 0.
(b) A planted change D of the head's weights shifts the logits by D times the head's input. The true
    bias is D times the mean input over many other prompts; 95 % intervals must cover it.
(c) Proposition 1: after subtraction no mean shift is left, exactly on the estimate's own prompts
    and up to both standard errors on fresh ones, by ordinary logits of a pair that differs in all
    weights.
(d) Two rules that are equally good on average, but not with every training seed and prompt: how
    often 95 % intervals of the difference of their hypervolumes hold 0. "Bootstrap" draws seeds and
    prompts with replacement and takes percentiles; studies use `crossed_interval`.
"""

import copy
import math
from collections.abc import Mapping
from itertools import product
from typing import Any

import numpy as np
import torch
from scipy import stats
from torch import Tensor
from transformers import PreTrainedModel

from benchmarks.common import (
    Claim,
    Report,
    centred,
    moved,
    parser,
    progress,
    random_model,
    word_tokenizer,
)
from tsdi import Estimation, SafetyBias, estimate_bias
from tsdi.bias import TokenPool
from tsdi.bias.accumulate import accumulate
from tsdi.bias.random_prompts import RandomPrompts, random_prompts
from tsdi.study.fronts import Draws, Outcomes, compare_fronts, draw, front_volumes

VOCAB, PROMPTS, GROUPS, STEPS, PROMPT_TOKENS = 256, 64, 16, 4, 12
OTHER_SEEDS = 1_000_000  # seeds from here on are never those of an estimate
MODEL = {
    "vocab_size": VOCAB,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 64,
}
WORLDS = {  # standard deviations of the two rules' own effects, in logits: by seed, by prompt
    "seeds differ more": (0.6, 0.5),
    "both differ": (0.3, 0.5),
    "prompts differ more": (0.1, 0.5),
}
SEEDS, ASKED = (3, 4, 8, 12), 400
TOKENIZER = word_tokenizer(VOCAB)
POOL = TokenPool.from_tokenizer(TOKENIZER)


def main() -> None:
    arguments = parser(__doc__).parse_args()
    torch.set_num_threads(1)  # tiny models are several times slower on more
    quick = arguments.quick
    truth_prompts, coverage_seeds = (5_000, 20) if quick else (50_000, 200)
    fresh_seeds, studies = (20, 20) if quick else (100, 400)
    settings = {
        "model": MODEL,
        "prompts": PROMPTS,
        "groups": GROUPS,
        "steps": STEPS,
        "prompt_tokens": PROMPT_TOKENS,
        "truth_prompts": truth_prompts,
        "coverage_seeds": coverage_seeds,
        "fresh_seeds": fresh_seeds,
        "studies": studies,
        "worlds": WORLDS,
    }
    report = Report("calibration", arguments, settings)
    bias = head_bias()
    weights = head_weights(coverage_seeds, truth_prompts)
    fresh = proposition(fresh_seeds)
    intervals = seed_intervals(studies)
    claims = [
        Claim("(a) head bias: largest deviation, share of scale", bias["deviation"], high=1e-5),
        Claim("(a) head bias: largest standard error, share of scale", bias["error"], high=1e-5),
        Claim("(b) head weights: coverage of 95 % intervals", weights["coverage"], 0.90, 0.99),
        Claim("(c) own prompts: largest mean shift left, share of scale", fresh["own"], high=1e-5),
        Claim("(c) fresh prompts: RMS of shift / standard error", fresh["rms"], 0.8, 1.25),
    ]
    required = None if quick else 0.92  # 20 studies cannot show it
    for one in intervals:
        name = f"(d) {one['world']}, {one['seeds']} training seeds"
        claims += [
            Claim(f"{name}: coverage of studies' intervals", one["coverage"]["study"], required),
            Claim(f"{name}: coverage of the bootstrap", one["coverage"]["bootstrap"]),
        ]
    found = {"head_bias": bias, "head_weights": weights, "proposition_1": fresh}
    report.write(claims, found | {"seed_intervals": intervals})


def estimated(aligned: PreTrainedModel, reference: PreTrainedModel, seed: int) -> SafetyBias:
    return estimate_bias(
        aligned,
        reference,
        TOKENIZER,
        Estimation(
            prompts=PROMPTS,
            steps=STEPS,
            seed=seed,
            pool=POOL,
            prompt_tokens=PROMPT_TOKENS,
            groups=GROUPS,
        ),
        batch_size=PROMPTS,
    )


def drawn(seed: int) -> RandomPrompts:
    return random_prompts(TOKENIZER, POOL, prompt_tokens=PROMPT_TOKENS, steps=STEPS, seed=seed)


def head_bias() -> dict[str, float]:
    """(a): deviation from the planted bias and standard error, as shares of the largest shift."""
    reference = random_model("phi", 0, MODEL, gain=5)
    aligned = copy.deepcopy(reference)
    planted = torch.randn(VOCAB, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        aligned.lm_head.bias.add_(planted)
    truth = centred((aligned.lm_head.bias - reference.lm_head.bias).detach().double())
    bias = estimated(aligned, reference, seed=0)
    scale = truth.abs().max()
    return {
        "deviation": float((bias.values.double() - truth).abs().max() / scale),
        "error": float(bias.standard_error.max() / scale),
    }


def head_weights(seeds: int, truth_prompts: int) -> dict[str, Any]:
    """(b): share of intervals, over seeds, steps and tokens, that hold the true bias."""
    reference = random_model("llama", 0, MODEL, gain=5)
    aligned = copy.deepcopy(reference)
    generator = torch.Generator().manual_seed(1)
    head, before = aligned.lm_head.weight, reference.lm_head.weight
    with torch.no_grad():
        head.add_(torch.randn(head.shape, generator=generator) * 0.3 * before.std())
    change = (head - before).detach().double()
    inputs = accumulate(reference, drawn(OTHER_SEEDS), 0, truth_prompts, batch_size=500)
    assert inputs.kind == "head_inputs"
    truth = centred(inputs.sums.sum(0) / truth_prompts @ change.T)
    progress("calibration: truth is known")
    covered, squares = [], []
    quantile = stats.t.ppf(0.975, GROUPS - 1)
    for seed in range(seeds):
        bias = estimated(aligned, reference, seed)
        z = (bias.values.double() - truth) / bias.standard_error.double()
        covered.append((z.abs() <= quantile).double().mean(1))
        squares.append(float(z.square().mean()))
    shares = torch.stack(covered)  # [seeds, steps]
    return {
        "coverage": float(shares.mean()),
        "coverage_by_step": shares.mean(0).tolist(),
        "coverage_by_seed": shares.mean(1).tolist(),
        "t_quantile": float(quantile),
        "rms_of_deviation_over_error": math.sqrt(sum(squares) / len(squares)),
    }


def proposition(seeds: int) -> dict[str, Any]:
    """(c): what is left on the estimate's own prompts and, over both errors, on fresh ones."""
    reference = random_model("llama", 2, MODEL, gain=5)
    aligned = moved(reference, scale=0.2, seed=3)
    own, squares = [], []
    for seed in range(seeds):
        bias = estimated(aligned, reference, seed)
        values, error = bias.values.double(), bias.standard_error.double()
        before = ordinary_shift(aligned, reference, drawn(seed)).mean(0)
        own.append(float((before - values).abs().max() / before.abs().max()))
        left = ordinary_shift(aligned, reference, drawn(OTHER_SEEDS + 1 + seed)) - values
        parts = torch.stack([left[group::GROUPS].mean(0) for group in range(GROUPS)])
        fresh_error = parts.std(0) / math.sqrt(GROUPS)
        z = left.mean(0) / (error.square() + fresh_error.square()).sqrt()
        squares.append(float(z.square().mean()))
    return {
        "own": max(own),
        "rms": math.sqrt(sum(squares) / len(squares)),
        "rms_by_seed": [math.sqrt(square) for square in squares],
    }


def seed_intervals(studies: int) -> list[dict[str, Any]]:
    """(d): coverage and mean width of both intervals, by world and number of training seeds."""
    found = []
    for (world, effects), seeds in product(WORLDS.items(), SEEDS):
        rng = np.random.default_rng(seeds)
        held, widths = {"study": 0, "bootstrap": 0}, {"study": 0.0, "bootstrap": 0.0}
        for _ in range(studies):
            rules = simulated(rng, seeds, *effects)
            chosen = {"tsdi": (0,), "plain": (0,)}
            draws = draw(ASKED, ASKED, 300, 0)  # of prompts, whatever was answered
            new = compare_fronts(rules, chosen, "tsdi", resamples=300, seed=0)["plain"]
            ends = {
                "study": (new.ours_minus.low, new.ours_minus.high),
                "bootstrap": two_way_bootstrap(rules, draws, rng),
            }
            for name, (low, high) in ends.items():
                held[name] += low <= 0 <= high
                widths[name] += (high - low) / studies
        coverage = {name: count / studies for name, count in held.items()}
        found.append({"world": world, "seeds": seeds, "coverage": coverage, "width": widths})
        progress(f"calibration: {world}, {seeds} seeds")
    return found


def simulated(
    rng: np.random.Generator, seeds: int, by_seed: float, by_prompt: float
) -> dict[str, Outcomes]:
    """Answers of two rules with the same distribution: shared and own effects of seed and prompt.

    Logits of a safe, and of a right, answer are normal around 2.5 and 0.6; the effects that both
    rules share have standard deviations of 0.5 between seeds and 1.5 between prompts.
    """
    answers = []
    for mean in (2.5, 0.6):
        shared = rng.normal(0, 0.5, (1, seeds, 1)) + rng.normal(0, 1.5, (1, 1, ASKED))
        own = rng.normal(0, by_seed, (2, seeds, 1)) + rng.normal(0, by_prompt, (2, 1, ASKED))
        chances = 1 / (1 + np.exp(-(mean + shared + own)))
        answers.append((rng.random(chances.shape) < chances).astype(np.float64)[:, :, None])
    safe, right = answers
    return {name: Outcomes(safe[i], right[i]) for i, name in enumerate(("tsdi", "plain"))}


def two_way_bootstrap(
    rules: Mapping[str, Outcomes], draws: Draws, rng: np.random.Generator
) -> tuple[float, float]:
    """Percentiles of the difference when seeds and prompts are drawn with replacement."""
    ours, theirs = (front_volumes(rules[name], (0,), draws) for name in ("tsdi", "plain"))
    seeds = ours.shape[1]
    drawn = rng.multinomial(seeds, np.full(seeds, 1 / seeds), len(ours))
    low, high = np.quantile(((ours - theirs) * drawn).sum(1) / seeds, [0.025, 0.975])
    return float(low), float(high)


@torch.no_grad()
def ordinary_shift(
    aligned: PreTrainedModel, reference: PreTrainedModel, prompts: RandomPrompts
) -> Tensor:
    """Centred shift of the logits that a user gets, float64 [prompts, steps, vocab]."""
    ids = prompts.ids(0, PROMPTS)
    first, second = (model(ids).logits[:, -STEPS:].double() for model in (aligned, reference))
    return centred(first - second)


if __name__ == "__main__":
    main()
