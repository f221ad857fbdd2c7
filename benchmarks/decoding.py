"""What the rule costs while decoding: ``generate`` with and without it, interleaved.

Ordinary: the bias has fewer steps than the answer has tokens. Worst: it has a step for every token.
Conditioned: as ordinary, with a condition that reads the logit of every token. The figure is tokens
per second with the bias over those without. A round runs all four, one after the other, and rounds
go through all orders.
"""

import time
from itertools import cycle, islice, permutations
from typing import Any

import numpy as np
import torch
from transformers import GenerationConfig, PreTrainedModel

from benchmarks.common import Claim, Report, median_interval, parser, progress, random_model
from benchmarks.estimation import llama
from tsdi.bias import BiasInfo, SafetyBias
from tsdi.decoding.condition import Condition

PROMPT_TOKENS, NEW_TOKENS = 32, 64
VOCABS, BATCHES = (32_000, 128_256), (1, 8)
BIAS_STEPS = {"plain": 0, "ordinary": 16, "worst": NEW_TOKENS, "conditioned": 16}


def main() -> None:
    made = parser(__doc__)
    made.add_argument("--rounds", type=int, default=24)
    made.add_argument("--threads", type=int, default=2)
    arguments = made.parse_args()
    torch.set_num_threads(arguments.threads)
    hidden, layers = (64, 2) if arguments.quick else (512, 8)
    required = None if arguments.quick else 0.98  # a model of that size is all overhead
    rounds = 3 if arguments.quick else arguments.rounds
    configs = [llama(hidden, layers, vocab) for vocab in VOCABS]
    settings = {
        "models": configs,
        "batch_sizes": BATCHES,
        "prompt_tokens": PROMPT_TOKENS,
        "new_tokens": NEW_TOKENS,
        "bias_steps": BIAS_STEPS,
        "rounds": rounds,
        "seeds": {"models": 0, "prompts": 0, "bias": 0, "bootstrap": 0},
    }
    report = Report("decoding", arguments, settings)
    claims, raw = [], []
    for vocab, config in zip(VOCABS, configs, strict=True):
        model = random_model("llama", 0, config)
        for batch in BATCHES:
            seconds = measure(model, batch, rounds)
            for arm, low in (("ordinary", required), ("worst", None), ("conditioned", required)):
                ratios = np.divide(seconds["plain"], seconds[arm])
                name = f"{arm}, vocabulary {vocab:,}, batch {batch}"
                claims.append(Claim.of(name, median_interval(ratios), low))
                progress(f"decoding: {name}: {claims[-1].value:.3f}")
            raw.append({"vocab": vocab, "batch": batch, "seconds": seconds})
    report.write(claims, {"runs": raw})


def measure(model: PreTrainedModel, batch: int, rounds: int) -> dict[str, list[float]]:
    """Seconds of ``generate`` without and with a bias, round by round."""
    width = model.config.vocab_size
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(width, (batch, PROMPT_TOKENS), generator=generator).to(model.device)
    values = torch.randn(NEW_TOKENS, width, generator=generator)
    info = BiasInfo(
        tokenizer_sha256="", template_sha256="", tokenizer_size=width, aligned="random",
        reference="random", pool="none", pool_sha256="", prompts=0, prompt_tokens=0, groups=0,
        seed=0, strength=1.0,
    )  # fmt: skip
    biases = {
        name: SafetyBias(values[:steps], values[:steps].abs(), info) if steps else None
        for name, steps in BIAS_STEPS.items()
    }
    weights = torch.randn(width, generator=generator)
    condition = Condition(torch.arange(width), weights - weights.mean(), 0.0, low=-0.5)
    assert biases["conditioned"] is not None
    biases["conditioned"] = biases["conditioned"].with_condition(condition)
    for bias in biases.values():  # warm up
        generate(model, ids, bias)
    seconds: dict[str, list[float]] = {name: [] for name in BIAS_STEPS}
    orders = cycle(permutations(BIAS_STEPS))
    for order in islice(orders, rounds):
        for name in order:
            seconds[name].append(generate(model, ids, biases[name]))
    return seconds


def generate(model: PreTrainedModel, ids: torch.Tensor, bias: SafetyBias | None) -> float:
    """Seconds that greedy decoding of a fixed number of tokens takes."""
    processors = [] if bias is None else [bias.logits_processor(ids.shape[1])]
    settings = GenerationConfig(
        max_new_tokens=NEW_TOKENS, do_sample=False, eos_token_id=None, pad_token_id=0
    )
    mask = torch.ones_like(ids)
    begin = time.perf_counter()
    output: Any = model.generate(  # type: ignore[operator]  # torch.nn.Module says: a tensor
        ids, attention_mask=mask, generation_config=settings, logits_processor=processors
    )
    if output.is_cuda:
        torch.cuda.synchronize()
    seconds = time.perf_counter() - begin
    assert output.shape[1] == PROMPT_TOKENS + NEW_TOKENS
    return seconds


if __name__ == "__main__":
    main()
