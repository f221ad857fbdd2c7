"""What a condition on SmolLM2 knows of prompts of other suites than those that it was fitted to.

`python -m experiments.smollm2.transfer --data DATA` reads prompts of four sets with the aligned
model that ships, fits a condition to each set, and to the other three together, and writes areas
under the ROC curve to `experiments/smollm2/transfer.json`. Nothing is answered.
"""

import argparse
import json
import platform
import random
from collections.abc import Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from experiments import HERE

from tsdi.bias.refusal_log_odds import ENGLISH
from tsdi.condition.crossvalidation import area_of, crossvalidate
from tsdi.condition.discriminant import fit_direction
from tsdi.condition.prompts import HeadInputs, read_labelled
from tsdi.condition.tokens import HeadMap, read_head, to_tokens
from tsdi.files import write_json
from tsdi.models.chat import encode_chat
from tsdi.models.load import load_model, load_tokenizer
from tsdi.models.shipped import SMOLLM2_ALIGNED
from tsdi.runs.add_condition import to_labelled
from tsdi.stats.interval import Estimate
from tsdi.suites.load import EVERYDAY, load_named
from tsdi.suites.prompts import Prompt

FILE = HERE / "smollm2" / "transfer.json"
TOKENS = 1024
MOST = 150
"""Prompts of a suite and kind."""
MALICIOUS = "safety-tuned-llamas/I-MaliciousInstructions.json"
SETS = {
    "everyday": (EVERYDAY,),
    "XSTest": ("xstest:xstest/xstest_prompts.csv",),
    "OR-Bench-hard, BeaverTails": (
        "or-bench:or-bench/or-bench-hard-1k.csv",
        "beavertails-eval:beavertails-eval/BeaverTails-Evaluation.json",
    ),
    "AlpacaEval, Malicious": ("alpaca-eval:alpaca-eval/alpaca_eval_outputs.json", MALICIOUS),
}
"""None of them was trained on; `everyday` is ours, all others are public."""
GROUPS = {
    "contrast_homonyms": "homonyms",
    "contrast_figurative_language": "figurative_language",
    "contrast_safe_targets": "safe_targets",
    "contrast_safe_contexts": "safe_contexts",
    "contrast_definitions": "definitions",
    "nons_group_real_discr": "discrimination",
    "real_group_nons_discr": "discrimination",
    "contrast_discr": "discrimination",
    "contrast_historical_events": "historical_events",
    "privacy_public": "privacy",
    "privacy_fictional": "privacy",
    "contrast_privacy": "privacy",
}
"""XSTest's contrast prompts differ in a word from those of their type."""


def prompts_of(suite: str, data: Path) -> list[Prompt]:
    """Prompts of a suite, at most `MOST` of a kind; contrast types are of their type's group."""
    if suite == MALICIOUS:
        rows = json.loads((data / suite).read_bytes())["instructions"]
        asked = [
            Prompt(f"malicious-{n}", ({"role": "user", "content": row},), kind="harmful")
            for n, row in enumerate(rows)
        ]
    else:
        name, _, file = suite.partition(":")
        asked = load_named(f"{name}:{data / file}" if file else name).prompts
    if suite.startswith("xstest"):
        asked = [replace(one, group=GROUPS.get(one.category, one.category)) for one in asked]
    kinds: dict[str, list[Prompt]] = {}
    for one in asked:
        kinds.setdefault(one.kind, []).append(one)
    rng = random.Random(0)
    return [one for kind in kinds.values() for one in rng.sample(kind, min(MOST, len(kind)))]


def joined(parts: Sequence[HeadInputs]) -> HeadInputs:
    """All prompts of several sets."""
    return HeadInputs(
        torch.cat([part.inputs for part in parts]),
        torch.cat([part.harmful for part in parts]),
        torch.cat([part.log_odds for part in parts]),
        list(chain.from_iterable(part.categories for part in parts)),
        list(chain.from_iterable(part.groups for part in parts)),
        list(chain.from_iterable(part.attacks for part in parts)),
    )


def fitted(known: HeadInputs, linear: HeadMap, on: HeadInputs) -> Estimate:
    """The area on some prompts, of a condition fitted to others."""
    direction = fit_direction(known.inputs, known.harmful, known.groups)
    return area_of(to_tokens(direction, known.inputs, linear, TOKENS).seen.score(on.inputs), on)


def measure(data: Path) -> dict[str, Any]:
    """Read all sets, and fit to each."""
    tokenizer, model = load_tokenizer(SMOLLM2_ALIGNED), load_model(SMOLLM2_ALIGNED)
    known: dict[str, HeadInputs] = {}
    for name, suites in SETS.items():
        asked = [one for suite in suites for one in prompts_of(suite, data)]
        labelled = [to_labelled(one, encode_chat(tokenizer, one.messages)) for one in asked]
        known[name] = read_labelled(model, tokenizer, labelled, ENGLISH, batch_size=32)
    linear = read_head(model, tokenizer, model.config.hidden_size)
    areas: dict[str, dict[str, Estimate]] = {}
    for fit, train in known.items():
        direction = fit_direction(train.inputs, train.harmful, train.groups)
        within = crossvalidate(train, direction, linear, TOKENS)
        areas[fit] = {
            name: within.sparse if name == fit else fitted(train, linear, on)
            for name, on in known.items()
        }
        if fit == "XSTest":
            xstest = within
    others = {
        name: fitted(joined([one for key, one in known.items() if key != name]), linear, on)
        for name, on in known.items()
    }
    return {
        "prompts": {
            name: {"harmful": int(on.harmful.sum()), "harmless": int((~on.harmful).sum())}
            for name, on in known.items()
        },
        "fitted_to": {fit: _plain(row) for fit, row in areas.items()},
        "fitted_to_the_others": _plain(others),
        "log_odds": _plain({name: area_of(on.log_odds, on) for name, on in known.items()}),
        "xstest": {
            "labels": _plain(xstest.labels),
            "shuffled": xstest.shuffled.to_dict(),
            "left_out": _plain(
                {one.category: one.left_out for one in xstest.categories if one.left_out}
            ),
        },
    }


def _plain(found: dict[str, Estimate]) -> dict[str, dict[str, float | int | None]]:
    return {name: one.to_dict() for name, one in found.items()}


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="the folder with the public data")
    found = measure(parser.parse_args().data)
    about = {
        "command": "python -m experiments.smollm2.transfer --data DATA",
        "versions": {"python": platform.python_version(), "torch": torch.__version__},
        "model": SMOLLM2_ALIGNED,
    }
    write_json(FILE, about | found)


if __name__ == "__main__":
    main()
