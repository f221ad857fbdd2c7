"""The bias' file: how long a large one takes to load, and what smaller ones cost.

Load: [16, 128,256] with errors, from disk to a checked value. Sizes: the organism's bias in
float32, in float16, and its k largest shifts at each step (6 bytes each: token and float16), with
the KL from the whole bias to each on the rule's own greedy answers.
"""

import tempfile
import time
from pathlib import Path

import torch

from benchmarks.common import Claim, Report, median_interval, parser
from benchmarks.serving import MODEL, organism_bias
from tsdi.bias import SafetyBias
from tsdi.engines.base import Request, Sampling
from tsdi.engines.transformers import TransformersEngine
from tsdi.models.load import LoadOptions, load_model, load_tokenizer
from tsdi.stats.interval import Estimate
from tsdi.stats.seeds import mean_interval
from tsdi.suites.load import load_prompts

STEPS, VOCAB, NEW = 16, 128_256, 16
TOPS = (10, 30, 100, 300)


def main() -> None:
    made = parser(__doc__)
    made.add_argument("--rounds", type=int, default=30)
    arguments = made.parse_args()
    rounds = 3 if arguments.quick else arguments.rounds
    settings = {"shape": [STEPS, VOCAB], "rounds": rounds, "model": MODEL, "tops": TOPS}
    report = Report("artifact", arguments, settings)
    tokenizer = load_tokenizer(MODEL)
    with tempfile.TemporaryDirectory() as place:
        bias = organism_bias(tokenizer, Path(place) / "small")
        seconds = load_times(bias, Path(place) / "large", rounds)
    claims = [Claim.of(f"seconds to load [{STEPS}, {VOCAB:,}]", median_interval(seconds), high=0.1)]
    forms = {"float32": bias.values, "float16": bias.values.half().float()}
    forms |= {f"top {k}": bias.top_k(k).values.half().float() for k in TOPS}
    sizes = {"float32": bias.values.numel() * 4, "float16": bias.values.numel() * 2}
    sizes |= {f"top {k}": bias.steps * k * 6 for k in TOPS}
    found = divergences(bias, forms, 20 if arguments.quick else 320)
    for name, one in found.items():
        claims.append(Claim(f"{name}: bytes over float32's", sizes[name] / sizes["float32"]))
        claims.append(Claim.of(f"{name}: KL of an answer, nats", one))
    report.write(claims, {"seconds": seconds, "bytes": sizes})


def load_times(like: SafetyBias, folder: Path, rounds: int) -> list[float]:
    """Seconds that a large random bias takes from disk to a checked value."""
    values = torch.randn(STEPS, VOCAB, generator=torch.Generator().manual_seed(0))
    info = like.info.model_copy(update={"tokenizer_size": VOCAB})
    SafetyBias(values - values.mean(1, keepdim=True), values.abs(), info).save_pretrained(folder)
    seconds = []
    for _ in range(rounds + 1):
        began = time.perf_counter()
        SafetyBias.from_pretrained(folder)
        seconds.append(time.perf_counter() - began)
    return seconds[1:]


def divergences(
    bias: SafetyBias, forms: dict[str, torch.Tensor], count: int
) -> dict[str, Estimate]:
    """KL from the rule with the whole bias to that with each form, summed over an answer."""
    model = load_model(MODEL, LoadOptions("float32"))
    engine = TransformersEngine(model, load_tokenizer(MODEL), bias, 1.0)
    prompts = load_prompts("organism:validation", 0).prompts
    requests = [Request(p.messages) for p in prompts[:: max(1, len(prompts) // count)][:count]]
    answers = engine.generate(requests, Sampling(max_new_tokens=NEW, keep_logits=True))
    found = {}
    for name, values in forms.items():
        totals = []
        for answer in answers:
            assert answer.logits is not None
            rule = answer.logits.double()
            covered = min(len(rule), bias.steps)
            other = rule.clone()
            other[:covered] += (bias.values - values)[:covered].double()
            one, two = rule.log_softmax(-1), other.log_softmax(-1)
            totals.append(float((one.exp() * (one - two)).sum()))
        found[name] = mean_interval(totals)
    return found


if __name__ == "__main__":
    main()
