"""Tables of a study's paired comparisons: gains, costs and explained shares."""

from collections.abc import Sequence

from tsdi.report.page import Table
from tsdi.stats.interval import interval_text
from tsdi.study.answers import Answers
from tsdi.study.contrasts import EQUAL, REFERENCE, Contrast, Contrasts, contrasts
from tsdi.study.diagnosed import Diagnoses, diagnoses
from tsdi.study.sentences import category_title, change_text, interval_note, measure_title
from tsdi.study.summary import Summary

GIVEN_BACK = "What debiasing gives back"
AS_HELPFUL = "TSDI against the plain model that helps as much"
RIVALS = "TSDI minus every method at the main grid point"
TRAINING = "What iterations and beta change"
SOURCES = "Test prompts by source"
SHIFTS = "Refusal log-odds by kind of prompt"
EXPLAINED = "What biases explain"
TITLES = (GIVEN_BACK, AS_HELPFUL, RIVALS, TRAINING, SOURCES, SHIFTS, EXPLAINED)
_TAKEN = ("complied, lookalike", "helpful")
_WEAKEST = "weakest"


def contrast_tables(summary: Summary, answers: Answers) -> dict[str, Table]:
    """The tables by title, without those for which a study has no data."""
    found, known = contrasts(answers), diagnoses(answers)
    made = (
        _given_back(summary, found),
        _as_helpful(summary, found),
        _rivals(summary, found),
        _training(summary, found),
        _sources(summary, found),
        _shifts(known),
        _explained(known),
    )
    return {title: table for title, table in zip(TITLES, made, strict=True) if table.rows}


def _measures(contrasts: Sequence[Contrast]) -> list[str]:
    """Titles of the measures, with that of the weakest category's safety."""
    return [*contrasts[0].measures.titled(), _WEAKEST] if contrasts else []


def _moved(contrast: Contrast, measures: Sequence[str]) -> list[str]:
    changes = {**contrast.measures.titled(), _WEAKEST: contrast.weakest}
    return [change_text(changes[measure].change) for measure in measures]


def _titled(summary: Summary, found: Contrasts, measures: Sequence[str]) -> list[str]:
    weakest = f"{summary.judge.good}, {category_title(found.weakest)}"
    return [weakest if m == _WEAKEST else measure_title(summary, m) for m in measures]


def _given_back(summary: Summary, found: Contrasts) -> Table:
    lost = {one.name: one for one in found.lost}
    taken = [measure for measure in _TAKEN if measure in _measures(found.returned)]
    measures = [*taken, "safety", _WEAKEST]
    rows = [
        [one.name, *(_moved(lost[one.name], taken) if lost else []), *_moved(one, measures)]
        for one in found.returned
    ]
    titles = _titled(summary, found, measures)
    before = [f"{title}: aligned minus reference" for title in titles[: len(taken)] if lost]
    header = ["model", *before, *(f"{title}: debiased minus aligned" for title in titles)]
    note = (
        f"Strength 1. {category_title(found.weakest)}: the category in which answers of the"
        f" {REFERENCE if lost else 'plain models'} are {summary.judge.good} least often."
        f" {interval_note(summary)}"
    )
    return Table(header, rows, note)


def _as_helpful(summary: Summary, found: Contrasts) -> Table:
    measures = ["safety", _WEAKEST, "helpful"]
    rows = [[one.name, one.against, *_moved(one, measures)] for one in found.as_helpful]
    note = (
        "Debiasing against stopping earlier or a larger beta: of the plain models that help as much"
        f" (within {EQUAL}), the reference among them, the one whose answers are"
        f" {summary.judge.good} most often; chosen on validation prompts. {interval_note(summary)}"
    )
    return Table(["debiased", "plain", *_titled(summary, found, measures)], rows, note)


def _rivals(summary: Summary, found: Contrasts) -> Table:
    measures = [measure for measure in _measures(found.rivals) if measure != "corrupted"]
    rows = [[one.against, *_moved(one, measures)] for one in found.rivals]
    note = (
        "TSDI of strength 1 minus the method, with the setting that validation chose for it."
        f" {interval_note(summary)}"
    )
    return Table(["method", *_titled(summary, found, measures)], rows, note)


def _training(summary: Summary, found: Contrasts) -> Table:
    measures = _measures(found.training)
    rows = [[f"{one.name} minus {one.against}", *_moved(one, measures)] for one in found.training]
    note = f"Plain aligned models, at the ends of the grid. {interval_note(summary)}"
    return Table(["models", *_titled(summary, found, measures)], rows, note)


def _sources(summary: Summary, found: Contrasts) -> Table:
    rows = []
    for one in found.sources:
        what = summary.judge.good if one.kind == "harmful" else "complied"
        arms = [one.debiasing.before, one.debiasing.after]
        arms = [one.alignment.before, *arms] if one.alignment else arms
        title = f"{one.source}, {one.kind}: {what}"
        rows.append([title, *map(interval_text, arms), change_text(one.debiasing.change)])
    reference = [REFERENCE] if found.lost else []
    header = ["source", *reference, "aligned", "debiased", "debiased minus aligned"]
    return Table(header, rows, f"The model {summary.main}. {interval_note(summary)}")


def _shifts(found: Diagnoses) -> Table:
    first = found.models[0] if found.models else None
    kinds, roles = (list(first.shift), list(first.area)) if first else ([], [])
    rows = [
        [one.name, *(interval_text(one.shift[k], 2, signed=True) for k in kinds),
         *(interval_text(one.area[r], signed="minus" in r) for r in roles)]
        for one in found.models
    ]  # fmt: skip
    note = (
        "Shift, aligned minus reference, of the log-odds of refusing against complying beginnings"
        " on validation prompts and random ones, nats. Area: how often a harmful prompt's log-odds"
        " are above a lookalike's (ROC). Means over test seeds with t intervals; of one seed,"
        " intervals of shifts are over prompts."
    )
    header = ["model", *(f"shift, {k}" for k in kinds), *(f"area, {r}" for r in roles)]
    return Table(header, rows, note)


def _explained(found: Diagnoses) -> Table:
    kinds = list(found.models[0].explained) if found.models else []
    rows = [
        [one.name, *(interval_text(one.explained[k]) for k in kinds), change_text(one.gain)]
        for one in found.models
    ]
    note = (
        "Share of the real shift that the bias is, on validation prompts and random ones; gain:"
        " change of safety plus that of helpful answers by debiasing. Means over test seeds with t"
        " intervals; of one seed, intervals of shares explained are over prompts."
    )
    if found.rank.value is not None:
        note += (
            f" Rank correlation of the gain and the share explained on {found.kind} prompts, over"
            f" the models of a seed: {interval_text(found.rank, 2, signed=True)}."
        )
    return Table(["model", *(f"explained, {k}" for k in kinds), "gain"], rows, note)
