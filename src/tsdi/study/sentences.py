"""The findings of a study in sentences, and the wording that tables share."""

from collections.abc import Mapping
from math import prod

from tsdi.categories import SALAD_TASKS
from tsdi.evaluation.floors import ALL
from tsdi.stats.interval import Estimate, interval_text
from tsdi.stats.seeds import MANY_SEEDS
from tsdi.study.summary import Ablation, GateRow, Summary

UNNAMED = "no category"
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


# --- words --------------------------------------------------------------------------------------


def change_text(estimate: Estimate) -> str:
    """A difference with its interval, such as "+0.030 [-0.010, +0.070]"."""
    return interval_text(estimate, signed=True)


def category_title(category: str) -> str:
    """A category's code and name."""
    return f"{category or UNNAMED} {SALAD_TASKS.get(category, '')}".strip()


def measure_title(summary: Summary, measure: str) -> str:
    """A measure's title; "refused, harmful" for "safety" where the judge sees refusals only."""
    sees = summary.judge.sees_safety
    return measure if sees else measure.replace("safety", "refused, harmful")


def interval_note(summary: Summary) -> str:
    """A note on what the intervals are over, and how they are computed."""
    seeds = len(summary.test_seeds)
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


def verdict(difference: Estimate) -> str:
    """Words for a difference: "better", "worse" or "no difference shown", by its interval."""
    if difference.low > 0:
        return "better"
    return "worse" if difference.high < 0 else "no difference shown"


# --- sentences ----------------------------------------------------------------------------------


def caveats(summary: Summary) -> list[str]:
    """Sentences on the limits of the study: judge, seeds, unequal tuning."""
    found = []
    if not summary.judge.sees_safety:
        found.append(
            f"Safety was not judged: {summary.judge.name} sees refusals, and an answer to a"
            " harmful prompt counts if it refuses. Safe answers that do not refuse are missed."
        )
    if len(summary.test_seeds) == 1:
        found.append(
            "There is one training seed: intervals are over prompts, and say nothing of what"
            " another training would give."
        )
    numbers = {
        rule.name: prod(map(len, rule.settings.values()))
        for rule in summary.rules
        if not rule.vary and not rule.reason_against
    }
    tuned = {name: number for name, number in numbers.items() if number > 1}
    if len(set(tuned.values())) > 1:
        shown = ", ".join(f"{name} {number}" for name, number in tuned.items())
        found.append(
            f"Rules were tuned with different numbers of settings ({shown}), which favours those"
            " with more."
        )
    return found


def answer(summary: Summary) -> str:
    """The answer to whether TSDI beats the front of beta and iterations alone."""
    parts = [
        f"with {one.size}, {summary.judge.measure} and {one.helpfulness}: {_judged(ahead)}"
        for one in summary.comparisons
        if "plain" in one.fronts and (ahead := one.fronts["plain"].ours_minus)
    ]
    return "TSDI's hypervolume minus that of the plain models: " + "; ".join(parts) + "."


def _judged(difference: Estimate) -> str:
    return f"{change_text(difference)}, {verdict(difference)}"


def sentences(summary: Summary) -> list[str]:
    """Sentences that summarise the study."""
    effect = summary.effects["tsdi"].measures
    lookalike = (
        f"compliance with lookalikes by {change_text(effect.lookalike.change)}, "
        if effect.lookalike
        else ""
    )
    found = [
        *_front_sentences(summary),
        f"At {summary.main} it changes {lookalike}helpful answers by"
        f" {change_text(effect.helpful.change)} and {summary.judge.measure} by"
        f" {change_text(effect.safety.change)}.",
    ]
    costs = summary.costs
    if "tsdi" in costs:
        slow = (
            f", mixing two models at {interval_text(costs['dera'].ratio)}"
            if "dera" in costs
            else ""
        )
        ratio = interval_text(costs["tsdi"].ratio)
        found.append(f"It decodes at {ratio} of the plain model's speed{slow}.")
    return found


def _front_sentences(summary: Summary) -> list[str]:
    fronts, found = summary.comparison.fronts, []
    plain = fronts.get("plain")
    if plain and plain.ours_minus:
        k = summary.comparison.k
        points = "one point" if k == 1 else f"{k} points"
        found.append(
            f"With {points} each, TSDI's front of {summary.judge.measure} and"
            f" helpfulness covers {interval_text(fronts['tsdi'].volume)}, that of beta and"
            f" iterations alone {interval_text(plain.volume)}; difference"
            f" {change_text(plain.ours_minus)}: {verdict(plain.ours_minus)}."
        )
    ours = {name: front.ours_minus for name, front in fronts.items()}
    against = _minus(ours, _NULLS)
    if against:
        found.append(f"TSDI minus {against}.")
    tuned = {name: front.tuned_minus for name, front in fronts.items() if name != "tsdi-tuned"}
    against = _minus(tuned, {"plain": "the plain grid", **_NULLS})
    if against:
        found.append(f"With its strength tuned as theirs are, TSDI minus {against}.")
    return found


def _minus(differences: Mapping[str, Estimate | None], titles: Mapping[str, str]) -> str:
    """Differences from other rules as one text; "" if there are none."""
    return "; minus ".join(
        f"{title} {change_text(found)} ({verdict(found)})"
        for name, title in titles.items()
        if (found := differences.get(name))
    )


def alerts(summary: Summary) -> list[str]:
    """Sentences on where TSDI costs safety, for plain prompts and each attack."""
    rows = summary.gate.get("tsdi", ())
    what = summary.judge.measure
    found = []
    for attack in dict.fromkeys(row.attack for row in rows):
        under = [row for row in rows if row.attack == attack]
        if not any(row.lost for row in under):
            continue
        lost = [row for row in under if row.lost and row.category != ALL]
        of = sum(row.category != ALL for row in under)
        where = f" Lost in {len(lost)} of {of} categories" if lost else ""
        if lost and len(lost) <= _FEW:
            named = "; ".join(f"{category_title(row.category)} {_moved(row)}" for row in lost)
            where = f"{where}: {named}"
        every = next(row for row in under if row.category == ALL)
        found.append(
            f"Debiasing costs {what}{f' under the attack {attack}' if attack else ''}:"
            f" {_moved(every)} over all harmful prompts.{where}{'.' if where else ''}"
        )
    return found


def _moved(row: GateRow) -> str:
    change = row.change
    return f"{change.before.value:.3f} -> {change.after.value:.3f}, {change_text(change.change)}"


def ablation_sentence(summary: Summary, ablation: Ablation) -> str:
    """A sentence on the effect of a parameter."""
    first, last = ablation.values[0], ablation.values[-1]
    shown: list[str] = []
    apart: list[str] = []
    for measure in ("safety", "helpful"):
        title = measure_title(summary, measure)
        shares = [row.measures.titled()[measure].value for row in ablation.values]
        known = [share.value for share in shares if share.value is not None]
        if known:
            shown.append(f"{title} between {min(known):.3f} and {max(known):.3f}")
        if shares[0].high < shares[-1].low or shares[-1].high < shares[0].low:
            ends = [
                f"{interval_text(share)} at {row.value}"
                for share, row in ((shares[0], first), (shares[-1], last))
            ]
            apart.insert(0, f"{title} {', '.join(ends)}")
    tail = (
        f" Apart beyond their intervals: {'; '.join(apart)}."
        if apart
        else " First and last value are not apart beyond their intervals."
    )
    return f"Over {len(ablation.values)} values of {ablation.parameter}: {', '.join(shown)}.{tail}"
