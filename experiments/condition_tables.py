"""The tables of docs/condition.md: what a condition does, and what it knows of other suites."""

import json
import re
from typing import Any

from experiments import DOCS, HERE, MEASURED
from experiments.marks import table, with_parts
from tsdi.stats.interval import Estimate, compact_share, compact_text
from tsdi.stats.seeds import mean_interval
from tsdi.study.front_tables import each_point_title
from tsdi.study.fronts import within
from tsdi.study.results import read_results
from tsdi.study.summarise import summarise
from tsdi.study.summary import Summary
from tsdi.study.tables import tables

PAGE = DOCS / "condition.md"
ANSWERS = MEASURED / "condition.json"
TRANSFER = HERE / "smollm2" / "transfer.json"
LABEL_SETS = HERE / "smollm2" / "label_sets.json"
SIBLINGS = tuple(HERE / name / "siblings.json" for name in ("organism-condition", "smollm2"))
USED = {
    ("the model", "itself"): ("main", "main"),
    ("the model before its safety step", "the model"): ("reference", "main"),
    ("the model after fewer steps", "the model"): ("earlier", "main"),
    ("the model", "that after fewer steps"): ("main", "earlier"),
    ("the model", "that before its safety step"): ("main", "reference"),
    ("the model", "that of another training seed"): ("main", "another seed"),
}
"""Models of a training seed: those that conditions are fitted to, and used on."""
EARLIER = {"step200": "step60", "step20": "step10"}
"""By the main model, the one after fewer steps."""
STUDY = HERE / "organism-condition" / "results.json"
CAUTIOUS = HERE / "smollm2-threshold" / "results.json"
CAUTIOUS_RULES = {
    "plain": "no debiasing",
    "tsdi-tuned": "TSDI, tuned",
    "openers": "one tuned number on refusing words",
    "conditioned": "TSDI with a condition, -.5 to 1, threshold 0",
    "cautious": "TSDI with a condition, -1 to 2, threshold -1.5",
    "conditioned-openers": "one number, with a condition, -.5 to 1, threshold 0",
    "cautious-openers": "one number, with a condition, -1 to 2, threshold -1.5",
    "cautious-shuffled": "shuffled labels (control), -1 to 2, threshold -1.5",
    "cautious-log-odds": "condition, log-odds alone, -1 to 2, threshold -1.5",
}
RULES = {
    "conditioned": "TSDI with a condition",
    "plain": "no debiasing",
    "tsdi-tuned": "TSDI, one tuned strength",
    "openers": "one tuned number on refusing words",
    "merge": "merged weights",
    "dera": "DeRa",
    "proxy": "proxy-tuning",
    "first-order": "TSDI of first order",
    "conditioned-first-order": "... with a condition",
    "conditioned-shuffled": "TSDI, condition of shuffled labels",
    "conditioned-log-odds": "TSDI, condition of log-odds alone",
    "conditioned-top-20": "TSDI, condition of the 20 likeliest tokens",
    "conditioned-openers": "one number, with a condition",
    "reference-refuser": "reference that a condition makes refuse",
    "merge-refuser": "merge that a condition makes refuse",
}
"""Rules of the study that the page shows."""
MAIN = "Methods at the main grid point"
FRONTS = "Fronts of 1 point: safety and helpful"
WEAKEST = "Weakest category of every method"
GATE = "Safety gate of every method"
"""Titles of a study's tables."""
ARMS = {
    "0": "0: the model as it is",
    "1": "1 for all",
    "2": "2 for all",
    "0 to 1": "by prompt, `--low 0 --high 1`",
    "-1 to 2": "by prompt, `--low -1 --high 2`",
    "-1 to 2, without O3": "the same, fitted without labels of O3",
}


def with_tables(text: str) -> str:
    """The page with its tables made anew."""
    parts = {
        "answers": answers(),
        "fronts": fronts(),
        "cautious": cautious(),
        "transfer": transfer(),
        "labels": label_sets(),
        "siblings": siblings(),
    }
    return with_parts(text, parts)


def fronts() -> str:
    """How far conditioned TSDI is ahead of every rule, and each rule's safety where it is least."""
    summary = summarise(read_results(STUDY))
    columns = columns_of(
        summary,
        (FRONTS, "conditioned TSDI minus it"),
        (each_point_title(summary), "conditioned TSDI minus it"),
        (WEAKEST, "plain prompts"),
        (GATE, "safety, organism-role-play"),
    )
    rows = [["conditioned TSDI minus ...", "best model", "any model", "weakest category of that",
             "under role-play, safety of that"]]  # fmt: skip
    for rule, title in RULES.items():
        best, every, weakest, attacked = (column.get(rule, "") for column in columns)
        own = rule == "conditioned"
        rows.append([title, "" if own else best, "" if own else every, code(weakest), attacked])
    return table(rows)


def cautious() -> str:
    """Shares on SmolLM2 with a lower threshold: of the best settings, and where refusals stay."""
    stay = "Most helpful answers where refusals stay"
    columns = columns_of(
        summarise(read_results(CAUTIOUS)),
        *((title, column) for title in (MAIN, stay) for column in ("refused, harmful", "helpful")),
    )
    rows = [["rule", *(f"{what}{where}" for where in (": best", ": refusals stay")
                       for what in ("refused, harmful", "complied, harmless"))]]  # fmt: skip
    rows += [
        [title, *(column[rule] for column in columns)] for rule, title in CAUTIOUS_RULES.items()
    ]
    return table(rows)


def columns_of(summary: Summary, *names: tuple[str, str]) -> list[dict[str, str]]:
    """Columns of a study's tables, by the name of their rules."""
    made = tables(summary)
    return [
        {row[0]: row[made[title].header.index(column)] for row in made[title].rows}
        for title, column in names
    ]


def code(weakest: str) -> str:
    """A category's code and its share, without its name."""
    return re.sub(r"^(\w+) \D*", r"\1 ", weakest)


def answers() -> str:
    """Shares of answers by strength, on the shipped organisms."""
    found = json.loads(ANSWERS.read_bytes())["raw"]["arms"]
    rows = [["strength", "lookalikes answered", "right answers", "safe", "safe, O3"]]
    for name, title in ARMS.items():
        arm = found[name]
        shares = [arm["lookalike_compliance"], arm["correct"], arm["safety"]]
        shares.append(arm["safety_by_category"]["O3"])
        rows.append([title, *(compact_text(Estimate.from_dict(share)) for share in shares)])
    return table(rows)


def transfer() -> str:
    """Areas under the ROC curve, by what a condition was fitted to and what it was tested on."""
    found = json.loads(TRANSFER.read_bytes())
    names = list(found["prompts"])
    counts = [f"{one['harmful']} + {one['harmless']}" for one in found["prompts"].values()]
    rows = [
        ["fitted to", *names],
        ["*prompts, harmful + harmless*", *counts],
        *([fit, *_areas(row, names)] for fit, row in found["fitted_to"].items()),
        ["the three others", *_areas(found["fitted_to_the_others"], names)],
        ["*nothing: refusal log-odds*", *_areas(found["log_odds"], names)],
    ]
    xstest = found["xstest"]
    curve = ", ".join(f"{n} {compact_share(one['value'])}" for n, one in xstest["labels"].items())
    left = {n: compact_text(Estimate.from_dict(one)) for n, one in xstest["left_out"].items()}
    worst = min(xstest["left_out"], key=lambda name: float(xstest["left_out"][name]["value"]))
    return (
        f"{table(rows)}\nXSTest by labels of each kind: {curve}; with shuffled labels"
        f" {compact_text(Estimate.from_dict(xstest['shuffled']))}.\n"
        f"Worst of its types where that was left out: `{worst}`, {left[worst]}.\n"
    )


def label_sets() -> str:
    """Areas under the ROC curve on new suites, by where the labels come from."""
    seeds = [seed["fits"] for seed in json.loads(LABEL_SETS.read_bytes())["seeds"]]
    names = list(next(iter(seeds[0].values()))["areas"])
    rows = [["labels of", "harmful + harmless", *names]]
    for fit, one in seeds[0].items():
        counts = f"{one['harmful']} + {one['harmless']}" if "harmful" in one else ""
        areas = (_mean([seed[fit]["areas"][name] for seed in seeds]) for name in names)
        rows.append([fit if counts else f"*{fit}*", counts, *areas])
    return table(rows)


def siblings() -> str:
    """Areas under the ROC curve, by the model that a condition is fitted to, and used on."""
    small, real = (json.loads(file.read_bytes()) for file in SIBLINGS)
    columns = [_areas_of_seeds(found) for found in (small, real)]
    rows = [["fitted to", "used on", "small models", "least of eight", "SmolLM2"]]
    for titles in columns[0]:
        of_small, of_real = (column[titles] for column in columns)
        rows.append([*titles, _mean(of_small), compact_share(min(of_small)), _mean(of_real)])
    return (
        f"{table(rows)}\nPrompts of the fit held out, by labels of each kind: small models"
        f" {_curve(small)};\nSmolLM2 {_curve(real)}.\n"
    )


def _curve(found: dict[str, Any]) -> str:
    """Areas by number of labels, the mean over seeds."""
    seeds = [seed["labels"] for seed in found["seeds"]]
    return ", ".join(
        f"{n} {compact_share(sum(one[n] for one in seeds) / len(seeds))}" for n in seeds[0]
    )


def _areas_of_seeds(found: dict[str, Any]) -> dict[tuple[str, str], list[float]]:
    """The areas of all seeds, by the titles of `USED`; the log-odds' own last."""
    main, seeds = found["main"], found["seeds"]
    names = {"main": main, "earlier": EARLIER[main]}
    areas = {
        titles: [seed["areas"][names.get(fit, fit)][names.get(on, on)] for seed in seeds]
        for titles, (fit, on) in USED.items()
    }
    areas["*nothing: refusal log-odds*", "the model"] = [one["log_odds"][main] for one in seeds]
    return areas


def _mean(values: list[float]) -> str:
    return compact_text(within(0.0, mean_interval(values)))


def _areas(row: dict[str, dict[str, Any]], names: list[str]) -> list[str]:
    return [compact_text(Estimate.from_dict(row[name])) for name in names]
