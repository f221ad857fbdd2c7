"""Is the estimate right, and is its standard error? Planted biases and fresh prompts.

(a) A planted head bias (Phi) must come back, with errors of about 0.
(b) A planted change D of the head's weights shifts the logits by D times the head's input. The true
    bias is D times the mean input over many other prompts; 95 % intervals must cover it.
(c) Proposition 1: after subtraction no mean shift is left, exactly on the estimate's own prompts
    and up to both standard errors on fresh ones, by ordinary logits of a pair that differs in all
    weights.
"""

import copy
import math
from typing import Any

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
TOKENIZER = word_tokenizer(VOCAB)
POOL = TokenPool.from_tokenizer(TOKENIZER)


def main() -> None:
    arguments = parser(__doc__).parse_args()
    torch.set_num_threads(1)  # tiny models are several times slower on more
    settings = {
        "model": MODEL,
        "prompts": PROMPTS,
        "groups": GROUPS,
        "steps": STEPS,
        "prompt_tokens": PROMPT_TOKENS,
        "truth_prompts": 5_000 if arguments.quick else 50_000,
        "coverage_seeds": 20 if arguments.quick else 200,
        "fresh_seeds": 20 if arguments.quick else 100,
    }
    report = Report("calibration", arguments, settings)
    bias = head_bias()
    weights = head_weights(settings["coverage_seeds"], settings["truth_prompts"])
    fresh = proposition(settings["fresh_seeds"])
    claims = [
        Claim("(a) head bias: largest deviation, share of scale", bias["deviation"], high=1e-5),
        Claim("(a) head bias: largest standard error, share of scale", bias["error"], high=1e-5),
        Claim("(b) head weights: coverage of 95 % intervals", weights["coverage"], 0.90, 0.99),
        Claim("(c) own prompts: largest mean shift left, share of scale", fresh["own"], high=1e-5),
        Claim("(c) fresh prompts: RMS of shift / standard error", fresh["rms"], 0.8, 1.25),
    ]
    report.write(claims, {"head_bias": bias, "head_weights": weights, "proposition_1": fresh})


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
