"""What an estimate with its diagnosis costs, over the bare forward passes of the estimate alone.

A random Llama of the size of SmolLM2-135M; 512 random prompts for the estimate, and for the
diagnosis 64 random, 48 harmless and 48 harmful ones, these as long as short questions are. In
every round, in turn:

    A  forward passes of both models over the estimate's prompts, without the head
    B  ``estimate_bias``, then ``recommend``
    C  one model's part of the diagnosis of a few prompts, in a batch and prompt by prompt

The model is in float32 by default: CPUs without instructions for bfloat16 take ten times as long in
it, all of that for the body of the model, whose passes are what the diagnosis is measured by.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from benchmarks.common import Claim, Report, parser, progress, random_model, word_tokenizer
from benchmarks.estimation import bare, timed
from tsdi import Estimation, Examination, SafetyBias, estimate_bias, recommend
from tsdi.bias import TokenPool
from tsdi.bias.random_prompts import random_prompts
from tsdi.bias.read_prompts import PromptReader, Reading
from tsdi.bias.refusal_log_odds import Phrases, phrase_ids

STEPS, PROMPT_TOKENS, BATCH_SIZE = 16, 48, 32
MODEL = {
    "vocab_size": 49_152,
    "hidden_size": 576,
    "intermediate_size": 1536,
    "num_hidden_layers": 30,
    "num_attention_heads": 9,
    "num_key_value_heads": 3,
    "max_position_embeddings": 2048,
    "tie_word_embeddings": True,
}
REAL = {"harmless": 48, "harmful": 48}
LENGTHS = (12, 44)  # tokens of a real prompt, template included, uniformly drawn
COMPARED = 8
# The default phrases, split into as many tokens with as much in common as by SmolLM2's tokenizer.
PHRASES = Phrases(
    refusing=(
        "w1 w2", "w1 w3 w4", "w1 w5 w6", "w1 w7 w6", "w8", "w1 w9", "w1 w5 w10 w11", "w12 w13 w14",
        "w15", "w16 w17",
    ),
    complying=("w18", "w19 w20", "w21", "w22", "w23", "w24", "w25", "w26 w3", "w27 w28", "w29"),
)  # fmt: skip


def main() -> None:
    made = parser(__doc__)
    made.add_argument("--rounds", type=int, default=5)
    made.add_argument("--threads", type=int, default=2)
    made.add_argument("--dtype", default="float32", choices=["float32", "bfloat16"])
    arguments = made.parse_args()
    torch.set_num_threads(arguments.threads)
    settings = {
        "model": MODEL,
        "dtype": arguments.dtype,
        "prompts": 64 if arguments.quick else 512,
        "prompt_tokens": PROMPT_TOKENS,
        "steps": STEPS,
        "batch_size": BATCH_SIZE,
        "diagnosis": {"random": 64, **REAL, "lengths": LENGTHS},
        "rounds": 1 if arguments.quick else arguments.rounds,
        "seeds": {"models": [0, 1], "prompts": 0, "real": 0},
    }
    report = Report("diagnosis", arguments, settings)
    times, deviation = measure(settings)
    both = np.add(times["estimate"], times["diagnosis"])
    over = {
        "estimate": np.divide(times["estimate"], times["bare"]).tolist(),
        "both": np.divide(both, times["bare"]).tolist(),
        "alone": np.divide(times["alone"], times["batch"]).tolist(),
    }
    claims = [
        Claim(
            "estimate and diagnosis / bare forwards of the estimate, time",
            float(np.median(over["both"])),
            high=1.5,
        ),
        Claim("estimate / bare forwards, time", float(np.median(over["estimate"]))),
        Claim("diagnosis prompt by prompt / in batches, time", float(np.median(over["alone"]))),
        Claim(
            "the two ways' refusal log-odds, largest difference in float32, nats",
            deviation,
            high=1e-3,
        ),
    ]
    report.write(claims, {"seconds": times, "ratios": over})


def measure(settings: dict[str, Any]) -> tuple[dict[str, list[float]], float]:
    """Seconds of every way in every round, and how far log-odds of the two ways differ."""
    tokenizer = word_tokenizer(MODEL["vocab_size"])
    pool = TokenPool.from_tokenizer(tokenizer)
    reference, aligned = (
        random_model("llama", seed, MODEL).to(getattr(torch, settings["dtype"])) for seed in (0, 1)
    )
    drawn = random_prompts(tokenizer, pool, prompt_tokens=PROMPT_TOKENS, steps=STEPS, seed=0)
    batches = drawn.ids(0, settings["prompts"]).split(BATCH_SIZE)
    real = real_prompts()
    few = [prompt for prompts in real.values() for prompt in prompts[: COMPARED // 2]]
    asked = PromptReader(tokenizer, *_openers(tokenizer), STEPS, BATCH_SIZE)
    times: dict[str, list[float]] = {
        name: [] for name in ("bare", "estimate", "diagnosis", "batch", "alone")
    }

    def estimate() -> SafetyBias:
        return estimate_bias(
            aligned,
            reference,
            tokenizer,
            Estimation(
                prompts=settings["prompts"],
                steps=STEPS,
                pool=pool,
                prompt_tokens=PROMPT_TOKENS,
            ),
            batch_size=BATCH_SIZE,
        )

    def diagnose(bias: SafetyBias) -> SafetyBias:
        return recommend(
            bias,
            aligned,
            reference,
            tokenizer,
            Examination(pool, real, phrases=PHRASES),
            batch_size=BATCH_SIZE,
        )

    bare((aligned, reference), batches[:1])  # warm up
    for number in range(settings["rounds"]):
        times["bare"].append(timed(lambda: bare((aligned, reference), batches))[0])
        seconds, bias = timed(estimate)
        times["estimate"].append(seconds)
        times["diagnosis"].append(timed(partial(diagnose, bias))[0])
        times["batch"].append(timed(lambda: looks(asked, reference, few, shared=True))[0])
        times["alone"].append(timed(lambda: looks(asked, reference, few, shared=False))[0])
        shown = {name: round(found[-1], 1) for name, found in times.items()}
        progress(f"diagnosis: round {number + 1}, seconds {shown}")
    exact = reference.float()
    both = (looks(asked, exact, few, shared=shared) for shared in (True, False))
    return times, max(abs(a.odds[0] - b.odds[0]) for a, b in zip(*both, strict=True))


def looks(
    asked: PromptReader, model: PreTrainedModel, prompts: Sequence[list[int]], *, shared: bool
) -> list[Reading]:
    """What a model says after every prompt, in batches or prompt by prompt."""
    return list(asked.read(model, prompts, None, (None,), shared))


def real_prompts() -> dict[str, list[list[int]]]:
    """Random tokens with the lengths of short questions."""
    drawn = np.random.default_rng(0)
    return {
        kind: [
            drawn.integers(100, MODEL["vocab_size"], drawn.integers(*LENGTHS)).tolist()
            for _ in range(number)
        ]
        for kind, number in REAL.items()
    }


def _openers(tokenizer: PreTrainedTokenizerBase) -> tuple[list[list[int]], list[list[int]]]:
    return phrase_ids(tokenizer, PHRASES.refusing), phrase_ids(tokenizer, PHRASES.complying)


if __name__ == "__main__":
    main()
