"""What conditions on SmolLM2 see, what they know of sibling models, and what labels are worth.

`python -m experiments.smollm2.siblings --models FOLDER` takes the models and prompts of the study
of this folder. It writes areas under the ROC curve, the scores of one model's test prompts and the
tokens that decide them to `experiments/smollm2/siblings.json`. Nothing is answered.
"""

import argparse
import platform
from pathlib import Path
from typing import Any

import torch
from experiments import HERE
from experiments.siblings import Read, areas, reading

from tsdi.bias.refusal_log_odds import ENGLISH
from tsdi.files import write_json
from tsdi.models.chat import decode
from tsdi.models.load import load_tokenizer
from tsdi.models.shipped import SMOLLM2
from tsdi.stats.auc import auc
from tsdi.suites.load import load_prompts
from tsdi.suites.prompts import Prompt

SEEDS = (0, 1, 2)
STEPS = (10, 20)
MAIN = "step20"
MOST_TOKENS = 12
"""Tokens of each sign that are shown."""
FILE = HERE / "smollm2" / "siblings.json"


def measure(folder: Path) -> dict[str, Any]:
    """All areas of all seeds, and the scores and tokens of the first."""
    fit, test = (load_prompts(str(folder / f"{name}.jsonl"), 0).prompts for name in ("fit", "test"))

    def read(name: str) -> Read:
        return reading(name, fit, test, ENGLISH)

    reference = read(SMOLLM2)
    seeds = [
        {
            "reference": reference,
            **{f"step{n}": read(str(folder / f"sft-seed{seed}/safety/step{n}")) for n in STEPS},
        }
        for seed in SEEDS
    ]
    following = [*seeds[1:], seeds[0]]
    first = seeds[0][MAIN]
    return {
        "seeds": [
            {"seed": seed, **areas(own, after[MAIN], MAIN), "suites": by_suite(own[MAIN], test)}
            for seed, own, after in zip(SEEDS, seeds, following, strict=True)
        ],
        "scores": scores(first, test),
        "tokens": tokens(first),
    }


def by_suite(own: Read, test: list[Prompt]) -> dict[str, dict[str, Any]]:
    """The area of each suite's prompts against all of the other kind, with the log-odds' own."""
    score, suites = own.used_on(own), [one.category.partition(":")[0] for one in test]
    odds, found = own.test.log_odds, {}
    for suite in dict.fromkeys(suites):
        for harmful in (True, False):
            here = torch.tensor([name == suite for name in suites]) & (own.test.harmful == harmful)
            if not bool(here.any()):
                continue
            other = own.test.harmful != harmful
            yes, no = (here, other) if harmful else (other, here)
            found[f"{suite}, {'harmful' if harmful else 'harmless'}"] = {
                "prompts": int(here.sum()),
                "condition": auc(score[yes].tolist(), score[no].tolist()).value,
                "log_odds": auc(odds[yes].tolist(), odds[no].tolist()).value,
            }
    return found


def scores(own: Read, test: list[Prompt]) -> dict[str, list[float]]:
    """The score h of every test prompt, by kind."""
    found: dict[str, list[float]] = {}
    for one, score in zip(test, own.used_on(own).tolist(), strict=True):
        found.setdefault(one.kind, []).append(round(score, 2))
    return found


def tokens(own: Read) -> dict[str, list[tuple[str, float]]]:
    """Tokens whose logits say most of harm, for it and against it.

    A token says as much as its weight times the spread of its logit over the labelled prompts.
    """
    tokenizer = load_tokenizer(SMOLLM2)
    place = torch.searchsorted(own.linear.tokens, own.weights.tokens)
    logits = own.fit.inputs @ own.linear.matrix.double()[:, place]
    says = own.weights.weights.double() * logits.std(0)
    order = says.argsort(descending=True).tolist()
    named = [
        (decode(tokenizer, [int(own.weights.tokens[i])]), round(float(says[i]), 3)) for i in order
    ]
    return {"harmful": named[:MOST_TOKENS], "harmless": named[::-1][:MOST_TOKENS]}


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", type=Path, required=True, help="the study's models and prompts")
    folder = parser.parse_args().models
    about = {
        "command": "python -m experiments.smollm2.siblings --models models",
        "versions": {"python": platform.python_version(), "torch": torch.__version__},
        "main": MAIN,
    }
    write_json(FILE, about | measure(folder))


if __name__ == "__main__":
    main()
