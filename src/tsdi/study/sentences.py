"""What a study found, in sentences with their numbers."""

from collections.abc import Mapping
from typing import Any

from tsdi.categories import SALAD_TASKS
from tsdi.study import wording
from tsdi.study.tables import UNNAMED, change, level

Figures = Mapping[str, Any]
_FEW = 3  # categories that are named one by one
_NULLS = {
    "random-shift": "a random shift of the bias' size",
    "static": "the bias' mean over steps",
    "openers": "one constant on the aligned model's refusing openers, tuned on labelled prompts",
    "reference-openers": "such a constant on the reference",
    "tsdi-tuned": "TSDI with a tuned strength",
    "merge": "merging weights",
    "dera": "mixing both models' logits (DeRa)",
}


def front_k(summary: Figures, help_: str) -> str:
    """The number of points that is spoken of: 3 where there is it, else the first."""
    return "3" if "3" in summary["fronts"][help_] else next(iter(summary["fronts"][help_]))


def verdict(difference: Figures) -> str:
    """What a difference with its interval shows."""
    if difference["low"] is not None and difference["low"] > 0:
        return "better"
    if difference["high"] is not None and difference["high"] < 0:
        return "worse"
    return "no difference shown"


def answer(summary: Figures) -> str:
    """Is TSDI better than the front of beta and iterations alone?"""
    parts, safety = [], wording.safety(summary)
    for help_ in summary["helps"]:
        for k, fronts in summary["fronts"][help_].items():
            if "plain" not in fronts:
                continue
            found = fronts["plain"]["ours_minus"]
            n = f"{k} point{'s' if k != '1' else ''}"
            parts.append(f"with {n}, {safety} and {help_}: {change(found)}, {verdict(found)}")
    return "TSDI's hypervolume minus that of the plain models: " + "; ".join(parts) + "."


def sentences(summary: Figures) -> list[str]:
    """The study in short."""
    help_ = summary["helps"][0]
    k = front_k(summary, help_)
    fronts = summary["fronts"][help_][k]
    found, safety = [], wording.safety(summary)
    if "plain" in fronts:
        found.append(
            f"With {k} points each, TSDI's front of {safety} and helpfulness covers"
            f" {level(fronts['tsdi']['volume'])}, that of beta and iterations alone"
            f" {level(fronts['plain']['volume'])}; difference"
            f" {change(fronts['plain']['ours_minus'])}: {verdict(fronts['plain']['ours_minus'])}."
        )
    against = [
        f"{title} {change(fronts[name]['ours_minus'])} ({verdict(fronts[name]['ours_minus'])})"
        for name, title in _NULLS.items()
        if name in fronts
    ]
    if against:
        found.append(f"TSDI minus {'; minus '.join(against)}.")
    tuned = [
        f"{title} {change(fronts[name]['tuned_minus'])} ({verdict(fronts[name]['tuned_minus'])})"
        for name, title in {"plain": "the plain grid", **_NULLS}.items()
        if name in fronts and fronts[name]["tuned_minus"] and name != "tsdi-tuned"
    ]
    if tuned:
        found.append(f"With its strength tuned as theirs are, TSDI minus {'; minus '.join(tuned)}.")
    main = summary["methods"]["tsdi"]
    key = "complied, lookalike"
    lookalike = (
        f"compliance with lookalikes by {change(main[key]['change'])}, " if key in main else ""
    )
    found.append(
        f"At {summary['main']} it changes {lookalike}helpful answers by"
        f" {change(main['helpful']['change'])} and {safety} by {change(main['safety']['change'])}."
    )
    speed = summary["speed"]
    if "tsdi" in speed:
        slow = f", mixing two models at {level(speed['dera']['ratio'])}" if "dera" in speed else ""
        found.append(
            f"It decodes at {level(speed['tsdi']['ratio'])} of the plain model's speed{slow}."
        )
    return found


def alerts(summary: Figures) -> list[str]:
    """Where TSDI costs safety: a sentence for plain prompts and each attack."""
    gate = summary["gate"].get("tsdi", {"rows": [], "lost": []})
    rows = gate["rows"]
    what = wording.safety(summary)
    found = []
    for attack in dict.fromkeys(row["attack"] for row in rows):
        under = [row for row in rows if row["attack"] == attack]
        lost = [row for row in under if [attack, row["category"]] in gate["lost"]]
        if not lost:
            continue
        categories = [row for row in lost if row["category"] != "all"]
        of = sum(row["category"] != "all" for row in under)
        where = f" Lost in {len(categories)} of {of} categories" if categories else ""
        if categories and len(categories) <= _FEW:
            named = "; ".join(f"{_title(row)} {_moved(row)}" for row in categories)
            where = f"{where}: {named}"
        every = next(row for row in under if row["category"] == "all")
        found.append(
            f"Debiasing costs {what}{f' under the attack {attack}' if attack else ''}:"
            f" {_moved(every)} over all harmful prompts.{where}{'.' if where else ''}"
        )
    return found


def _moved(row: Figures) -> str:
    before, after = (row[key]["value"] for key in ("before", "after"))
    return f"{before:.3f} -> {after:.3f}, {change(row['change'])}"


def _title(row: Figures) -> str:
    return f"{row['category'] or UNNAMED} {SALAD_TASKS.get(row['category'], '')}".strip()


def ablation_sentence(summary: Figures, one: Figures) -> str:
    """What a parameter does."""
    values = one["values"]
    first, last = values[0], values[-1]
    shown = [
        f"{wording.titled(summary, key)} between {min(known):.3f} and {max(known):.3f}"
        for key in ("safety", "helpful")
        if (
            known := [
                v[key]["value"]["value"] for v in values if v[key]["value"]["value"] is not None
            ]
        )
    ]
    apart = [
        f"{wording.titled(summary, key)} {level(first[key]['value'])} at {first['value']},"
        f" {level(last[key]['value'])} at {last['value']}"
        for key in ("helpful", "safety")
        if _apart(first[key]["value"], last[key]["value"])
    ]
    tail = (
        f" Apart beyond their intervals: {'; '.join(apart)}."
        if apart
        else (" First and last value are not apart beyond their intervals.")
    )
    return f"Over {len(values)} values of {one['parameter']}: {', '.join(shown)}.{tail}"


def _apart(one: Figures, other: Figures) -> bool:
    ends = (one["low"], one["high"], other["low"], other["high"])
    if any(end is None for end in ends):
        return False
    return bool(one["high"] < other["low"] or other["high"] < one["low"])
