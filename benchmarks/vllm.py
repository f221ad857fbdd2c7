"""vLLM for estimates and settings: are they those of transformers, and what do they cost?

Random models of three architectures in float32: the bias by vLLM's logits against that of
transformers. Of a larger Llama: sums against vLLM's own prefill and decoding of as many tokens by
the same load, in turns. Fifty settings of a bias of a small one as requests of one load, against
fifty loads, of which three are timed. Run it where vLLM is installed.
"""

import os
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tests import tiny

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
from tsdi import EngineChoice, Loading, LoadOptions, estimate
from tsdi.bias import Estimation, TokenPool
from tsdi.bias.knobs import Knobs
from tsdi.bias.random_prompts import random_prompts
from tsdi.engines.base import Request, Sampling
from tsdi.engines.open import open_engine
from tsdi.engines.vllm_estimate import VllmSums

KINDS = ("llama", "qwen3", "granite")
ARGS = {"enforce_eager": True, "max_num_seqs": 64}
VOCAB, STEPS, PROMPT, NEW = 32_000, 16, 48, 16
AT_ONCE = 128  # prompts whose sums are fetched together: eight batches of 16
SETTINGS = [
    Knobs(strength, steps, decay)
    for strength in np.linspace(0.1, 1.5, 10).round(2).tolist()
    for steps, decay in ((1, 1.0), (4, 1.0), (8, 1.0), (16, 1.0), (16, 0.8))
]
OPTIONS = LoadOptions("float32")
ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
}


def main() -> None:
    made = parser(__doc__)
    made.add_argument("--rounds", type=int, default=5)
    arguments = made.parse_args()
    os.environ |= ENVIRONMENT
    torch.set_num_threads(1)
    rounds = 2 if arguments.quick else arguments.rounds
    config, small = llama(1024, 6, VOCAB), llama(256, 4, VOCAB)
    shape = {"steps": STEPS, "prompt": PROMPT, "new": NEW, "settings": len(SETTINGS)}
    settings = {"kinds": KINDS, "model": config, "settings_of": small, **shape, "rounds": rounds}
    report = Report("vllm", arguments, settings)
    claims: list[Claim] = []
    raw: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        for kind in KINDS[:1] if arguments.quick else KINDS:
            raw[kind] = _difference(folder / kind, kind)
            claims.append(Claim(f"{kind}: largest difference of scale", raw[kind], None, 1e-4))
        tokenizer = word_tokenizer(VOCAB)
        for name, shape_of in (("model", config), ("small", small)):
            random_model("llama", 0, shape_of).save_pretrained(folder / name)
            tokenizer.save_pretrained(folder / name)
        raw["seconds"] = _sums(str(folder / "model"), tokenizer, rounds)
        ratios = np.divide(raw["seconds"]["sums"], raw["seconds"]["bare"])
        claims.append(
            Claim.of("sums / bare prefill and decoding", median_interval(ratios), None, 1.2)
        )
        raw["settings"] = _settings(folder, tokenizer)
        claims += _of_settings(raw["settings"])
    report.write(claims, raw)


def _difference(folder: Path, kind: str) -> float:
    """The largest difference of the two engines' biases, as a share of the largest shift."""
    base = tiny.model(kind, hidden_size=64, head_dim=32, initializer_range=0.02)
    pair = {"aligned": tiny.moved(base), "reference": base}
    for name, model in pair.items():
        model.save_pretrained(folder / name)
        tiny.tokenizer().save_pretrained(folder / name)
    how = Estimation(prompts=64, steps=8, prompt_tokens=16, groups=8, pool="tokenizer")
    aligned, reference = (str(folder / name) for name in pair)
    found = {
        engine: estimate(
            aligned,
            reference,
            folder / engine,
            how,
            diagnosis=None,
            loading=Loading(OPTIONS, engine=EngineChoice(engine, args=args)),
        )
        for engine, args in (("transformers", {}), ("vllm", ARGS))
    }
    one, other = (bias.values for bias in found.values())
    share = float((one - other).abs().max() / one.abs().max())
    progress(f"{kind}: {share:.2e} of scale")
    return share


def _sums(model: str, tokenizer: Any, rounds: int) -> dict[str, list[float]]:
    """Seconds of sums, and of the same load's own prefill and decoding of as many tokens."""
    from vllm import SamplingParams, TokensPrompt

    pool = TokenPool.from_tokenizer(tokenizer)
    prompts = random_prompts(tokenizer, pool, prompt_tokens=PROMPT, steps=STEPS, seed=0)
    # Without prefix caching, as the two would spare each other the prompts.
    args = {**ARGS, "enable_prefix_caching": False}
    sums = VllmSums(model, prompts, 16, OPTIONS, args)
    llm = sums.open()
    read = prompts.length - STEPS + 1
    rows = prompts.ids(0, AT_ONCE)[:, :read].tolist()
    bare = SamplingParams(temperature=0.0, max_tokens=STEPS, ignore_eos=True, detokenize=False)
    asked = [TokensPrompt(prompt_token_ids=row) for row in rows]
    runs = {
        "sums": partial(sums.add, 0, AT_ONCE),
        "bare": partial(llm.generate, asked, bare, use_tqdm=False),
    }
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for number in range(rounds + 1):
        for name in sorted(runs, reverse=bool(number % 2)):
            began = time.perf_counter()
            runs[name]()
            if number:  # the first one warms up
                seconds[name].append(time.perf_counter() - began)
    sums.close()
    return seconds


def _settings(folder: Path, tokenizer: Any) -> dict[str, Any]:
    """Seconds of fifty settings as requests, and of loads; and whether three give the same text."""
    values = torch.randn(STEPS, VOCAB, generator=torch.Generator().manual_seed(0))
    made = tiny.bias(values, torch.zeros_like(values), known=tokenizer, strength=1.0)
    made.save_pretrained(folder / "bias")
    words = np.random.default_rng(0).integers(10, VOCAB, (32, PROMPT))
    asked = [Request.from_text(" ".join(f"w{n}" for n in row)) for row in words]
    model, sampling = str(folder / "small"), Sampling(max_new_tokens=NEW)
    choice = EngineChoice("vllm", args={**ARGS, "max_model_len": 256})
    began = time.perf_counter()
    engine, _ = open_engine(model, str(folder / "bias"), 1.0, options=OPTIONS, choice=choice)
    loads, answers = [time.perf_counter() - began], []
    began = time.perf_counter()
    for knobs in SETTINGS:
        answers.append(engine.at(knobs).generate(asked, sampling))
    requests = time.perf_counter() - began
    engine.close()
    same, each = [], []
    for place in (3, 29):
        began = time.perf_counter()
        knobs = SETTINGS[place]
        knobs.of(made).save_pretrained(folder / str(place))
        named = str(folder / str(place)), knobs.strength
        alone, _ = open_engine(model, *named, options=OPTIONS, choice=choice)
        loads.append(time.perf_counter() - began)
        began = time.perf_counter()
        same.append(alone.generate(asked, sampling) == answers[place])
        each.append(time.perf_counter() - began)
        alone.close()
    return {"requests": requests, "loads": loads, "answering": each, "same": same}


def _of_settings(raw: dict[str, Any]) -> list[Claim]:
    load, each = (float(np.mean(seconds)) for seconds in (raw["loads"][1:], raw["answering"]))
    one_load = raw["loads"][0] + raw["requests"]
    return [
        Claim(
            "settings whose answers are those of a load of their own",
            float(np.mean(raw["same"])),
            1.0,
        ),
        Claim("50 settings as requests of one load, seconds", one_load),
        Claim("50 loads / one load, seconds", len(SETTINGS) * (load + each) / one_load),
    ]


if __name__ == "__main__":
    main()
