"""Tokens per second with the bias over those without, engine by engine, in turns.

A random Llama decodes a fixed number of tokens; the bias has fewer steps. In transformers also over
decoding with two models whose logits are mixed (DeRa). Run it where vLLM and llama-cpp-python are
installed: an engine that is missing is an error, not a gap in the table.
"""

import os
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tests.engines.gguf_file import write_gguf
from transformers import PreTrainedModel

from benchmarks.common import (
    Claim,
    Report,
    median_interval,
    parser,
    progress,
    random_model,
    word_tokenizer,
)
from benchmarks.estimation import llama
from tsdi.baselines.engine import dera_engine
from tsdi.bias import Estimation, SafetyBias, estimate_bias
from tsdi.engines.base import Engine, Request, Sampling
from tsdi.engines.llama_cpp import LlamaCppEngine, open_llama
from tsdi.engines.transformers import TransformersEngine
from tsdi.engines.vllm import open_llm
from tsdi.models.load import LoadOptions

VOCAB, STEPS, PROMPT, NEW = 32_000, 16, 32, 64
Run = Callable[[], object]


def main() -> None:
    made = parser(__doc__)
    made.add_argument("--rounds", type=int, default=20)
    made.add_argument("--threads", type=int, default=1)
    arguments = made.parse_args()
    torch.set_num_threads(arguments.threads)
    rounds = 2 if arguments.quick else arguments.rounds
    config = llama(512, 8, VOCAB)
    settings = {"model": config, "steps": STEPS, "prompt": PROMPT, "new": NEW, "rounds": rounds}
    report = Report("engines", arguments, settings)
    model, other = (random_model("llama", seed, config) for seed in (0, 1))
    tokenizer = word_tokenizer(VOCAB)
    settings_of_bias = Estimation(prompts=16, steps=STEPS, prompt_tokens=8, pool="tokenizer")
    bias = still(estimate_bias(model, other, tokenizer, settings_of_bias))
    raw: dict[str, dict[str, list[float]]] = {}
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        model.save_pretrained(folder / "model")
        tokenizer.save_pretrained(folder / "model")
        bias.save_pretrained(folder / "bias")
        for batch in (1, 32):
            raw[f"transformers, batch {batch}"] = in_turns(
                _transformers(model, other, tokenizer, bias, batch), rounds
            )
        raw["llama.cpp, batch 1"] = in_turns(_llama_cpp(folder, model, tokenizer, bias), rounds)
        raw |= vllm_seconds(folder, rounds, arguments.threads)
    claims = []
    for name, seconds in raw.items():
        claims.append(claim(f"{name}: debiased / plain", seconds, "plain", 0.98))
        if "two models" in seconds:
            claims.append(claim(f"{name}: debiased / two models", seconds, "two models", 1.8))
    report.write(claims, {"seconds": raw})


def claim(name: str, seconds: dict[str, list[float]], base: str, low: float) -> Claim:
    """Speed of the debiased run over that of another one."""
    ratios = np.divide(seconds[base], seconds["debiased"])
    return Claim.of(name, median_interval(ratios), low)


def still(bias: SafetyBias) -> SafetyBias:
    """A random bias that changes no choice, so that both sides decode the same tokens."""
    values = torch.randn(bias.values.shape, generator=torch.Generator().manual_seed(0)) * 1e-6
    return bias.derived(values, torch.zeros_like(values), "random")


def in_turns(runs: dict[str, Run], rounds: int) -> dict[str, list[float]]:
    """Seconds of every run, one after the other in each round, first in turns."""
    for run in runs.values():
        run()
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    names = list(runs)
    for number in range(rounds):
        for place in range(len(names)):
            name = names[(number + place) % len(names)]
            began = time.perf_counter()
            runs[name]()
            seconds[name].append(time.perf_counter() - began)
    progress(", ".join(f"{name} {np.median(s):.3f} s" for name, s in seconds.items()))
    return seconds


def _requests(batch: int) -> list[Request]:
    rng = np.random.default_rng(0)
    return [
        Request.from_text(" ".join(f"w{n}" for n in rng.integers(10, VOCAB, PROMPT)))
        for _ in range(batch)
    ]


def _transformers(
    model: PreTrainedModel, other: PreTrainedModel, tokenizer: Any, bias: SafetyBias, batch: int
) -> dict[str, Run]:
    engines = {
        "plain": TransformersEngine(model, tokenizer),
        "debiased": TransformersEngine(model, tokenizer, bias, 1.0),
        "two models": dera_engine(model, other, tokenizer, 0.5),
    }
    return runs_of(engines, _requests(batch))


def _llama_cpp(
    folder: Path, model: PreTrainedModel, tokenizer: Any, bias: SafetyBias
) -> dict[str, Run]:
    write_gguf(folder / "model.gguf", model, tokenizer)
    llama_model = open_llama(str(folder / "model.gguf"), n_threads=torch.get_num_threads())
    engines = {
        "plain": LlamaCppEngine(llama_model, tokenizer),
        "debiased": LlamaCppEngine(llama_model, tokenizer, bias, 1.0),
    }
    return runs_of(engines, _requests(1))


def runs_of(engines: Mapping[str, Engine], asked: Sequence[Request]) -> dict[str, Run]:
    """What each engine is timed by: the same requests."""
    sampling = Sampling(max_new_tokens=NEW)
    return {name: partial(engine.generate, asked, sampling) for name, engine in engines.items()}


def vllm_seconds(folder: Path, rounds: int, threads: int) -> dict[str, dict[str, list[float]]]:
    """Two vLLMs beside each other: one without any processor of ours, one with it."""
    os.environ |= {"OMP_NUM_THREADS": str(threads), "VLLM_CPU_OMP_THREADS_BIND": "nobind"}
    os.environ |= {"VLLM_CPU_KVCACHE_SPACE": "1"}
    from vllm import SamplingParams, TokensPrompt

    options = LoadOptions("float32")
    plain, debiased = (
        open_llm(str(folder / "model"), options, *bias, max_model_len=256, max_num_seqs=32)
        for bias in ((), (str(folder / "bias"), 1.0))
    )
    sampling = SamplingParams(temperature=0, max_tokens=NEW, ignore_eos=True)
    found = {}
    for batch in (1, 32):
        rng = np.random.default_rng(0)
        asked = [
            TokensPrompt(prompt_token_ids=rng.integers(10, VOCAB, PROMPT).tolist())
            for _ in range(batch)
        ]
        runs: dict[str, Run] = {
            name: partial(llm.generate, asked, sampling, use_tqdm=False)
            for name, llm in (("plain", plain), ("debiased", debiased))
        }
        found[f"vLLM, batch {batch}"] = in_turns(runs, rounds)
    return found


if __name__ == "__main__":
    main()
