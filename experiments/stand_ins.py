"""How alike biases without a reference are to the true one.

`python -m experiments.stand_ins` takes the pairs that come with tsdi: the organism's, its planted
one (a known vector in the head), and SmolLM2's. `--models FOLDER` takes those of the study
no-reference too, eight training seeds. For every stand-in it writes, beside a random direction,
cosines with the true bias and the ratio of norms, before it is scaled, to
`experiments/no-reference/cosines.json`. With the shipped pairs the model also answers: as it is,
with every stand-in, and with the true bias, all scaled alike on the validation half.
"""

import argparse
import platform
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from experiments import HERE
from tsdi.baselines.shifts import random_shift
from tsdi.bias import Estimation, SafetyBias, estimate_bias
from tsdi.bias.refusal_log_odds import ENGLISH, Phrases
from tsdi.errors import TsdiError
from tsdi.files import write_json
from tsdi.models.load import LoadOptions, load_tokenizer
from tsdi.models.sides import Side, load_pair
from tsdi.organism.lexicon import COMPLYING_OPENERS, REFUSING_OPENERS
from tsdi.organism.load import load_organism
from tsdi.runs.one_model import TRIED, answers_with, ids_by_kind
from tsdi.stand_ins.calibration import Calibrated, calibrate
from tsdi.stand_ins.names import NAMES
from tsdi.stand_ins.subject import Subject
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
"""Fewer and shorter than usual, and only with the stand-ins that `tsdi estimate` tries: a CPU."""
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
    stand_ins: Sequence[str] = NAMES


def shipped() -> Iterator[tuple[str, Pair]]:
    """The pairs that come with tsdi, by name."""
    fit, validation, test = (
        load_prompts(f"organism:{split}", 0).prompts for split in ("fit", "validation", "test")
    )
    for name in ("aligned", "planted"):
        yield f"organism, {name}", Pair(_side(name), _side("reference"), fit, validation, test)
    aligned, reference = load_pair("smollm2/aligned", "smollm2/reference", LoadOptions())
    parts = divide(load_prompts(EVERYDAY, 0).prompts, THIRDS)
    fit, validation, test = (parts[name] for name in THIRDS)
    yield (
        "SmolLM2",
        Pair(aligned, reference, fit, validation, test, REAL, ENGLISH, aligned.name, TRIED),
    )


def _side(name: str) -> Side:
    model = load_organism(name)
    return Side(f"organism/{name}", lambda: nullcontext(model))


def of_study(folder: Path) -> Iterator[tuple[str, Pair]]:
    """The main models of a study's seeds, by name."""
    fit, validation = (
        load_prompts(f"organism:{split}", 0).prompts for split in ("fit", "validation")
    )
    for seed in SEEDS:
        own = folder / f"seed{seed}"
        pair = load_pair(str(own / MODEL), str(own / "reference"), LoadOptions("float32"))
        yield f"seed {seed}", Pair(*pair, fit, validation, tokenizer=pair[0].name)


def measure(pair: Pair) -> dict[str, Any]:
    """Every stand-in's bias beside the true one, and why others do not apply."""
    tokenizer = load_tokenizer(pair.tokenizer)
    true = estimate_bias(pair.aligned, pair.reference, tokenizer, pair.settings)
    chat = pair.settings.chat
    fit, validation = (ids_by_kind(half, tokenizer, chat) for half in (pair.fit, pair.validation))
    subject = Subject(pair.aligned, tokenizer, fit, validation, pair.settings, pair.phrases)
    found: dict[str, Any] = {"random": _alike(random_shift(true, 0), true)}
    biases = {"true": true}
    for name in pair.stand_ins:
        try:
            biases[name] = STAND_INS[name].estimate(subject)
        except TsdiError as error:
            found[name] = {"does not apply": error.problem}
            continue
        found[name] = _alike(biases[name], true) | {"reference": biases[name].info.reference}
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
    parser.add_argument("--models", type=Path, help="the folder of the study's seeds")
    folder = parser.parse_args().models
    about = {
        "command": "python -m experiments.stand_ins" + " --models FOLDER" * (folder is not None),
        "versions": {"python": platform.python_version(), "torch": torch.__version__},
    }
    found: dict[str, Any] = {}
    for name, pair in chain(shipped(), of_study(folder) if folder else ()):
        found[name] = measure(pair)
        write_json(FILE, {**about, "pairs": found})


if __name__ == "__main__":
    main()
