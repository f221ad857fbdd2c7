"""What an estimate and a run take on hardware that is not at hand: a model of seconds and memory.

An estimate reads N random prompts with two models, which is bound by arithmetic: 2 x parameters
floating-point operations a token. A run also writes answers token by token, which is bound by
reading the weights once a step, whatever the batch. Each is held against what the same processor
does in a large matrix product and in a long copy; the shares are measured here, in seconds of one
core, so that other work on the machine disturbs little. They are then taken for other hardware by
its maker's figures. That is an assumption: nothing here was run on a GPU.

`pairs` makes the table in docs/scale.md, from the result file, by `python -m experiments.pages`.
"""

import json
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedModel

from benchmarks.common import RESULTS, Claim, Report, parser, random_model, word_tokenizer
from benchmarks.estimation import llama
from tsdi.bias import TokenPool
from tsdi.bias.accumulate import GroupSums, Summing, accumulate
from tsdi.bias.random_prompts import RandomPrompts, random_prompts
from tsdi.engines.base import Request, Sampling
from tsdi.engines.transformers import TransformersEngine

STEPS, PROMPT_TOKENS, FRAME, GROUPS, PROMPTS = 16, 48, 20, 16, 512  # of an estimate, by default
ESTIMATE_BATCH = 32  # no worker sums fewer prompts at a time
ASKED, ASKED_TOKENS, ANSWER_TOKENS, BATCH = 1000, 100, 256, 64  # of a run
FULL = 0.85  # of a card's memory, which weights may take


@dataclass(frozen=True)
class Shape:
    """A model: its parameters, hidden size and vocabulary, and the bytes of a parameter."""

    name: str
    parameters: float
    hidden: int
    vocab: int
    width: int = 2

    @property
    def weights(self) -> float:
        """Bytes of the weights."""
        return self.parameters * self.width


@dataclass(frozen=True)
class Card:
    """A processor by its maker's figures: operations and bytes a second, and bytes of memory."""

    name: str
    flops: float
    bandwidth: float
    memory: float


@dataclass(frozen=True)
class Shares:
    """Shares of these that a model reaches: in reading prompts, and in writing answers.

    `overhead` is an estimate's time over that of its bare forward passes.
    """

    read: float
    write: float
    overhead: float


PAIRS = (
    Shape("7B", 7e9, 4096, 128_256),
    Shape("70B", 70e9, 8192, 128_256),
    Shape("405B", 405e9, 16_384, 128_256),
)
H100 = Card("H100", 989e12, 3.35e12, 80e9)  # SXM, bfloat16 without sparsity
CARDS = (1, 8, 64)


def cards_of(shape: Shape, card: Card) -> int:
    """Cards that one copy of a model takes, a power of two."""
    least = shape.weights / (FULL * card.memory)
    return int(2 ** math.ceil(math.log2(max(1.0, least))))


def estimate_seconds(shape: Shape, card: Card, cards: int, shares: Shares) -> float:
    """Seconds in which two models read the random prompts of an estimate."""
    tokens = PROMPTS * (FRAME + PROMPT_TOKENS + STEPS - 1)
    work = 2 * tokens * 2 * shape.parameters
    each = cards_of(shape, card)
    busy = each * min(cards // each, 2 * PROMPTS // ESTIMATE_BATCH)
    return shares.overhead * work / (shares.read * card.flops * busy)


def run_seconds(shape: Shape, card: Card, cards: int, shares: Shares) -> float:
    """Seconds in which a model answers the prompts of a run, in batches side by side."""
    each = cards_of(shape, card)
    copies = max(1, cards // each)
    rounds = math.ceil(ASKED / (copies * BATCH))
    reading = ASKED * ASKED_TOKENS * 2 * shape.parameters / (shares.read * card.flops * cards)
    step = max(
        shape.weights / (shares.write * card.bandwidth * each),
        2 * shape.parameters * BATCH / (shares.read * card.flops * each),
    )
    return reading + rounds * ANSWER_TOKENS * step


def moved_bytes(shape: Shape, workers: int) -> float:
    """Bytes that workers send: the sums of both models, in float64, two for each worker."""
    sums = min(2 * workers, PROMPTS // ESTIMATE_BATCH)
    return 2 * sums * GROUPS * STEPS * shape.hidden * 8


def pairs(shares: Shares) -> list[dict[str, Any]]:
    """What the model says of every pair and number of cards; None where no copy fits."""
    rows = []
    for shape in PAIRS:
        for cards in CARDS:
            each = cards_of(shape, H100)
            fits = each <= cards
            rows.append({
                "pair": shape.name,
                "cards": cards,
                "cards of a copy": each,
                "workers": cards // each,
                "gigabytes of a copy": shape.weights / 1e9,
                "estimate": estimate_seconds(shape, H100, cards, shares) if fits else None,
                "run": run_seconds(shape, H100, cards, shares) if fits else None,
                "megabytes moved": moved_bytes(shape, cards // each) / 1e6 if fits else None,
            })  # fmt: skip
    return rows


def main() -> None:
    arguments = parser(__doc__).parse_args()
    torch.set_num_threads(1)
    small = arguments.quick
    shapes = [llama(128, 2, 512)] * 2 if small else [llama(512, 8, 4096), llama(768, 12, 4096)]
    report = Report("scale", arguments, {"models": shapes, "batch_size": 8, "seed": 0})
    here = Card(
        "here", product_rate(256 if small else 1024), copy_rate(2**22 if small else 2**27), 0
    )
    first, second = (measured(shape, here, 8 if small else 16) for shape in shapes)
    shares = Shares(first["read"], first["write"], overhead())
    claims = [
        Claim("share of a matrix product's rate, reading prompts", first["read"]),
        Claim("share of a copy's rate, writing answers", first["write"]),
        Claim(
            "time of an estimate over its bare forwards (benchmarks.estimation)", shares.overhead
        ),
        Claim(
            "a larger model: measured / predicted seconds, reading",
            first["read"] / second["read"],
            0.5,
            2,
        ),
        Claim(
            "a larger model: measured / predicted seconds, writing",
            first["write"] / second["write"],
            0.5,
            2,
        ),
        Claim("bytes of sums: measured / predicted", first["sums"], 1, 1),
    ]
    report.write(claims, {"shares": asdict(shares), "here": asdict(here), "pairs": pairs(shares)})


def overhead() -> float:
    """An estimate's time over that of its bare forward passes, as measured on an idle machine."""
    found = json.loads((RESULTS / "estimation.json").read_bytes())
    return float(next(c["value"] for c in found["claims"] if "bare forwards" in c["name"]))


def measured(settings: dict[str, Any], here: Card, rows: int) -> dict[str, float]:
    """The shares that one model reaches here, and its sums' bytes over the formula's."""
    model = random_model("llama", 0, settings)
    tokenizer = word_tokenizer(settings["vocab_size"])
    pool = TokenPool.from_tokenizer(tokenizer)
    drawn = random_prompts(tokenizer, pool, prompt_tokens=PROMPT_TOKENS, steps=STEPS, seed=0)
    head = settings["vocab_size"] * settings["hidden_size"]
    body = sum(p.numel() for p in model.parameters()) - 2 * head  # neither embeddings nor head
    sums = summed(model, drawn, rows)
    reading = seconds(lambda: summed(model, drawn, rows))
    writing = writing_step(model, tokenizer)
    return {
        "read": 2 * body * rows * drawn.length / reading / here.flops,
        "write": 4 * (body + head) / writing / here.bandwidth,
        "sums": sums.sums.nbytes / (GROUPS * STEPS * settings["hidden_size"] * 8),
    }


def summed(model: PreTrainedModel, drawn: RandomPrompts, rows: int) -> GroupSums:
    how = Summing(GROUPS, kind="head_inputs")
    return accumulate(model, drawn, 0, rows, how, batch_size=8)


def writing_step(model: PreTrainedModel, tokenizer: Any, few: int = 4, many: int = 36) -> float:
    """Seconds of one step of one answer: the difference of a long and a short answer, by step."""
    engine = TransformersEngine(model, tokenizer)
    request = [Request.from_text("w1 w2 w3 w4")]

    def answer(tokens: int) -> Callable[[], object]:
        return lambda: engine.generate(request, Sampling(tokens))

    length = len(engine.generate(request, Sampling(many))[0].token_ids)
    return (seconds(answer(many)) - seconds(answer(few))) / max(1, length - few)


def product_rate(size: int) -> float:
    """Floating-point operations a second of a float32 matrix product."""
    one, other = torch.rand(size, size), torch.rand(size, size)
    return 2 * size**3 / seconds(lambda: one @ other)


def copy_rate(numbers: int) -> float:
    """Bytes a second that are read where float32 numbers are summed."""
    one = torch.rand(numbers)
    return one.nbytes / seconds(one.sum)


def seconds(work: Callable[[], object], rounds: int = 5) -> float:
    """The least seconds of the processor that some work takes."""
    work()
    found = []
    for _ in range(rounds):
        start = time.process_time()
        work()
        found.append(time.process_time() - start)
    return float(np.min(found))


if __name__ == "__main__":
    main()
