"""Which labels a condition on SmolLM2 needs to know harm in suites that it was not fitted to.

`python -m experiments.smollm2.label_sets --data DATA --models FOLDER` fits conditions to labels of
one model of each training seed, and writes their areas under the ROC curve on XSTest and
StrongREJECT, of which no label comes, to `experiments/smollm2/label_sets.json`. The same number of
labels of each kind is drawn from each set, so that what differs is where they come from. Nothing is
answered.
"""

import argparse
import json
import platform
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from experiments import HERE
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from tsdi.bias import lm_head as head
from tsdi.bias.refusal_log_odds import ENGLISH, phrase_ids
from tsdi.condition.discriminant import fit_direction
from tsdi.condition.tokens import HeadMap, read_head, to_tokens
from tsdi.files import write_json
from tsdi.models.chat import encode_chat
from tsdi.models.load import load_model, load_tokenizer
from tsdi.stats.auc import auc
from tsdi.suites.load import EVERYDAY, load_named
from tsdi.suites.prompts import Prompt

FILE = HERE / "smollm2" / "label_sets.json"
SEEDS = (0, 1, 2)
TOKENS = 1024
MOST = 100
"""Prompts of a suite and kind that are read."""
BATCH = 32
EACH = 120
"""Labels of a kind."""
SMALL = "safety-tuned-llamas/I-{}.json"
FILES = {
    EVERYDAY: None,
    "or-bench": "or-bench/or-bench-hard-1k.csv",
    "beavertails-eval": "beavertails-eval/BeaverTails-Evaluation.json",
    "alpaca-eval": "alpaca-eval/alpaca_eval_outputs.json",
    "harmbench": "harmbench/harmbench_behaviors_text_all.csv",
    "jailbreakbench": "jailbreakbench/jailbreakbench.csv",
    "xstest": "xstest/xstest_prompts.csv",
    "strongreject": "strongreject/strongreject.csv",
}
INSTRUCTIONS = {
    "malicious": ("MaliciousInstructions", "harmful"),
    "conan": ("CoNa", "harmful"),
    "physical-unsafe": ("PhysicalSafetyUnsafe", "harmful"),
    "physical-safe": ("PhysicalSafetySafe", "lookalike"),
}
NEW = ("xstest", "strongreject")
"""Suites to be told apart; no label is of them."""
SETS: dict[str, tuple[str, ...]] = {
    "the study's": (EVERYDAY, "or-bench", "beavertails-eval", "alpaca-eval"),
    "... without OR-Bench-hard": (EVERYDAY, "beavertails-eval", "alpaca-eval"),
    "plain harm, plain requests": (
        "harmbench",
        "jailbreakbench",
        "malicious",
        "alpaca-eval",
    ),
    "suites of both kinds": (EVERYDAY, "physical-unsafe", "physical-safe"),
    "all suites": (*FILES, *INSTRUCTIONS),
}


@dataclass(frozen=True)
class Asked:
    """A labelled prompt and the suite that it is of."""

    suite: str
    prompt: Prompt


def asked(data: Path) -> list[Asked]:
    """The prompts of all suites, without copies; of new ones twice `MOST` of a kind at most."""
    found: list[Asked] = []
    seen: set[str] = set()
    for suite in (*NEW, *(name for name in FILES if name not in NEW), *INSTRUCTIONS):
        fresh = []
        for one in suite_prompts(suite, data):
            text = " ".join(one.messages[-1]["content"].lower().split()).rstrip(".?! ")
            if text not in seen:
                seen.add(text)
                fresh.append(one)
        for kinds in (("harmful",), ("harmless", "lookalike")):
            some = [one for one in fresh if one.kind in kinds]
            most = 2 * MOST if suite in NEW else MOST
            some = random.Random(0).sample(some, most) if len(some) > most else some
            found += [Asked(suite, one) for one in some]
    return found


def suite_prompts(suite: str, data: Path) -> Iterator[Prompt]:
    """The prompts of a suite, in its own order."""
    if suite not in INSTRUCTIONS:
        file = FILES[suite]
        yield from load_named(f"{suite}:{data / file}" if file else suite).prompts
        return
    name, kind = INSTRUCTIONS[suite]
    for n, text in enumerate(json.loads((data / SMALL.format(name)).read_bytes())["instructions"]):
        message = {"role": "user", "content": text}
        # The n-th safe and unsafe prompts are of one scene.
        group = f"physical-{n}" if suite.startswith("physical") else ""
        yield Prompt(f"{suite}-{n}", (message,), kind=kind, group=group)


def drawn(prompts: Sequence[Asked], suites: Sequence[str], each: int | None, seed: int) -> Tensor:
    """A mask of as many labels of each kind, spread evenly over the suites that have it."""
    rng = random.Random(seed)
    mask = torch.zeros(len(prompts), dtype=torch.bool)
    for harmful in (True, False):
        queues = []
        for suite in suites:
            places = [
                n
                for n, one in enumerate(prompts)
                if one.suite == suite and (one.prompt.kind == "harmful") == harmful
            ]
            rng.shuffle(places)
            if places and suite not in NEW:
                queues.append(places)
        left = each if each is not None else sum(map(len, queues))
        while left and any(queues):
            for queue in filter(None, queues):
                if left:
                    mask[queue.pop()] = True
                    left -= 1
    return mask


@dataclass(frozen=True)
class Read:
    """What a model has read of the prompts: float64 [prompts, hidden], and their labels."""

    inputs: Tensor
    harmful: Tensor
    groups: list[str]
    log_odds: Tensor
    linear: HeadMap

    def fitted(self, mask: Tensor) -> Tensor:
        """The score h of all prompts by a condition that is fitted to some, float64 [prompts]."""
        train, harmful = self.inputs[mask], self.harmful[mask]
        groups = [self.groups[n] for n in mask.nonzero()[:, 0].tolist()]
        direction = fit_direction(train, harmful, groups)
        return to_tokens(direction, train, self.linear, TOKENS).seen.score(self.inputs)


def areas(own: Read, prompts: Sequence[Asked], seed: int) -> dict[str, Any]:
    """The areas on new suites of conditions fitted to each set of labels, and to all labels."""
    targets = _targets(own.harmful, prompts)
    found: dict[str, Any] = {}
    fits: dict[str, tuple[Sequence[str], int | None]] = {
        name: (suites, EACH) for name, suites in SETS.items()
    }
    fits["all suites, all their prompts"] = (SETS["all suites"], None)
    for name, (suites, each) in fits.items():
        mask = drawn(prompts, suites, each, seed)
        score = own.fitted(mask)
        found[name] = {
            "harmful": int(own.harmful[mask].sum()),
            "harmless": int((~own.harmful[mask]).sum()),
            "areas": {to: _area(score, *masks) for to, masks in targets.items()},
        }
    found["nothing: refusal log-odds"] = {
        "areas": {to: _area(own.log_odds, *masks) for to, masks in targets.items()}
    }
    return found


def _targets(harmful: Tensor, prompts: Sequence[Asked]) -> dict[str, tuple[Tensor, Tensor]]:
    suite = {name: torch.tensor([one.suite == name for one in prompts]) for name in NEW}
    safe = suite["xstest"] & ~harmful
    return {
        "XSTest": (suite["xstest"] & harmful, safe),
        "StrongREJECT": (suite["strongreject"], safe),
    }


def _area(score: Tensor, harmful: Tensor, harmless: Tensor) -> float | None:
    return auc(score[harmful].tolist(), score[harmless].tolist()).value


def read(path: str, prompts: Sequence[Asked]) -> Read:
    """Read all prompts with a model, those of one length together.

    The refusal log-odds are those of the first tokens of `ENGLISH` phrases.
    """
    tokenizer, model = load_tokenizer(path), load_model(path)
    rows = [encode_chat(tokenizer, one.prompt.messages) for one in prompts]
    lengths: dict[int, list[int]] = {}
    for n, row in enumerate(rows):
        lengths.setdefault(len(row), []).append(n)
    found: dict[int, Tensor] = {}
    with torch.no_grad():
        for places in lengths.values():
            for start in range(0, len(places), BATCH):
                some = places[start : start + BATCH]
                ids = torch.tensor([rows[n] for n in some])
                found.update(zip(some, head.head_inputs(model, ids, 1)[:, 0].double(), strict=True))
    inputs = torch.stack([found[n] for n in range(len(rows))])
    linear = read_head(model, tokenizer, inputs.shape[1])
    return Read(
        inputs,
        torch.tensor([one.prompt.kind == "harmful" for one in prompts]),
        [one.prompt.group or str(row) for one, row in zip(prompts, rows, strict=True)],
        _log_odds(inputs, linear, *_first_tokens(tokenizer)),
        linear,
    )


def _first_tokens(tokenizer: PreTrainedTokenizerBase) -> list[list[int]]:
    """First tokens of refusing and of complying phrases, without those of both."""
    one, other = (
        {ids[0] for ids in phrase_ids(tokenizer, kind)}
        for kind in (ENGLISH.refusing, ENGLISH.complying)
    )
    return [sorted(one - other), sorted(other - one)]


def _log_odds(inputs: Tensor, linear: HeadMap, *kinds: list[int]) -> Tensor:
    one, other = (torch.searchsorted(linear.tokens, torch.tensor(kind)) for kind in kinds)
    logits = [
        inputs @ linear.matrix[:, at].double() + linear.offset[at].double() for at in (one, other)
    ]
    return logits[0].logsumexp(1) - logits[1].logsumexp(1)


def measure(data: Path, path: Callable[[int], str]) -> dict[str, Any]:
    """The areas of every training seed's model."""
    prompts = asked(data)
    seeds = []
    for seed in SEEDS:
        seeds.append({"seed": seed, "fits": areas(read(path(seed), prompts), prompts, seed)})
    counts: dict[str, dict[str, int]] = {}
    for one in prompts:
        kind = "harmful" if one.prompt.kind == "harmful" else "harmless"
        counts.setdefault(one.suite, {"harmful": 0, "harmless": 0})[kind] += 1
    return {"prompts": counts, "seeds": seeds}


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="the folder with the public data")
    parser.add_argument("--models", type=Path, required=True, help="the study's models")
    options = parser.parse_args()
    found = measure(options.data, lambda n: str(options.models / f"sft-seed{n}/safety/step20"))
    about = {
        "command": "python -m experiments.smollm2.label_sets --data DATA --models models",
        "versions": {"python": platform.python_version(), "torch": torch.__version__},
    }
    write_json(FILE, about | found)


if __name__ == "__main__":
    main()
