"""What is measured of one training seed of the organism experiment: every model of its grid.

`python -m tsdi.study.measure --models DIR --seed N --out FILE` trains what is missing of the grid
in DIR/seed-N (`tsdi.training.organism`) and writes the figures of all its models on validation and
test requests into one JSON file, model by model, so that a killed run goes on.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.stats import mannwhitneyu
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from tsdi import organism
from tsdi.baselines.shifts import random_shift
from tsdi.bias import Estimation, SafetyBias, TokenPool, estimate_bias
from tsdi.bias.diagnosis import Examination, diagnose
from tsdi.bias.refusal_log_odds import phrase_ids
from tsdi.engines.base import Request
from tsdi.engines.transformers import TransformersEngine
from tsdi.errors import FormatError, RunExistsError, TsdiError
from tsdi.evaluation.metrics import Judged, arm_metrics
from tsdi.files import parse_json, write_bytes
from tsdi.judging.verdict import Verdict
from tsdi.models.chat import encode_chat
from tsdi.models.load import LoadOptions, load_model, load_tokenizer
from tsdi.study.operating_curve import OperatingCurve, operating_curve
from tsdi.study.organism_answers import (
    BATCH_SIZE,
    PHRASES,
    PROMPT_TOKENS,
    RANDOM_PROMPTS,
    SAMPLING,
    STEPS,
    answer_items,
    judge_items,
)
from tsdi.training.organism import SMOKE, Alignment, Recipe, train_grid
from tsdi.training.run_folder import versions

ITEMS = {
    "validation": {"harmless": 160, "lookalike": 160, "harmful": 320},
    "test": {"harmless": 320, "lookalike": 320, "harmful": 640},
}
CONSTANTS = tuple(float(c) for c in np.arange(-8, 8.25, 0.5))  # logits, added to refusing openers
DIAGNOSED = 32  # requests of each kind, and random prompts

Figures = dict[str, Any]


def measure_seed(models: Path, seed: int, recipe: Recipe, out: Path, command: str) -> Figures:
    """Train and measure all models of one seed.

    Args:
        models: Where the models are or will be, in a folder of the seed.
        seed: Training seed; also that of the random prompts.
        recipe: How they are trained.
        out: Result file, written after each model; what it holds already is not done again.
        command: What the user typed, for the result file.

    Returns:
        The content of the result file: settings, versions, and figures of the reference and of
        every model by name.

    Raises:
        RunExistsError: If the result file, or the folder of models, was made in another way.
        FormatError: If the result file is damaged.
    """
    folder = models / f"seed-{seed}"
    header: Figures = {
        "command": command,
        "seed": seed,
        "versions": versions(),
        "settings": {
            "items": ITEMS,
            "constants": CONSTANTS,
            "random_prompts": RANDOM_PROMPTS,
            "prompt_tokens": PROMPT_TOKENS,
            "steps": STEPS,
            "diagnosed": DIAGNOSED,
        },
        "recipe": recipe.to_dict(),
    }
    result = _resumed(out, json.loads(json.dumps(header)))
    train_grid(folder, seed, recipe)
    float32 = LoadOptions("float32", "cpu")
    reference = str(folder / "reference")
    bench = _Bench(load_model(reference, float32), load_tokenizer(reference), seed)
    if not result["reference"]:
        result["reference"] = {split: bench.plain(split) for split in ITEMS}
        _write(out, result)
    for alignment in recipe.grid:
        for step, name in alignment.names().items():
            if name not in result["models"]:
                model = load_model(str(folder / name), float32)
                result["models"][name] = _settings(alignment, step) | bench.aligned(model)
                _write(out, result)
                print(f"seed {seed}: {name}", file=sys.stderr, flush=True)
    return result


def _resumed(out: Path, header: Figures) -> Figures:
    """What the result file holds, or the beginning of a new one; written, so that it can be."""
    result = header | {"reference": {}, "models": {}}
    if out.exists():
        try:
            found = parse_json(out.read_bytes())
            kept = {key: found[key] for key in header}
        except (ValueError, KeyError, TypeError):
            raise FormatError(
                f"{out} is no result file of this command.", "Name another."
            ) from None
        differing = [key for key in header if kept[key] != header[key]]
        if differing:
            raise RunExistsError(
                f"The figures in {out} were made with another {', '.join(differing)}.",
                "Name another --out.",
            )
        result = found
    _write(out, result)
    return result


def _write(out: Path, result: Figures) -> None:
    """Keep what is done, without the indentation that would triple the file."""
    write_bytes(out, json.dumps(result, allow_nan=False, separators=(",", ":")).encode() + b"\n")


def _settings(alignment: Alignment, step: int) -> Figures:
    return {"annotators": alignment.annotators, "beta": alignment.beta, "iterations": step}


class _Bench:
    """A reference, and the requests on which aligned models are compared with it."""

    def __init__(
        self, reference: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, seed: int
    ) -> None:
        self._reference, self._tokenizer, self._seed = reference, tokenizer, seed
        self._refusing = [ids[0] for ids in phrase_ids(tokenizer, PHRASES.refusing)]
        self._complying = [ids[0] for ids in phrase_ids(tokenizer, PHRASES.complying)]
        self._items = {
            split: [i for kind, n in counts.items() for i in organism.items(split, kind, n, 0)]
            for split, counts in ITEMS.items()
        }

    def plain(self, split: str, model: PreTrainedModel | None = None) -> Figures:
        """A model's own answers, and those at each constant on its refusing openers."""
        model = model or self._reference
        items = self._items[split]
        curve = self._curve(model, split)
        sides = judge_items(items, curve.refusing), judge_items(items, curve.other)
        at = [figures(curve.pick(c, *sides)) for c in CONSTANTS]
        return {
            "plain": figures(curve.pick(0.0, *sides)),
            "curve": {key: [one[key] for one in at] for key in CURVED},
            "auc": area(items, curve.margins),
        }

    def aligned(self, model: PreTrainedModel) -> Figures:
        """All figures of an aligned model: plain, debiased, shifted at random; and its bias."""
        pool = TokenPool.from_tokenizer(self._tokenizer)
        bias = estimate_bias(
            model,
            self._reference,
            self._tokenizer,
            Estimation(
                prompts=RANDOM_PROMPTS,
                steps=STEPS,
                seed=self._seed,
                pool=pool,
                prompt_tokens=PROMPT_TOKENS,
            ),
        )
        arms = {"debiased": bias, "random": random_shift(bias, self._seed)}
        measured: Figures = {}
        for split, items in self._items.items():
            measured[split] = self.plain(split, model)
            for arm, shift in arms.items():
                engine = TransformersEngine(model, self._tokenizer, shift, 1.0)
                answers = answer_items(engine, items, arm, lambda *_: None)
                measured[split][arm] = figures(judge_items(items, answers))
        return measured | {"bias": self._diagnosis(bias, model, pool)}

    def _curve(self, model: PreTrainedModel, split: str) -> OperatingCurve:
        requests = [Request.from_text(item.prompt) for item in self._items[split]]
        return operating_curve(
            model, self._tokenizer, requests, SAMPLING, self._refusing, BATCH_SIZE
        )

    def _diagnosis(self, bias: SafetyBias, model: PreTrainedModel, pool: TokenPool) -> Figures:
        """The bias in a few numbers, on random prompts and on validation requests."""
        chats: dict[str, list[list[int]]] = {}
        for item in self._items["validation"]:
            chats.setdefault(item.kind, []).append(
                encode_chat(self._tokenizer, Request.from_text(item.prompt).messages)
            )
        real = {kind: some[:DIAGNOSED] for kind, some in chats.items()}
        found = diagnose(
            bias,
            model,
            self._reference,
            self._tokenizer,
            Examination(pool, real, DIAGNOSED, None, PHRASES),
        )
        first = bias.values[0]
        return {
            "refusing_minus_complying": float(
                first[self._refusing].mean() - first[self._complying].mean()
            ),
            "reliability": min(found.reliability),
            "one_number": found.one_number,
            "shift": {kind: shown.shift.value for kind, shown in found.refusal.items()},
            "explained": {kind: shown.value for kind, shown in found.explained.items()},
        }


CURVED = ("safety", "O3", "correct", "compliance", "lookalike")


def figures(judged: Sequence[Judged]) -> Figures:
    """Shares of answers: what `arm_metrics` gives, without intervals, and compliance overall."""
    arm = arm_metrics(judged)
    asked = [one for one in judged if one.kind != "harmful"]
    complied = [one.judgement.verdict is Verdict.COMPLIED for one in asked]
    return {
        "safety": arm.safety.value,
        "O3": arm.safety_by_category["O3"].value,
        "correct": arm.correct.value,
        "compliance": float(np.mean(complied)),
        "harmless": arm.compliance.value,
        "lookalike": arm.lookalike_compliance.value,
        "safety_by_category": {c: share.value for c, share in arm.safety_by_category.items()},
        "hybrid": arm.hybrid.value,
        "degenerate": arm.degenerate.value,
    }


def area(items: Sequence[organism.Item], margins: Sequence[float]) -> float:
    """How often a harmful request is refused at a smaller constant than a lookalike (AUC).

    Args:
        items: The requests.
        margins: Of each the constant beyond which it is refused (`OperatingCurve.margins`).
    """
    harmful, lookalike = (
        [margin for item, margin in zip(items, margins, strict=True) if item.kind == kind]
        for kind in ("harmful", "lookalike")
    )
    pairs = len(harmful) * len(lookalike)
    return float(mannwhitneyu(lookalike, harmful).statistic / pairs)


def main(arguments: Sequence[str]) -> int:
    """Run the command line and return its exit code."""
    parser = argparse.ArgumentParser(prog="python -m tsdi.study.measure", description=__doc__)
    parser.add_argument("--models", type=Path, required=True, help="folder for the models")
    parser.add_argument("--seed", type=int, required=True, help="training seed")
    parser.add_argument("--out", type=Path, required=True, help="result file, .json")
    parser.add_argument("--smoke", action="store_true", help="a few steps of a smaller model")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    smoke = " --smoke" if options.smoke else ""
    command = f"python -m tsdi.study.measure --models DIR --seed {options.seed} --out FILE{smoke}"
    recipe = SMOKE if options.smoke else Recipe()
    try:
        measure_seed(options.models, options.seed, recipe, options.out, command)
    except (TsdiError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
