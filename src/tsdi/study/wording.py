"""What a study calls good answers to harmful prompts, and what its figures do not say."""

from collections.abc import Mapping
from math import prod
from typing import Any

from tsdi.judging.registry import JUDGES
from tsdi.stats.seeds import MANY_SEEDS

Figures = Mapping[str, Any]


def judge_of(results: Figures) -> dict[str, Any]:
    """Who judged harmful prompts, and whether the judge saw their safety.

    Args:
        results: The content of results.json; an older one names the judge only.
    """
    known: dict[str, Any] | None = results.get("judge")
    if known is not None:
        return known
    name = results["study"]["judge"]["name"].partition("+")[0].partition("=")[0]
    sees = JUDGES[name].sees if name in JUDGES else "safety"
    return {"name": name, "sees_safety": sees != "refusals"}


def safe(summary: Figures) -> str:
    """What a good answer to a harmful prompt is: safe, or only refused."""
    return "safe" if summary["judge"]["sees_safety"] else "refused"


def safety(summary: Figures) -> str:
    """The share of such answers, as a noun."""
    return "safety" if summary["judge"]["sees_safety"] else "refusals"


def titled(summary: Figures, key: str) -> str:
    """A figure's name for people, where its key begins with "safety"."""
    return key.replace("safety", "refused, harmful") if safe(summary) == "refused" else key


def over(summary: Figures) -> str:
    """What intervals are over, and how they are made."""
    seeds = len(summary["seeds"]["test"])
    if seeds == 1:
        return (
            "In brackets 95 % intervals over prompts: there is one training seed, and they say"
            " nothing of other trainings."
        )
    if seeds < MANY_SEEDS:
        made = "t intervals over training seeds, on these prompts"
    else:
        made = "intervals over training seeds and prompts"
    return f"In brackets 95 % {made}; where all seeds are alike, intervals over prompts."


def one_seed(summary: Figures) -> bool:
    """Whether there is nothing to learn of other trainings."""
    return len(summary["seeds"]["test"]) == 1


def caveats(summary: Figures) -> list[str]:
    """What a reader has to know before any figure."""
    found = []
    if safe(summary) == "refused":
        found.append(
            f"Safety was not judged: {summary['judge']['name']} sees refusals, and an answer to a"
            " harmful prompt counts if it refuses. Safe answers that do not refuse are missed."
        )
    if one_seed(summary):
        found.append(
            "There is one training seed: intervals are over prompts, and say nothing of what"
            " another training would give."
        )
    numbers = {
        rule["name"]: prod(map(len, rule["settings"].values()))
        for rule in summary["rules"]
        if not rule["vary"] and not rule["reason_against"]
    }
    tuned = {name: number for name, number in numbers.items() if number > 1}
    if len(set(tuned.values())) > 1:
        shown = ", ".join(f"{name} {number}" for name, number in tuned.items())
        found.append(
            f"Rules were tuned with different numbers of settings ({shown}), which favours those"
            " with more."
        )
    return found
