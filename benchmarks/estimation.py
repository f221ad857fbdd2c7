"""What an estimate costs: time over bare forward passes, and peak memory.

Three ways over the same random prompts in the same batches, interleaved:

    A  forward passes of both models without the head
    B  ``estimate_bias``, whole: prompts, forward passes, the check that the head is linear, the
       head on the group means, errors, reliability, hashes
    C  logits at all positions, summed in float64 at the response's positions

Peak memory of B is measured in a process of its own for each size.
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel

from benchmarks.common import (
    Claim,
    Report,
    centred,
    parser,
    progress,
    random_model,
    word_tokenizer,
)
from tsdi import Estimation, SafetyBias, estimate_bias
from tsdi.bias import TokenPool
from tsdi.bias.random_prompts import random_prompts

STEPS, PROMPT_TOKENS, GROUPS = 16, 48, 16
SIZES = {"prompts": (128, 512, 2048), "batch_size": (8, 32)}
SMALL = {"prompts": 128, "batch_size": 32, "vocab": 4096}  # for memory, with the size that varies


def main() -> None:
    made = parser(__doc__)
    made.add_argument("--rounds", type=int, default=5)
    made.add_argument("--threads", type=int, default=2)
    made.add_argument("--peak-of", type=json.loads, help=argparse.SUPPRESS)  # in a child process
    arguments = made.parse_args()
    torch.set_num_threads(arguments.threads)
    if arguments.peak_of:
        print(json.dumps(peak(**arguments.peak_of)))
        return
    del arguments.peak_of
    settings = {
        "model": llama(hidden=512, layers=8, vocab=128_256),
        "prompts": 64 if arguments.quick else 512,
        "prompt_tokens": PROMPT_TOKENS,
        "steps": STEPS,
        "groups": GROUPS,
        "batch_size": 32,
        "rounds": 1 if arguments.quick else arguments.rounds,
        "seeds": {"models": [0, 1], "prompts": 0},
    }
    report = Report("estimation", arguments, settings)
    memory = memory_by_size()
    times = measure_times(settings)
    ratios = {
        "B/A": np.divide(times["estimate"], times["bare"]).tolist(),
        "B/C": np.divide(times["estimate"], times["all_logits"]).tolist(),
    }
    claims = [
        Claim("estimate / bare forwards, time (B/A)", float(np.median(ratios["B/A"])), high=1.10),
        Claim("estimate / all logits, time (B/C)", float(np.median(ratios["B/C"])), high=0.6),
        Claim("estimate - all logits, share of scale", times["deviation"], high=1e-5),
        *(Claim(f"peak memory, {name}", growth, high=1.05) for name, growth in memory["growth"]),
    ]
    report.write(claims, {"seconds": times, "ratios": ratios, "memory": memory})


def llama(hidden: int, layers: int, vocab: int) -> dict[str, Any]:
    """Settings of a Llama in its usual proportions, with a head of its own."""
    return {
        "vocab_size": vocab,
        "hidden_size": hidden,
        "intermediate_size": hidden * 8 // 3 // 32 * 32,
        "num_hidden_layers": layers,
        "num_attention_heads": 8,
        "max_position_embeddings": 256,
        "tie_word_embeddings": False,
    }


def measure_times(settings: dict[str, Any]) -> dict[str, Any]:
    """Seconds of every way in every round, and how far the ways' results differ."""
    vocab = settings["model"]["vocab_size"]
    tokenizer = word_tokenizer(vocab)
    pool = TokenPool.from_tokenizer(tokenizer)
    reference, aligned = (random_model("llama", seed, settings["model"]) for seed in (0, 1))
    drawn = random_prompts(tokenizer, pool, prompt_tokens=PROMPT_TOKENS, steps=STEPS, seed=0)
    batches = drawn.ids(0, settings["prompts"]).split(settings["batch_size"])

    def estimate() -> SafetyBias:
        return estimate_bias(
            aligned,
            reference,
            tokenizer,
            Estimation(
                prompts=settings["prompts"],
                steps=STEPS,
                seed=0,
                pool=pool,
                prompt_tokens=PROMPT_TOKENS,
                groups=GROUPS,
            ),
            batch_size=settings["batch_size"],
        )

    bare((aligned, reference), batches[:1])  # warm up
    times: dict[str, Any] = {"bare": [], "estimate": [], "all_logits": []}
    for number in range(settings["rounds"]):
        times["bare"].append(timed(lambda: bare((aligned, reference), batches))[0])
        seconds, bias = timed(estimate)
        times["estimate"].append(seconds)
        seconds, shift = timed(lambda: all_logits(aligned, reference, batches))
        times["all_logits"].append(seconds)
        shown = {name: round(found[-1], 1) for name, found in times.items()}
        progress(f"estimation: round {number + 1}, seconds {shown}")
    times["deviation"] = float((bias.values.double() - shift).abs().max() / shift.abs().max())
    return times


def timed(call: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds that a call takes, and what it gives."""
    begin = time.perf_counter()
    result = call()
    return time.perf_counter() - begin, result


@torch.no_grad()
def bare(models: tuple[PreTrainedModel, ...], batches: tuple[Tensor, ...]) -> None:
    """A: the bodies of the models, without their heads."""
    for model in models:
        for ids in batches:
            model.model(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False)


@torch.no_grad()
def all_logits(
    aligned: PreTrainedModel, reference: PreTrainedModel, batches: tuple[Tensor, ...]
) -> Tensor:
    """C: the centred mean shift as it is found without the trick, float64 [steps, vocab]."""
    means = []
    for model in (aligned, reference):
        total = torch.zeros(STEPS, model.config.vocab_size, dtype=torch.float64)
        for ids in batches:
            output = model(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False)
            total += output.logits[:, -STEPS:].sum(0, dtype=torch.float64)
        means.append(total / sum(map(len, batches)))
    return centred(means[0] - means[1])


def memory_by_size() -> dict[str, Any]:
    """Peak memory in MiB for several numbers of prompts and batch sizes, and its growth."""

    def peak_of(**size: int) -> float:
        command = [sys.executable, "-m", "benchmarks.estimation", "--threads=1"]
        command += ["--peak-of", json.dumps(SMALL | size)]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        found: float = json.loads(done.stdout)
        progress(f"estimation: peak memory {found:.0f} MiB with {size}")
        return found

    prompts = {number: peak_of(prompts=number) for number in SIZES["prompts"]}
    batches = {size: peak_of(vocab=128_256, batch_size=size) for size in SIZES["batch_size"]}
    growth = [
        ("2048 prompts / 128", prompts[2048] / prompts[128]),
        ("batch 32 / 8, vocabulary 128,256", batches[32] / batches[8]),
    ]
    return {"small": SMALL, "mib_by_prompts": prompts, "mib_by_batch": batches, "growth": growth}


def peak(prompts: int, batch_size: int, vocab: int) -> float:
    """Peak memory of this process in MiB, after an estimate with two small models."""
    settings = llama(hidden=64, layers=2, vocab=vocab)
    reference, aligned = (random_model("llama", seed, settings) for seed in (0, 1))
    tokenizer = word_tokenizer(vocab)
    estimate_bias(
        aligned,
        reference,
        tokenizer,
        Estimation(
            prompts=prompts,
            steps=STEPS,
            pool=TokenPool.from_tokenizer(tokenizer),
            prompt_tokens=PROMPT_TOKENS,
            groups=GROUPS,
        ),
        batch_size=batch_size,
    )
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024  # Linux counts in KiB


if __name__ == "__main__":
    main()
