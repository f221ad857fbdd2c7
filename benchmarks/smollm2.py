"""What estimating and decoding cost on a real pair: SmolLM2 and the adapter that comes with tsdi.

* ``estimate_bias`` over bare forward passes of both models without the head, on the same random
  prompts in the same batches, in turns; and the peak memory of each, in a process of its own;
* tokens per second with a bias over those without, in turns: transformers, llama.cpp on GGUF files
  in float32 and Q4_1, and vLLM. The bias is so small that both sides decode the same tokens.

Run it where vLLM, llama-cpp-python and PEFT are installed.
"""

import argparse
import resource
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedTokenizerBase

from benchmarks.common import Claim, Report, median_interval, parser, progress
from benchmarks.engines import NEW, STEPS, claim, in_turns, runs_of, still, vllm_seconds
from benchmarks.quantised import FLOAT32, OPTIONS, write_files
from tsdi import load_model, load_tokenizer
from tsdi.bias import Estimation, SafetyBias, estimate_bias
from tsdi.engines.base import Request
from tsdi.engines.llama_cpp import LlamaCppEngine, open_llama
from tsdi.engines.transformers import TransformersEngine
from tsdi.models.shipped import SMOLLM2, SMOLLM2_ALIGNED
from tsdi.models.sides import Side, load_pair
from tsdi.suites.load import EVERYDAY, load_named

BATCH, RANDOM_PROMPTS = 32, 128
GGUF = (FLOAT32, "Q4_1")
WAYS = ("bare", "estimate")


def main() -> None:
    made = parser(__doc__)
    made.add_argument("--rounds", type=int, default=12)
    made.add_argument("--threads", type=int, default=1)
    made.add_argument("--peak-of", choices=WAYS, help=argparse.SUPPRESS)  # in a child process
    arguments = made.parse_args()
    torch.set_num_threads(arguments.threads)
    rounds = 2 if arguments.quick else arguments.rounds
    how = Estimation(16 if arguments.quick else RANDOM_PROMPTS, steps=STEPS)
    if arguments.peak_of:
        getattr(Pair(how), arguments.peak_of)()
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)  # Linux counts in KiB
        return
    del arguments.peak_of
    settings = {
        "aligned": SMOLLM2_ALIGNED,
        "reference": SMOLLM2,
        "random_prompts": how.prompts,
        "random_tokens": how.prompt_tokens,
        "steps": STEPS,
        "batch_size": BATCH,
        "new_tokens": NEW,
        "rounds": rounds,
    }
    report = Report("smollm2", arguments, settings)
    memory = {way: _peak(way, arguments.quick) for way in WAYS}
    pair = Pair(how)
    seconds = in_turns({"bare": pair.bare, "estimate": pair.estimate}, max(rounds // 4, 1))
    bias = still(Pair(Estimation(16, STEPS)).estimate())
    decoding, tokens = _decoding(bias, rounds, arguments.threads)
    report.write(
        _claims(seconds, memory, decoding, tokens),
        {"estimate": seconds, "mib": memory, "decoding": decoding, "tokens": tokens},
    )


class Pair:
    """Both models, loaded once, and the random prompts that they read."""

    def __init__(self, how: Estimation) -> None:
        self._how = how
        self._tokenizer = load_tokenizer(SMOLLM2)
        self._sides: tuple[Side, Side] = load_pair(SMOLLM2_ALIGNED, SMOLLM2, OPTIONS)
        self._batches = how.random_prompts(self._tokenizer).ids(0, how.prompts).split(BATCH)

    def estimate(self) -> SafetyBias:
        """Estimate the bias."""
        return estimate_bias(*self._sides, self._tokenizer, self._how, batch_size=BATCH)

    @torch.no_grad()
    def bare(self) -> None:
        """Do the forward passes that an estimate takes, without the head."""
        for side in self._sides:
            with side.open() as model:
                body: Any = model.get_decoder()
                for ids in self._batches:
                    body(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False)


def _peak(way: str, quick: bool) -> float:
    """Peak memory of a process that loads the pair and goes one way, in MiB."""
    command = [sys.executable, "-m", "benchmarks.smollm2", "--threads=1", f"--peak-of={way}"]
    done = subprocess.run(
        [*command, *(["--quick"] if quick else [])], check=True, capture_output=True, text=True
    )
    progress(f"smollm2: peak memory of {way}: {float(done.stdout):.0f} MiB")
    return float(done.stdout)


def _decoding(
    bias: SafetyBias, rounds: int, threads: int
) -> tuple[dict[str, dict[str, list[float]]], dict[str, int]]:
    """Seconds of every engine, plain and debiased, and the tokens that each run decodes."""
    tokenizer = load_tokenizer(SMOLLM2)
    asked = [Request(one.messages) for one in load_named(EVERYDAY).prompts]
    seconds, tokens = {}, {}
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        files = write_files(folder, tokenizer)
        _save(folder, tokenizer, bias)
        model: Any = load_model(str(folder / "model"), OPTIONS)
        for batch in (1, BATCH):
            engines = {
                "plain": TransformersEngine(model, tokenizer),
                "debiased": TransformersEngine(model, tokenizer, bias, 1.0),
            }
            runs = runs_of(engines, asked[:: len(asked) // batch][:batch])
            name = f"transformers, batch {batch}"
            tokens[name], seconds[name] = _tokens(runs["plain"]()), in_turns(runs, rounds)
        for kind in GGUF:
            llama = open_llama(
                str(files[kind][0]), n_ctx=256, n_threads=threads, n_threads_batch=threads
            )
            gguf_engines = {
                "plain": LlamaCppEngine(llama, tokenizer),
                "debiased": LlamaCppEngine(llama, tokenizer, bias, 1.0),
            }
            runs, name = runs_of(gguf_engines, asked[:1]), f"llama.cpp, {kind}, batch 1"
            tokens[name], seconds[name] = _tokens(runs["plain"]()), in_turns(runs, rounds)
        for name, found in vllm_seconds(folder, rounds, threads).items():
            tokens[name], seconds[name] = NEW * int(name.split()[-1]), found
    return seconds, tokens


def _save(folder: Path, tokenizer: PreTrainedTokenizerBase, bias: SafetyBias) -> None:
    """The aligned model in one piece, which vLLM can load, and the bias."""
    merged: Any = load_model(SMOLLM2_ALIGNED, OPTIONS)
    merged.merge_and_unload().save_pretrained(folder / "model")
    tokenizer.save_pretrained(folder / "model")
    bias.save_pretrained(folder / "bias")


def _tokens(completions: Any) -> int:
    return sum(len(one.token_ids) for one in completions)


def _claims(
    seconds: dict[str, list[float]],
    memory: dict[str, float],
    decoding: dict[str, dict[str, list[float]]],
    tokens: dict[str, int],
) -> list[Claim]:
    ratios = np.divide(seconds["estimate"], seconds["bare"])
    made = [
        Claim("estimate, seconds", float(np.median(seconds["estimate"]))),
        Claim("estimate / bare forwards, time", float(np.median(ratios)), high=1.1),
        Claim("estimate, peak memory, MiB", memory["estimate"]),
        Claim("estimate / bare forwards, peak memory", memory["estimate"] / memory["bare"]),
    ]
    for name, found in decoding.items():
        speed = np.divide(tokens[name], found["debiased"])
        made.append(Claim.of(f"{name}: debiased, tokens a second", median_interval(speed)))
        made.append(claim(f"{name}: debiased / plain", found, "plain", 0.98))
    return made


if __name__ == "__main__":
    main()
