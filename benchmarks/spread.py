"""Two workers of a Ray cluster on this machine against two processes that do a shard each.

An estimate and a run of a random Llama, whole commands of two shards side by side, in turns with
the same work on a cluster that has been started, whose workers load libraries and models as the
processes do. Then a study of two seeds of organisms by one process and by two workers.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import tsdi
from benchmarks.common import (
    Claim,
    Report,
    median_interval,
    moved,
    parser,
    progress,
    random_model,
    word_tokenizer,
)
from benchmarks.estimation import llama
from tsdi.cluster import Cluster
from tsdi.evaluation.evaluate import Judging
from tsdi.stats.interval import Estimate

TWO = Cluster("local", 2)
VOCAB, STEPS, PROMPT, NEW, BATCH = 32_000, 16, 48, 32, 16
STUDY = """
title: Organisms by one process and by two workers
organism: {seeds: [1, 2], betas: [0.1], iterations: [1], smoke: true}
prompts:
  validation: [{load: "organism:validation", limit: {harmless: 16, lookalike: 16, harmful: 32}}]
  test: [{load: "organism:test", limit: {harmless: 16, lookalike: 16, harmful: 32}}]
judge: {name: organism}
generation: {max_new_tokens: 16, batch_size: 32}
estimation: {prompts: 64, steps: 4, prompt_tokens: 8, pool: tokenizer,
  refusing: [sorry], complying: [sure]}
rules: [plain, reference, tsdi, {rule: dera, weight: [1.0, 0.5, 0]}]
"""


def main() -> None:
    made = parser(__doc__)
    made.add_argument("--rounds", type=int, default=3)
    arguments = made.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    rounds, prompts, asked = (1, 64, 32) if arguments.quick else (arguments.rounds, 1024, 384)
    model = llama(384, 6, VOCAB)
    sizes = {"prompts": prompts, "steps": STEPS, "asked": asked, "new": NEW, "batch": BATCH}
    report = Report("spread", arguments, {"model": model, **sizes})
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        make_pair(folder, model, asked)
        began = time.perf_counter()
        with TWO.connected():
            start = time.perf_counter() - began
            seconds = {
                "estimate": in_turns(rounds, estimates(folder, prompts)),
                "evaluate": in_turns(rounds, runs(folder)),
            }
            studies = by_both(folder)
    claims = [
        Claim.of(f"{name}: two processes / two workers, seconds", ratio(found), 0.9)
        for name, found in seconds.items()
    ]
    claims += [
        Claim("seconds to start Ray, which come on top", start),
        Claim("study: cells", studies["cells"], low=1),
        Claim("study: cells with other outcomes on Ray", studies["other"], 0, 0),
    ]
    report.write(claims, {"seconds": seconds, "start": start, "study": studies})


def ratio(seconds: dict[str, list[float]]) -> Estimate:
    """Seconds of the processes over those of the workers, the median of the rounds."""
    return median_interval(np.divide(seconds["processes"], seconds["workers"]))


def make_pair(folder: Path, settings: dict[str, Any], asked: int) -> None:
    """Save two models with a tokenizer, and a file of prompts."""
    base = random_model("llama", 0, settings)
    for name, model in (("aligned", moved(base, 0.1, 1)), ("reference", base)):
        model.save_pretrained(folder / name)
        word_tokenizer(VOCAB).save_pretrained(folder / name)
    words = np.random.default_rng(0).integers(10, VOCAB, (asked, PROMPT))
    rows = [{"prompt": " ".join(f"w{n}" for n in row), "kind": "harmful"} for row in words]
    (folder / "prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def in_turns(rounds: int, ways: dict[str, Callable[[str], None]]) -> dict[str, list[float]]:
    """Seconds of each way in each round; each is called with a name of its own for its folders."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(rounds):
        for name in sorted(ways, reverse=bool(number % 2)):
            began = time.perf_counter()
            ways[name](f"{name}-{number}")
            seconds[name].append(time.perf_counter() - began)
            progress(f"{name}: {seconds[name][-1]:.1f} s")
    return seconds


def side_by_side(folder: Path, out: str, command: list[str]) -> None:
    """Run both shards of a command at once."""
    whole = [sys.executable, "-m", "tsdi", *command]
    each = [[*whole, "--out", f"{out}-{n}", "--shard", f"{n}/2"] for n in (1, 2)]
    pipe = subprocess.PIPE
    started = [
        subprocess.Popen(one, cwd=folder, stdout=pipe, stderr=pipe, text=True) for one in each
    ]
    for one in started:
        errors = one.communicate()[1]
        if one.returncode:
            raise RuntimeError(f"{' '.join(each[0])} failed: {errors}")


def estimates(folder: Path, prompts: int) -> dict[str, Callable[[str], None]]:
    """Sum the logits of both models over random prompts, either way."""
    pair = folder / "aligned", folder / "reference"
    how = tsdi.Estimation(prompts=prompts, steps=STEPS, prompt_tokens=PROMPT, pool="tokenizer")
    loading = tsdi.Loading(tsdi.LoadOptions("float32"), cluster=TWO)
    words = ["--n", prompts, "--steps", STEPS, "--prompt-tokens", PROMPT]
    words += ["--pool", "tokenizer", "--dtype", "float32"]
    command = ["estimate", "aligned", "reference", *map(str, words)]

    def by_workers(name: str) -> None:
        tsdi.estimate_shard(*pair, folder / f"e-{name}", "1/1", how, loading=loading)

    return {
        "processes": lambda name: side_by_side(folder, f"e-{name}", command),
        "workers": by_workers,
    }


def runs(folder: Path) -> dict[str, Callable[[str], None]]:
    """Answer and judge all prompts, either way."""
    file, judge = folder / "prompts.jsonl", "refusal-phrases"
    how = tsdi.Answering(None, tsdi.Sampling(NEW), BATCH, cluster=TWO)
    words = ["--prompts", file, "--judge", judge, "--max-new-tokens", NEW, "--batch-size", BATCH]
    command = ["evaluate", "aligned", *map(str, words)]

    def by_workers(name: str) -> None:
        judging = Judging(judge, cluster=TWO)
        out = folder / f"r-{name}"
        tsdi.evaluate(folder / "aligned", file, out, answering=how, judging=judging)

    return {
        "processes": lambda name: side_by_side(folder, f"r-{name}", command),
        "workers": by_workers,
    }


def by_both(folder: Path) -> dict[str, float]:
    """A study's cells, and how many of them have other outcomes on the cluster."""
    file = folder / "study.yaml"
    file.write_text(STUDY)
    found = []
    for name, cluster in (("alone", None), ("spread", TWO)):
        progress(f"study, {name}")
        tsdi.study.study(file, folder / name, cluster=cluster)
        results = json.loads((folder / name / "results.json").read_text())
        keys = "model", "name", "setting", "split", "attack"
        figures = "outcomes", "safety", "help"
        found.append(
            {
                json.dumps([cell.get(key) for key in keys]): [cell.get(key) for key in figures]
                for cell in results["cells"]
            }
        )
    alone, spread = found
    return {"cells": len(alone), "other": sum(spread.get(k) != v for k, v in alone.items())}


if __name__ == "__main__":
    main()
