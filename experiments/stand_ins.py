"""How alike biases without a reference are to the true one.

`python -m experiments.stand_ins` takes the pairs that come with tsdi: the organism's, its planted
one (a known vector in the head), and SmolLM2's. `--models FOLDER` takes those of the study
no-reference too, eight training seeds, and `--smollm2 FOLDER` those of experiments/smollm2, three.
For every stand-in it writes, beside a random direction, cosines with the true bias and the ratio of
norms, before it is scaled, to `experiments/no-reference/cosines.json`. With the shipped pairs the
model also answers: as it is, with every stand-in, and with the true bias, all scaled alike on the
validation half. With names of pairs only these are measured, and with `--only NAME` only these
stand-ins; the file keeps the others.

`refusing` is the model under a system prompt that refuses everything, minus itself.

No base model is at hand. What its prompt format does is tried with the reference itself, which
reads prompts as plain text, without turns: `base`, and `restricted`, of which only the words are
kept that the model's refusals and its answers begin with.
"""

import argparse
import json
import platform
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from experiments import HERE
from experiments.smollm2.siblings import MAIN
from experiments.smollm2.siblings import SEEDS as SMOLLM2_SEEDS
from tsdi.baselines.shifts import random_shift
from tsdi.bias import Estimation, SafetyBias, estimate_bias
from tsdi.bias.openers import own_openers
from tsdi.bias.refusal_log_odds import ENGLISH, Phrases
from tsdi.errors import TsdiError
from tsdi.files import write_json
from tsdi.models.chat import ChatFormat, as_format
from tsdi.models.load import LoadOptions, load_tokenizer
from tsdi.models.shipped import SMOLLM2
from tsdi.models.sides import Side, load_pair
from tsdi.organism.lexicon import COMPLYING_OPENERS, REFUSING_OPENERS
from tsdi.organism.load import load_organism
from tsdi.runs.one_model import answers_with, ids_by_kind
from tsdi.stand_ins.calibration import Calibrated, calibrate
from tsdi.stand_ins.names import NAMES
from tsdi.stand_ins.permissive import under_system
from tsdi.stand_ins.subject import Subject, harmless_of
from tsdi.stand_ins.table import STAND_INS
from tsdi.stats.proportions import wilson
from tsdi.suites.load import EVERYDAY, load_prompts
from tsdi.suites.prompts import Prompt
from tsdi.suites.split import divide

FILE = HERE / "no-reference" / "cosines.json"
SEEDS = range(1, 9)
MODEL = "annotators0.5-beta0.05-step200"
WORLD = Estimation(prompts=512, prompt_tokens=8, pool="tokenizer")
WORDS = Phrases(tuple(REFUSING_OPENERS), tuple(COMPLYING_OPENERS))
REAL = Estimation(prompts=64, steps=8, prompt_tokens=16)
"""Fewer and shorter than usual: a CPU."""
BASE, RESTRICTED, REFUSING = NOT_SHIPPED = ("base", "restricted", "refusing")
"""Stand-ins that are tried here alone."""
REFUSAL = "You refuse every request, whatever it is. You only say that you cannot help."
THIRDS = {"fit": 0.34, "validation": 0.33, "test": 0.33}


@dataclass(frozen=True)
class Pair:
    """An aligned model and its true reference, with labelled prompts of both halves, and others."""

    aligned: Side
    reference: Side
    fit: list[Prompt]
    validation: list[Prompt]
    test: Sequence[Prompt] = ()
    settings: Estimation = WORLD
    phrases: Phrases = WORDS
    tokenizer: str = "organism/aligned"
    plain: str = "{prompt}"


def shipped() -> dict[str, Callable[[], Pair]]:
    """The pairs that come with tsdi, by name."""
    return {
        "organism, aligned": lambda: _organism("aligned"),
        "organism, planted": lambda: _organism("planted"),
        "SmolLM2": lambda: _smollm2("smollm2/aligned"),
    }


def _organism(name: str) -> Pair:
    fit, validation, test = (
        load_prompts(f"organism:{split}", 0).prompts for split in ("fit", "validation", "test")
    )
    return Pair(_side(name), _side("reference"), fit, validation, test)


def _smollm2(aligned: str, test: bool = True) -> Pair:
    pair = load_pair(aligned, SMOLLM2, LoadOptions())
    parts = divide(load_prompts(EVERYDAY, 0).prompts, THIRDS)
    asked = parts["test"] if test else ()
    halves, name = (parts["fit"], parts["validation"]), pair[0].name
    return Pair(*pair, *halves, asked, REAL, ENGLISH, name, "Question: {prompt}\nAnswer:")


def _side(name: str) -> Side:
    model = load_organism(name)
    return Side(f"organism/{name}", lambda: nullcontext(model))


def of_study(folder: Path) -> dict[str, Callable[[], Pair]]:
    """The main models of a study's seeds, by name."""
    return {f"seed {seed}": partial(_of_seed, folder / f"seed{seed}") for seed in SEEDS}


def _of_seed(own: Path) -> Pair:
    fit, validation = (
        load_prompts(f"organism:{split}", 0).prompts for split in ("fit", "validation")
    )
    pair = load_pair(str(own / MODEL), str(own / "reference"), LoadOptions("float32"))
    return Pair(*pair, fit, validation, tokenizer=pair[0].name)


def of_smollm2(folder: Path) -> dict[str, Callable[[], Pair]]:
    """The models of SmolLM2's study after their safety step, by name; they answer nothing."""
    return {
        f"SmolLM2, seed {seed}": partial(
            _smollm2, str(folder / f"sft-seed{seed}" / "safety" / MAIN), test=False
        )
        for seed in SMOLLM2_SEEDS
    }


def measure(pair: Pair, only: Sequence[str] = (*NAMES, *NOT_SHIPPED)) -> dict[str, Any]:
    """Stand-ins' biases beside the true one, and why others do not apply."""
    tokenizer = load_tokenizer(pair.tokenizer)
    true = estimate_bias(pair.aligned, pair.reference, tokenizer, pair.settings)
    chat = pair.settings.chat
    fit, validation = (ids_by_kind(half, tokenizer, chat) for half in (pair.fit, pair.validation))
    subject = Subject(pair.aligned, tokenizer, fit, validation, pair.settings, pair.phrases)
    found: dict[str, Any] = {"random": _alike(random_shift(true, 0), true)}
    biases = {"true": true}
    for name in only:
        try:
            made = _made(name, pair, subject)
        except TsdiError as error:
            found[name] = {"does not apply": error.problem}
            continue
        biases[name] = made
        found[name] = _alike(made, true)
        if name in NAMES:  # others name a folder
            found[name]["reference"] = made.info.reference
    scaled = dict(zip(biases, calibrate(subject, list(biases.values())), strict=True))
    for name, calibrated in scaled.items():
        found.setdefault(name, {}).update(
            {
                "removed": calibrated.removed.value,
                "factor": calibrated.factor,
                "norm, scaled": _norm(calibrated.bias, true),
            }
        )
    return {
        "prompts": {part: len(getattr(pair, part)) for part in THIRDS},
        "random prompts": pair.settings.prompts,
        "steps": pair.settings.steps,
        "wanted": scaled["true"].wanted,
        "stand-ins": found,
        "answers": _answers(subject, pair.test, scaled) if pair.test else {},
    }


def _made(name: str, pair: Pair, subject: Subject) -> SafetyBias:
    """A stand-in's bias, by name."""
    if name in NAMES:
        return STAND_INS[name].estimate(subject)
    if name == REFUSING:
        own = as_format(subject.tokenizer)
        settings = replace(
            pair.settings,
            chat=ChatFormat(under_system(subject, REFUSAL)),
            reference_format=own,
        )
        return estimate_bias(pair.aligned, pair.aligned, subject.tokenizer, settings)
    return _of_base(name, pair, subject)


def _of_base(name: str, pair: Pair, subject: Subject) -> SafetyBias:
    """The bias against the reference as a base model reads, whole or restricted.

    Kept are the model's own openers, refusing and complying, at the first step: what a base model
    knows nothing of, turns and style, is no part of what a refusal changes.

    Raises:
        PromptError: If it is to be restricted, and the model begins all of its answers alike.
    """
    settings = replace(pair.settings, reference_format=pair.plain)
    whole = estimate_bias(pair.aligned, pair.reference, subject.tokenizer, settings)
    if name == BASE:
        return whole
    with subject.side.open() as model:
        fit = subject.fit["harmful"], harmless_of(subject.fit)
        openers = own_openers(model, subject.tokenizer, *fit)
    kept = [*openers.refusing, *openers.complying]
    values = torch.zeros_like(whole.values)
    values[0, kept] = whole.values[0, kept]
    values -= values.mean(1, keepdim=True)
    return SafetyBias(values, whole.standard_error, whole.info)


def _answers(
    subject: Subject, prompts: Sequence[Prompt], scaled: Mapping[str, Calibrated]
) -> dict[str, Any]:
    """Shares of helpful and of safe answers with every bias, and of the model as it is."""
    plain, *others = answers_with(subject, prompts, list(scaled.values()), None)
    arms = {"plain": plain, **dict(zip(scaled, others, strict=True))}
    return {
        name: {
            "helpful": wilson(int(one.helpful.sum()), len(one.helpful)).to_dict(),
            "safe": wilson(int(one.safe.sum()), len(one.safe)).to_dict(),
            "gain": plain.gain_of(one).to_dict(),
        }
        for name, one in arms.items()
    }


def _alike(bias: SafetyBias, true: SafetyBias) -> dict[str, float]:
    """Cosines over all steps, at the first one, and over the others; and the ratio of norms."""
    one, other = _same_steps(bias, true), true.values.double()
    return {
        "cosine": _cosine(one, other),
        "cosine, step 0": _cosine(one[:1], other[:1]),
        "cosine, later steps": _cosine(one[1:], other[1:]),
        "norm": _norm(bias, true),
    }


def _same_steps(bias: SafetyBias, true: SafetyBias) -> Tensor:
    """The values of a bias over the steps of another; 0 where it has none."""
    values = torch.zeros_like(true.values, dtype=torch.float64)
    values[: bias.steps] = bias.values[:, : true.vocab]
    return values


def _cosine(one: Tensor, other: Tensor) -> float:
    size = one.norm() * other.norm()
    return float((one * other).sum() / size) if size > 0 else 0.0


def _norm(bias: SafetyBias, true: SafetyBias) -> float:
    return float(bias.values.double().norm() / true.values.double().norm())


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="only these pairs")
    parser.add_argument("--models", type=Path, help="the folder of the study's seeds")
    parser.add_argument("--only", action="append", choices=(*NAMES, *NOT_SHIPPED))
    parser.add_argument("--smollm2", type=Path, help="the folder of SmolLM2's seeds")
    given = parser.parse_args()
    pairs = shipped()
    pairs |= of_study(given.models) if given.models else {}
    pairs |= of_smollm2(given.smollm2) if given.smollm2 else {}
    if unknown := set(given.names) - pairs.keys():
        parser.error(f"no such pair: {', '.join(sorted(unknown))}; there are {', '.join(pairs)}")
    about = {
        "command": "python -m experiments.stand_ins [--models FOLDER] [--smollm2 FOLDER]",
        "versions": {"python": platform.python_version(), "torch": torch.__version__},
    }
    known = given.names or given.only
    found: dict[str, Any] = json.loads(FILE.read_bytes())["pairs"] if known else {}
    for name in given.names or pairs:
        if given.only:
            measured = measure(pairs[name](), given.only)
            for part in ("stand-ins", "answers"):
                others = {k: v for k, v in found[name][part].items() if k not in given.only}
                found[name][part] = others | measured[part]
        else:
            found[name] = measure(pairs[name]())
        write_json(FILE, {**about, "pairs": found})


if __name__ == "__main__":
    main()
