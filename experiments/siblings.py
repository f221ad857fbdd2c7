"""What a condition knows of sibling models, and what labels are worth to it.

`python -m experiments.siblings --models FOLDER` takes the models of the study organism-condition.
Each reads all of the organism's labelled prompts and test prompts once; a condition is fitted to
every model, used on every model of its training seed and on the next seed's main model, and areas
under the ROC curve are written to `experiments/organism-condition/siblings.json`. Nothing is
answered.
"""

import argparse
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from experiments import HERE
from tsdi.bias.refusal_log_odds import Phrases
from tsdi.condition.crossvalidation import crossvalidate
from tsdi.condition.discriminant import Direction, fit_direction
from tsdi.condition.prompts import HeadInputs, read_labelled
from tsdi.condition.tokens import HeadMap, TokenWeights, read_head, to_tokens
from tsdi.files import write_json
from tsdi.models.chat import encode_chat
from tsdi.models.load import load_model, load_tokenizer
from tsdi.organism.lexicon import COMPLYING_OPENERS, REFUSING_OPENERS
from tsdi.runs.add_condition import to_labelled
from tsdi.stats.auc import auc
from tsdi.suites.load import load_prompts
from tsdi.suites.prompts import Prompt

TOKENS = 1024
SEEDS = range(1, 9)
MODELS = {
    "reference": "reference",
    "step60": "annotators0.5-beta0.05-step60",
    "step200": "annotators0.5-beta0.05-step200",
}
"""Folders of a training seed's models, by what they are called."""
MAIN = "step200"
FILE = HERE / "organism-condition" / "siblings.json"
PHRASES = Phrases(tuple(REFUSING_OPENERS), tuple(COMPLYING_OPENERS))


@dataclass(frozen=True)
class Read:
    """A model's reading of the prompts, and the condition that is fitted to it."""

    fit: HeadInputs
    test: HeadInputs
    linear: HeadMap
    direction: Direction
    weights: TokenWeights

    def used_on(self, other: "Read") -> Tensor:
        """The score h of the test prompts by another model's logits, float64 [prompts]."""
        matrix, offset = other.linear.matrix.double(), other.linear.offset.double()
        place = torch.searchsorted(other.linear.tokens, self.weights.tokens)
        logits = other.test.inputs @ matrix[:, place] + offset[place]
        return logits @ self.weights.weights.double() + self.weights.intercept


def reading(name: str, fit: Sequence[Prompt], test: Sequence[Prompt], phrases: Phrases) -> Read:
    """What a model, by folder or name, has read of labelled prompts and of test prompts."""
    tokenizer, model = load_tokenizer(name), load_model(name)

    def inputs(asked: Sequence[Prompt]) -> HeadInputs:
        labelled = [to_labelled(one, encode_chat(tokenizer, one.messages)) for one in asked]
        return read_labelled(model, tokenizer, labelled, phrases, batch_size=32)

    known, tested = inputs(fit), inputs(test)
    linear = read_head(model, tokenizer, known.inputs.shape[1])
    direction = fit_direction(known.inputs, known.harmful, known.groups)
    weights = to_tokens(direction, known.inputs, linear, TOKENS)
    return Read(known, tested, linear, direction, weights)


@cache
def organism(folder: Path) -> Read:
    """What a model organism has read."""
    fit, test = (load_prompts(name, 0).prompts for name in ("organism:fit", "organism:test"))
    return reading(str(folder), fit, test, PHRASES)


def areas(own: Mapping[str, Read], after: Read, main: str) -> dict[str, Any]:
    """All areas of a training seed's models, and on the main model of the next seed."""
    within = crossvalidate(own[main].fit, own[main].direction, own[main].linear, TOKENS)
    return {
        "areas": {
            fit: {
                **{name: _area(one.used_on(other), other) for name, other in own.items()},
                "another seed": _area(one.used_on(after), after),
            }
            for fit, one in own.items()
        },
        "log_odds": {name: _area(one.test.log_odds, one) for name, one in own.items()},
        "labels": {count: one.value for count, one in within.labels.items()},
        "shuffled": within.shuffled.value,
    }


def measure(folder: Path, seed: int) -> dict[str, Any]:
    """All areas of a training seed."""
    own = {name: organism(folder / f"seed{seed}" / path) for name, path in MODELS.items()}
    after = organism(folder / f"seed{seed % len(SEEDS) + 1}" / MODELS[MAIN])
    return {"seed": seed, **areas(own, after, MAIN)}


def _area(score: Tensor, of: Read) -> float | None:
    harmful = of.test.harmful
    return auc(score[harmful].tolist(), score[~harmful].tolist()).value


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", type=Path, required=True, help="the folder of the seeds")
    folder = parser.parse_args().models
    about = {
        "command": "python -m experiments.siblings --models organism-condition/models",
        "versions": {"python": platform.python_version(), "torch": torch.__version__},
        "main": MAIN,
    }
    write_json(FILE, {**about, "seeds": [measure(folder, seed) for seed in SEEDS]})


if __name__ == "__main__":
    main()
