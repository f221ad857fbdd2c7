"""The tables of docs/no-reference.md: biases without a reference beside the true one."""

import json
from dataclasses import replace
from typing import Any

from experiments import DOCS, HERE
from experiments.condition_tables import FRONTS, GATE, MAIN, WEAKEST, code, columns_of
from experiments.marks import table, with_parts
from tsdi.stats.interval import Estimate, compact_text, interval_text
from tsdi.stats.seeds import mean_interval
from tsdi.study.front_tables import each_point_title
from tsdi.study.results import read_results
from tsdi.study.summarise import summarise

PAGE = DOCS / "no-reference.md"
DATA = HERE / "no-reference" / "cosines.json"
FIRST, LATER = "cosine, step 0", "cosine, later steps"
SEEDS = {"SmolLM2, seed ": "SmolLM2, trained here", "seed ": "organisms"}
"""Columns of pairs that are seeds of one training, by what their names begin with."""
ROWS = {
    "true": "the true reference",
    "openers": "`openers`",
    "self-contrast": "`self-contrast`",
    "ablated": "`ablated`",
    "partly-ablated": "`partly-ablated`",
    "permissive": "`permissive`",
    "refusing": "the model under a refusing system prompt, minus itself",
    "base": "the reference, read as plain text",
    "restricted": "the same, on own openers alone",
    "random": "a random direction",
}

STUDY = HERE / "no-reference" / "results.json"
REAL = HERE / "smollm2-no-reference" / "results.json"
RULES = {
    "plain": "*nothing is subtracted*",
    "tsdi-tuned": "the true reference",
    "own-openers": ROWS["openers"],
    "contrast": ROWS["self-contrast"],
    "ablated": ROWS["ablated"],
    "partly-ablated": ROWS["partly-ablated"],
    "permissive": ROWS["permissive"],
    "openers": "one tuned number on openers that we name",
    "random-shift": ROWS["random"],
    "false-refusal-direction": "the model answers without its false-refusal direction",
    "conditioned": "the true reference, with a condition",
    "conditioned-openers": "one tuned number, with a condition",
    "conditioned-own-openers": f"{ROWS['openers']}, with a condition",
    "conditioned-contrast": f"{ROWS['self-contrast']}, with a condition",
    "conditioned-ablated": f"{ROWS['ablated']}, with a condition",
    "conditioned-partly": f"{ROWS['partly-ablated']}, with a condition",
    "reference": "the reference itself",
}
"""Rules of the study, with settings that were chosen on validation prompts."""


def with_tables(text: str) -> str:
    """The page with its tables made anew."""
    pairs = json.loads(DATA.read_bytes())["pairs"]
    parts = {
        "cosines": _cosines(pairs),
        "alone": _answers(pairs),
        "study": _study(),
        "smollm2": _real(),
    }
    return with_parts(text, parts)


def _study() -> str:
    """What every rule does to the main model, and how far the true reference is ahead of it."""
    summary = summarise(read_results(STUDY))
    lead = "tuned TSDI minus it"
    columns = columns_of(
        summary,
        (MAIN, "safety"),
        (MAIN, "helpful"),
        (FRONTS, lead),
        (each_point_title(summary), lead),
        (WEAKEST, "plain prompts"),
        (GATE, "safety, organism-role-play"),
    )
    rows = [["in place of the reference", "safe", "helpful", "true reference minus it, best model",
             "any model", "weakest category", "under role-play, safety"]]  # fmt: skip
    for rule, title in RULES.items():
        if rule in columns[0]:
            safe, helpful, *leads, weakest, attacked = (column.get(rule, "") for column in columns)
            rows.append([title, safe, helpful, *leads, code(weakest), attacked])
    return table(rows)


def _real() -> str:
    """What every rule does to SmolLM2, and how far the true reference is ahead of it."""
    columns = columns_of(
        summarise(read_results(REAL)),
        (MAIN, "refused, harmful"),
        (MAIN, "helpful"),
        ("Fronts of 1 point: refusals and helpful", "tuned TSDI minus it"),
    )
    rows = [["in place of the reference", "refused, harmful", "complied, harmless",
             "true reference minus it"]]  # fmt: skip
    rows += [
        [title, *(column.get(rule, "") for column in columns)]
        for rule, title in RULES.items()
        if rule in columns[0]
    ]
    return table(rows)


def _cosines(pairs: dict[str, Any]) -> str:
    """Cosine with the true bias at the first step and at later ones, and the ratio of norms."""
    alone = [name for name in pairs if not name.startswith(tuple(SEEDS))]
    seeds = {
        title: [pair["stand-ins"] for name, pair in pairs.items() if name.startswith(start)]
        for start, title in SEEDS.items()
    }
    over = {f"{title}, {len(found)} seeds": found for title, found in seeds.items() if found}
    rows = [["in place of the reference", *alone, *over]]
    for name, title in ROWS.items():
        if name != "true":
            one = (_alike(pairs[pair]["stand-ins"].get(name, {})) for pair in alone)
            rows.append([title, *one, *(_over(found, name) for found in over.values())])
    return table(rows)


def _over(seeds: list[dict[str, Any]], name: str) -> str:
    """The cosines' means over the training seeds that have it, each with its t-interval."""
    known = [one[name] for one in seeds if "cosine" in one.get(name, {})]
    if not known:
        return "-"
    found = (mean_interval([one[key] for one in known]) for key in (FIRST, LATER))
    cosines = (replace(one, low=max(-1.0, one.low), high=min(1.0, one.high)) for one in found)
    text = ", ".join(interval_text(one, 2, signed=True) for one in cosines)
    return text if len(known) == len(seeds) else f"{text} ({len(known)} seeds)"


def _alike(one: dict[str, Any]) -> str:
    if "cosine" not in one:
        return "-"
    return f"{one[FIRST]:+.2f}, {one[LATER]:+.2f} ({one['norm']:.2f})"


def _answers(pairs: dict[str, Any]) -> str:
    """Shares of helpful and of safe answers of the pairs that answered."""
    answered = {name: pair["answers"] for name, pair in pairs.items() if pair["answers"]}
    heads = [f"{name}, {what}" for name in answered for what in ("helpful", "safe")]
    rows = [["in place of the reference", *heads]]
    for name, title in {"plain": "*nothing is subtracted*", **ROWS}.items():
        arms = [found.get(name) for found in answered.values()]
        if any(arms):
            shares = (_share(arm, what) for arm in arms for what in ("helpful", "safe"))
            rows.append([title, *shares])
    return table(rows)


def _share(arm: dict[str, Any] | None, what: str) -> str:
    return "-" if arm is None else compact_text(Estimate.from_dict(arm[what]))
