"""A random pair of a 7B model's shape on a GPU: what estimating and decoding cost there.

In bfloat16: an estimate against the bare forward passes; decoding with a bias against without, in
transformers and in vLLM with its CUDA graphs, by both of its model runners; and whether both give
transformers' answers in float32. `--tiny` tries all of it on a CPU, where vLLM has one runner.
"""

import json
import os
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tests import tiny
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
from benchmarks.decoding import measure
from benchmarks.engines import in_turns
from benchmarks.estimation import bare, llama
from tsdi.bias import Estimation, TokenPool, estimate_bias
from tsdi.bias.random_prompts import random_prompts
from tsdi.engines.base import Request, Sampling
from tsdi.engines.choice import EngineChoice
from tsdi.engines.open import open_engine
from tsdi.models.load import LoadOptions

STEPS, PROMPT, NEW, VOCAB = 16, 64, 64, 32_000
SEVEN = llama(4096, 32, VOCAB) | {"num_attention_heads": 32}
ONE = llama(2048, 16, VOCAB) | {"num_attention_heads": 16}
SMALL = llama(64, 2, VOCAB) | {"num_attention_heads": 2}  # of 32 numbers, which vLLM knows on CPUs
RUNNERS = {"V1": "0", "V2": "1"}


def main() -> None:
    made = parser(__doc__)
    made.add_argument("--tiny", action="store_true", help="small shapes, on a CPU if need be")
    made.add_argument("--part", help="in a child process: vLLM's runner, and its folder", nargs=2)
    arguments = made.parse_args()
    if arguments.part:
        print(json.dumps(by_vllm(*arguments.part)))
        return
    del arguments.part
    if not (arguments.tiny or torch.cuda.is_available()):
        raise SystemExit("There is no GPU here: --tiny tries the script on a CPU.")
    seven, one, prompts, rounds = (SMALL, SMALL, 64, 1) if arguments.tiny else (SEVEN, ONE, 512, 5)
    sizes = {"steps": STEPS, "prompt": PROMPT, "new": NEW, "prompts": prompts, "rounds": rounds}
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "none"
    report = Report("gpu", arguments, {"pair": seven, "vllm": one, "gpu": gpu, **sizes})
    raw: dict[str, Any] = {"estimate": estimating(seven, prompts, rounds)}
    raw["transformers"] = decoding(seven, rounds)
    with tempfile.TemporaryDirectory() as place:
        save(Path(place), one)
        raw["vllm"] = {name: in_child(name, Path(place)) for name in RUNNERS}
    report.write(list(claims(raw)), raw)


def on_device(config: dict[str, Any], seed: int) -> PreTrainedModel:
    """A random model in bfloat16 on the GPU, or on the CPU where there is none."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.bfloat16)
    try:
        with torch.device(device):
            return random_model("llama", seed, config)
    finally:
        torch.set_default_dtype(before)


def estimating(config: dict[str, Any], prompts: int, rounds: int) -> dict[str, list[float]]:
    """Seconds of an estimate, and of the bare forward passes of as many prompts."""
    aligned, reference = (on_device(config, seed) for seed in (1, 0))
    tokenizer = word_tokenizer(VOCAB)
    pool = TokenPool.from_tokenizer(tokenizer)
    how = Estimation(prompts=prompts, steps=STEPS, prompt_tokens=PROMPT, pool=pool)
    drawn = random_prompts(tokenizer, pool, prompt_tokens=PROMPT, steps=STEPS, seed=0)
    batches = drawn.ids(0, prompts).to(aligned.device).split(16)
    runs = {
        "estimate": lambda: estimate_bias(aligned, reference, tokenizer, how, batch_size=16),
        "bare": lambda: bare((aligned, reference), batches),
    }
    return in_turns({name: partial(finished, run) for name, run in runs.items()}, rounds)


def finished(run: Any) -> None:
    """Run, and wait for the GPU."""
    run()
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def decoding(config: dict[str, Any], rounds: int) -> dict[str, dict[str, list[float]]]:
    """Seconds of `generate` with and without a bias, by batch size."""
    model = on_device(config, 0)
    return {str(batch): measure(model, batch, 3 * rounds) for batch in (1, 32)}


def save(folder: Path, config: dict[str, Any]) -> None:
    """Save what vLLM loads: a pair to time, and a small one whose answers are compared."""
    tokenizer = word_tokenizer(VOCAB)
    for name, shape, dtype in (("timed", config, torch.bfloat16), ("small", SMALL, torch.float32)):
        model = random_model("llama", 0, shape, gain=4.0 if name == "small" else 1.0)
        for parameter in model.parameters():
            parameter.data = parameter.data.to(dtype)
        model.save_pretrained(folder / name)
        tokenizer.save_pretrained(folder / name)
    shifts = torch.randn(STEPS, VOCAB, generator=torch.Generator().manual_seed(0))
    for name, scale in (("bias", 3.0), ("nothing", 1e-6)):  # the second changes no choice
        made = tiny.bias(shifts * scale, torch.zeros_like(shifts), known=tokenizer, strength=1.0)
        made.save_pretrained(folder / name)


def in_child(runner: str, folder: Path) -> dict[str, Any]:
    """What one of vLLM's runners does, in a process of its own; or why it cannot."""
    command = [sys.executable, "-m", "benchmarks.gpu.pair", "--part", runner, str(folder)]
    rest = {"VLLM_USE_V2_MODEL_RUNNER": RUNNERS[runner], "VLLM_CPU_KVCACHE_SPACE": "1"}
    done = subprocess.run(
        command, env={**os.environ, **rest}, capture_output=True, text=True, check=False
    )
    if done.returncode:
        why = [line for line in done.stderr.splitlines() if "Error" in line] or ["it failed"]
        progress(f"vLLM {runner}: {why[-1]}")
        return {"missing": why[-1]}
    lines = [line for line in done.stdout.splitlines() if line.startswith('{"same"')]
    found: dict[str, Any] = json.loads(lines[-1])  # vLLM says things before and after
    return found


def by_vllm(runner: str, place: str) -> dict[str, Any]:
    """Seconds with a bias and without, and how many answers are those of transformers."""
    folder, rng = Path(place), np.random.default_rng(0)
    asked = [
        Request.from_text(" ".join(f"w{n}" for n in row))
        for row in rng.integers(10, VOCAB, (32, PROMPT))
    ]
    args = {"max_model_len": 256, "max_num_seqs": 32, "gpu_memory_utilization": 0.4}
    vllm, sampling = EngineChoice("vllm", args=args), Sampling(max_new_tokens=NEW)

    def opened(model: str, bias: str | None, dtype: str, choice: EngineChoice) -> Any:
        named = None if bias is None else str(folder / bias), None if bias is None else 1.0
        return open_engine(str(folder / model), *named, options=LoadOptions(dtype), choice=choice)[
            0
        ]

    small = [
        opened("small", "bias", "float32", choice).generate(asked, sampling)
        for choice in (EngineChoice(), vllm)
    ]
    same = sum(one == other for one, other in zip(*small, strict=True))
    engines = {
        "plain": opened("timed", None, "bfloat16", vllm),
        "debiased": opened("timed", "nothing", "bfloat16", vllm),
    }
    config = engines["plain"]._llm.llm_engine.vllm_config
    used = "V2" if config.use_v2_model_runner else "V1"
    if used != runner:
        raise RuntimeError(f"vLLM has taken {used}")
    seconds = {
        str(batch): in_turns(
            {name: partial(one.generate, asked[:batch], sampling) for name, one in engines.items()},
            5,
        )
        for batch in (1, 32)
    }
    graphs = str(config.compilation_config.cudagraph_mode)
    return {"same": same, "asked": len(asked), "seconds": seconds, "graphs": graphs}


def claims(raw: dict[str, Any]) -> Any:
    """The figures of all parts that could be had."""
    seconds = raw["estimate"]
    yield Claim.of("estimate / bare forwards, time", ratio(seconds["estimate"], seconds["bare"]))
    for batch, found in raw["transformers"].items():
        name = f"transformers, batch {batch}: debiased / plain, tokens a second"
        yield Claim.of(name, ratio(found["plain"], found["ordinary"]), 0.98)
    for runner, found in raw["vllm"].items():
        if "missing" in found:
            continue
        for batch, by in found["seconds"].items():
            name = f"vLLM {runner}, graphs {found['graphs']}, batch {batch}: debiased / plain"
            yield Claim.of(name, ratio(by["plain"], by["debiased"]), 0.98)
        share = found["same"] / found["asked"]
        yield Claim(f"vLLM {runner}: answers that are transformers', float32", share, 1.0)


def ratio(above: list[float], below: list[float]) -> Any:
    """The median of one's seconds over another's, with its interval."""
    return median_interval(np.divide(above, below))


if __name__ == "__main__":
    main()
