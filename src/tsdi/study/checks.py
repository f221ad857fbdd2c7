"""Consistency checks between the parts of a study's results."""

from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from itertools import chain
from typing import TYPE_CHECKING

from tsdi.evaluation.metrics import HARMLESS
from tsdi.study.entries import AnsweredCell, RuleDescription, ValidatedCell
from tsdi.study.settings import Number

if TYPE_CHECKING:
    from tsdi.study.results import StudyResults

_PLAIN = "plain"
_Given = frozenset[tuple[str, Number]]
"""A cell's setting."""


def first_problem(results: "StudyResults") -> str:
    """The first inconsistency, with its place in the file; "" if there is none."""
    checks: tuple[Callable[[StudyResults], Iterator[str]], ...] = (
        _prompts, _rules, _models, _speed, _biases, _cells, _choices,
    )  # fmt: skip
    return next(chain.from_iterable(check(results) for check in checks), "")


def _twice(place: str, names: Iterable[Hashable]) -> Iterator[str]:
    for name, count in Counter(names).items():
        if count > 1:
            yield f"{place}: {name!r} stands {count} times"


def _prompts(results: "StudyResults") -> Iterator[str]:
    for split in ("validation", "test"):
        if split not in results.prompts:
            yield f"prompts.{split}: Field required"
            return
        yield from _twice(f"prompts.{split}", (one.id for one in results.prompts[split]))
    kinds = {one.kind for one in results.prompts["test"]}
    if "harmful" not in kinds or kinds.isdisjoint(HARMLESS):
        yield "prompts.test: harmful prompts and others are wanted"


def _rules(results: "StudyResults") -> Iterator[str]:
    yield from _twice("rules", (rule.name for rule in results.rules))
    if not any(rule.name == _PLAIN and _applies(rule) and not rule.vary for rule in results.rules):
        yield f"rules: there is no {_PLAIN}"
    for number, rule in enumerate(results.rules):
        if not all(rule.settings.values()):
            yield f"rules.{number}.settings: a parameter has no value"
        if rule.vary and rule.vary not in rule.settings:
            yield f"rules.{number}.vary: {rule.vary!r} has no values"


def _applies(rule: RuleDescription) -> bool:
    return not rule.reason_against


def _models(results: "StudyResults") -> Iterator[str]:
    yield from _twice("members", (one.id for one in results.members))
    names, seeds = ({getattr(one, key) for one in results.members} for key in ("name", "seed"))
    if len(results.members) < len(names) * len(seeds):
        yield "members: not every seed has every model"
    if results.main not in names:
        yield f"main: there is no model {results.main!r}"


def _speed(results: "StudyResults") -> Iterator[str]:
    for rule in filter(_applies, results.rules):
        if rule.name not in results.speed.rules:
            yield f"speed.rules.{rule.name}: Field required"
    for name, one in results.speed.rules.items():
        for key in ("tokens_per_second", "ratio"):
            if len(getattr(one, key)) != results.speed.rounds:
                yield f"speed.rules.{name}.{key}: {results.speed.rounds} rounds are wanted"


def _biases(results: "StudyResults") -> Iterator[str]:
    yield from _twice("biases", (one.model for one in results.biases))
    known = {one.id for one in results.members}
    for number, one in enumerate(results.biases):
        if one.model not in known:
            yield f"biases.{number}.model: there is no model {one.model!r}"
        if len({len(one.refusing), len(one.complying), len(one.error)}) > 1:
            yield f"biases.{number}: not as many steps of each"


def _cells(results: "StudyResults") -> Iterator[str]:
    """Faults of single cells, and cells that stand twice."""
    rules = {rule.name: rule for rule in results.rules}
    models = {name: {*_models_of(results, rule)} for name, rule in rules.items()}
    seen: dict[Hashable, int] = {}
    for number, cell in enumerate(results.cells):
        place, attack = f"cells.{number}", getattr(cell, "attack", "")
        if cell.model not in models.get(cell.name, ()):
            yield f"{place}: there is no rule {cell.name!r} of {cell.model!r}"
        elif not _is_setting(cell.setting, rules[cell.name].settings):
            yield f"{place}.setting: the rule has no such setting"
        key = (cell.split, cell.model, cell.name, attack, _given(cell))
        if key in seen:
            yield f"{place}: it stands in cells.{seen[key]} already"
        seen[key] = number
        yield from _lengths(results, place, cell)


def _lengths(
    results: "StudyResults", place: str, cell: ValidatedCell | AnsweredCell
) -> Iterator[str]:
    asked = results.prompts[cell.split]
    if cell.wins is not None and len(cell.wins) != len(asked):
        yield f"{place}.wins: {len(cell.wins)} for {len(asked)} {cell.split} prompts"
    if isinstance(cell, ValidatedCell):
        return
    if cell.attack not in ("", *results.study.attacks):
        yield f"{place}.attack: the study has no attack {cell.attack!r}"
    under = [one for one in asked if not cell.attack or one.kind == "harmful"]
    if len(cell.outcomes) != len(under):
        yield f"{place}.outcomes: {len(cell.outcomes)} for {len(under)} test prompts"


def _is_setting(setting: Mapping[str, Number], tried: Mapping[str, tuple[Number, ...]]) -> bool:
    return setting.keys() == tried.keys() and all(setting[key] in tried[key] for key in tried)


def _given(cell: ValidatedCell | AnsweredCell) -> _Given:
    return frozenset(cell.setting.items())


def _models_of(results: "StudyResults", rule: RuleDescription) -> list[str]:
    """The ids of the models with which a rule may have cells."""
    if rule.of == "aligned":
        return [one.id for one in results.members]
    return [f"seed{seed}/{rule.of}" for seed in {one.seed: None for one in results.members}]


def _choices(results: "StudyResults") -> Iterator[str]:
    """Faults of rules that lack a validated or tested cell, or a chosen setting.

    Where a parameter is varied to be shown, and where a rule belongs to no grid point, all
    settings are (`tsdi.study.grid.chosen_settings`).
    """
    tried: dict[tuple[str, str], dict[_Given, bool]] = {}
    tested: dict[tuple[str, str], set[_Given]] = {}
    attacked: dict[tuple[str, str], set[_Given]] = {}
    for cell in results.cells:
        key = (cell.name, cell.model)
        if isinstance(cell, ValidatedCell):
            tried.setdefault(key, {})[_given(cell)] = cell.chosen
        else:
            (attacked if cell.attack else tested).setdefault(key, set()).add(_given(cell))
    for rule in filter(_applies, results.rules):
        for model in _models_of(results, rule):
            key = (rule.name, model)
            chosen = {setting for setting, taken in tried.get(key, {}).items() if taken}
            every = rule.vary is not None or rule.of != "aligned"
            wanted = max(1, len(tried.get(key, {}))) if every else 1
            if len(chosen) != wanted:
                yield (
                    f"cells: of {rule.name} of {model} {len(chosen)} settings are chosen, where"
                    f" {wanted} should be"
                )
            own = tested.get(key, set())  # with the setting that keeps safety, where there is one
            if (
                not chosen <= own <= set(tried.get(key, ()))
                or not attacked.get(key, chosen) <= chosen
            ):
                yield f"cells: of {rule.name} of {model} not the chosen settings are tested"
