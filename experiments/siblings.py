"""What a condition knows of sibling models, and what labels are worth to it.

`python -m experiments.siblings --models FOLDER` takes the models of the study organism-condition.
Each reads all of the organism's labelled prompts and test prompts once; a condition is fitted to
every model, used on every model of its training seed and on the next seed's main model, and areas
under the ROC curve are written to `experiments/organism-condition/siblings.json`. Nothing is
answered.
"""

import argparse
import platform
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


@cache
def read(folder: Path) -> Read:
    """What a model has read."""
    tokenizer, model = load_tokenizer(str(folder)), load_model(str(folder))

    def inputs(name: str) -> HeadInputs:
        asked = load_prompts(name, 0).prompts
        labelled = [to_labelled(one, encode_chat(tokenizer, one.messages)) for one in asked]
        return read_labelled(model, tokenizer, labelled, PHRASES, batch_size=32)

    fit, test = inputs("organism:fit"), inputs("organism:test")
    linear = read_head(model, tokenizer, fit.inputs.shape[1])
    direction = fit_direction(fit.inputs, fit.harmful, fit.groups)
    return Read(fit, test, linear, direction, to_tokens(direction, fit.inputs, linear, TOKENS))


def measure(folder: Path, seed: int) -> dict[str, Any]:
    """All areas of a training seed."""
    own = {name: read(folder / f"seed{seed}" / path) for name, path in MODELS.items()}
    after = read(folder / f"seed{seed % len(SEEDS) + 1}" / MODELS[MAIN])
    main = own[MAIN]
    within = crossvalidate(main.fit, main.direction, main.linear, TOKENS)
    return {
        "seed": seed,
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
