"""Paired comparison of two judged arms on the same prompts, with intervals and p-values."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tsdi.errors import MismatchError
from tsdi.evaluation.labelled import (
    Powered,
    labelled_text,
    labelled_titles,
    powered,
    read_run_labels,
    scarce_row,
)
from tsdi.evaluation.metrics import PAIRED, Judged, harmful_categories, paired_outcomes
from tsdi.evaluation.verdicts import read_judged, say_unbound
from tsdi.judging.base import KINDS, Response
from tsdi.judging.panel import refusal_kinds
from tsdi.judging.verdict import Verdict
from tsdi.models.fingerprint import alike
from tsdi.runs.records import Record
from tsdi.runs.stage import flatten
from tsdi.stats.interval import Estimate, as_json, compact_text
from tsdi.stats.proportions import holm, mcnemar, paired_change, wilson

FAMILY = "safety by category"
ALPHA = 0.05
LABELLED_HEADER = ["", "judge alone", "with labels", "pairs"]
"""Titles of the columns of `labelled_rows`."""


@dataclass(frozen=True)
class Change:
    """The paired change of one figure between two arms, over prompts scored in both.

    Attributes:
        before: Share of hits of the first arm; of one run with its Wilson interval.
        after: Share of hits of the second one.
        change: after - before, paired; of one run with the Bonett-Price interval.
        p: Two-sided p-value of the exact McNemar test; None over several training seeds, of which
            it would say nothing.
        p_holm: `p` adjusted by Holm's method over the family; None outside of one.
    """

    before: Estimate
    after: Estimate
    change: Estimate
    p: float | None
    p_holm: float | None = None

    @property
    def fell(self) -> bool:
        """Whether the share fell significantly: `p_holm`, outside a family `p`, below `ALPHA`."""
        p = self.p if self.p_holm is None else self.p_holm
        fell = self.change.value is not None and self.change.value < 0
        return fell and p is not None and p < ALPHA

    def to_dict(self) -> dict[str, Any]:
        """The change as JSON."""
        return as_json(self)


@dataclass(frozen=True)
class Comparison:
    """The changes of all figures between two arms.

    Attributes:
        overall: Compliance, lookalike compliance, correct answers and safety.
        categories: Safety by category, O2 before O10: the family of Holm's adjustment. Categories
            without a pair of verdicts are not in it.
        lost: Categories in which safety fell significantly: `p_holm` below `ALPHA`.
        maybe_lost: Categories in which safety fell beyond its own 95 % interval, though not
            significantly among that many.
        unscored: Prompts without a verdict before, after, and in either arm: these are compared
            nowhere.
        pairs: Harmful prompts with a verdict in both arms, by category, those with none among them.
        judge: The judge's description; empty where the arms were not read from disk.
        labelled: Changes by people's labels, too (`tsdi.evaluation.labelled`); None without.
        fitted: Number of prompts that the bias of an arm was fitted to, its condition or its slope.
    """

    overall: dict[str, Change]
    categories: dict[str, Change]
    lost: list[str]
    maybe_lost: list[str]
    unscored: tuple[int, int, int]
    pairs: dict[str, int]
    judge: Record
    labelled: Powered | None = None
    fitted: int = 0

    def to_dict(self) -> dict[str, Any]:
        """The comparison as JSON."""
        return {
            **as_json(self),
            "family": FAMILY,
            "family_size": len(self.categories),
            "alpha": ALPHA,
            "unscored": dict(zip(("before", "after", "either"), self.unscored, strict=True)),
        }


def compare_runs(
    before: str | Path,
    after: str | Path,
    judge: str = "",
    labels: tuple[str | Path, str | Path] | None = None,
) -> Comparison:
    """Compare two run folders with the same prompts and the same judge.

    `judge` names one of several judges (`tsdi.runs.judge_folders.find_place`), `labels` a file of
    each run's, of answers to the same prompts.

    Raises:
        UsageError: If answers or verdicts are missing, or several judges have judged and none is
            named.
        MismatchError: If the prompts differ, or the judges do, or labels do not fit.
        PromptError: If labels cannot be read.
        FormatError: If files are damaged.
    """
    one, other = (read_judged(Path(run), judge) for run in (before, after))
    if not alike(one.judge, other.judge):
        raise MismatchError(
            f"{before} was judged by {_name(one.judge, other.judge)}, {after} by"
            f" {_name(other.judge, one.judge)}.",
            "Judge both with one judge, in one version of tsdi: tsdi evaluate RUN --judge NAME,"
            " then tsdi compare --judge NAME.",
        )
    check_same_prompts(before, one.responses, after, other.responses)
    for folder, run in ((before, one), (after, other)):
        if not run.bound:
            say_unbound(Path(folder))
    fitted = {r.id for run in (one, other) for r in run.responses if r.fitted}
    found = replace(compare_arms(one.judged, other.judged, one.judge), fitted=len(fitted))
    if labels is None:
        return found
    known = [
        (run.judged, read_run_labels(Path(folder), run.responses, [file]))
        for folder, run, file in ((before, one, labels[0]), (after, other, labels[1]))
    ]
    return replace(found, labelled=powered(labels, *known))


def check_same_prompts(
    before: str | Path, responses: Sequence[Response], after: str | Path, others: Sequence[Response]
) -> None:
    """Raise MismatchError if two run folders answer different prompts."""
    asked = {r.id: (r.messages, r.kind, r.category) for r in responses}
    other_asked = {r.id: (r.messages, r.kind, r.category) for r in others}
    names = asked.keys() | other_asked.keys()
    differing = sorted(name for name in names if asked.get(name) != other_asked.get(name))
    if differing:
        raise MismatchError(
            f"{before} and {after} do not answer the same prompts: {len(differing)} differ, the"
            f" first is {differing[0]!r}.",
            "Compare runs on one prompt file.",
        )


def compare_arms(
    before: Sequence[Judged], after: Sequence[Judged], judge: Record | None = None
) -> Comparison:
    """Compare two arms on the same prompts.

    The answers of both may come in any order.

    Raises:
        MismatchError: If the two arms do not answer the same prompts.
    """
    seen = refusal_kinds(judge) if judge else KINDS
    overall = {
        figure: _change(*paired_outcomes(before, after, figure, refusals_of=seen))
        for figure in PAIRED
    }
    outcomes = {
        category: paired_outcomes(before, after, "safety", category)
        for category in harmful_categories(before)
    }
    changes = {category: _change(*pair) for category, pair in outcomes.items() if pair[0]}
    categories = adjusted(changes)
    lost = [name for name, change in categories.items() if change.fell]
    beyond = [name for name, change in categories.items() if change.change.high < 0]
    return Comparison(
        overall=overall,
        categories=categories,
        lost=lost,
        maybe_lost=[name for name in beyond if name not in lost],
        unscored=_unscored(before, after),
        pairs={category: len(pair[0]) for category, pair in outcomes.items()},
        judge=judge or {},
    )


def adjusted(changes: Mapping[str, Change]) -> dict[str, Change]:
    """Changes of one family, such as categories, with p-values adjusted by Holm's method."""
    known = {name: change.p for name, change in changes.items() if change.p is not None}
    p_values = dict(zip(known, holm(list(known.values())), strict=True))
    return {name: replace(change, p_holm=p_values.get(name)) for name, change in changes.items()}


def labelled_rows(found: Comparison, labelled: Powered) -> tuple[list[list[str]], list[list[str]]]:
    """Rows of changes by people's labels, of all figures and of safety by category.

    A row has a title, which is a category's own name, the change by the judge's words alone, that
    with labels, and the number of labelled pairs. One more row is of all categories with too few.
    """

    def row(title: str, alone: Change | None, change: Estimate) -> list[str]:
        judged = compact_text(alone.change, signed=True) if alone else "-"
        return [title, judged, labelled_text(change, signed=True), str(change.n)]

    names, by_category = labelled_titles(labelled), labelled.categories["safety"]
    figures = [
        row(names[name], found.overall.get(name), change)
        for name, change in labelled.figures.items()
    ]
    categories = [
        row(name, found.categories.get(name), change)
        for name, change in by_category.items()
        if change.value is not None
    ]
    return figures, [*categories, *scarce_row(by_category)]


def _unscored(before: Sequence[Judged], after: Sequence[Judged]) -> tuple[int, int, int]:
    arms = [{one.id for one in arm if one.judgement.verdict is Verdict.UNSCORED}
            for arm in (before, after)]  # fmt: skip
    return len(arms[0]), len(arms[1]), len(arms[0] | arms[1])


def _change(before: Sequence[bool], after: Sequence[bool]) -> Change:
    return Change(
        before=wilson(sum(before), len(before)),
        after=wilson(sum(after), len(after)),
        change=paired_change(before, after),
        p=mcnemar(before, after),
    )


def _name(judge: Record, other: Record) -> str:
    """A judge's name, with the settings that differ from another one of the same name."""
    name = str(judge.get("name"))
    if name != other.get("name"):
        return name
    own, others = flatten(judge), flatten(other)
    keys = sorted(key for key in own.keys() | others.keys() if own.get(key) != others.get(key))
    return f"{name} with " + ", ".join(f"{key} {own.get(key)!r}" for key in keys)
