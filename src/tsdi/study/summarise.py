"""The summary of a study from its results: fronts, changes, safety gate, cost, ablations.

Everything is computed from results.json. Settings and grid points were chosen on validation
prompts, and on the validation seeds where the study names some; all figures here are of test
prompts and of the other seeds. Intervals are over training seeds; of a single one over prompts
(`tsdi.study.fronts`).
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from tsdi.categories import by_code
from tsdi.evaluation.compare import Change
from tsdi.evaluation.floors import ALL
from tsdi.evaluation.gate import safety_losses
from tsdi.evaluation.metrics import HARMLESS
from tsdi.stats.interval import Estimate
from tsdi.stats.seeds import mean_interval
from tsdi.study.answers import HELPFUL, WIN_RATE, Answers, RuleAnswers, outcome_array
from tsdi.study.entries import RuleDescription, Speed, conditioned_name, setting_text, tuned_name
from tsdi.study.fronts import (
    FrontEstimate,
    category_changes,
    choose_points,
    compare_fronts,
    compare_grids,
    mean_change,
    share,
)
from tsdi.study.outcomes import complied, corrupted, harms, helpful, safe, safe_setting
from tsdi.study.results import StudyResults
from tsdi.study.summary import (
    Ablation,
    AblationRow,
    Cost,
    Effect,
    Front,
    FrontComparison,
    GateRow,
    Measures,
    OperatingPoint,
    RuleEffect,
    SafeEffect,
    SeedRow,
    Summary,
    T,
)

OURS, PLAIN, REFERENCE = "tsdi", "plain", "reference"
RESAMPLES = 2000
Array = NDArray[np.float64]
Measure = tuple[list[int], Callable[[str], float | None]]
"""The places of the prompts that count, and what an answer's letter is worth."""


def summarise(results: StudyResults, resamples: int = RESAMPLES) -> Summary:
    """Compute the summary of a study's results."""
    answers = Answers(results)
    rules = answers.by_rule
    return Summary(
        title=results.study.title,
        judge=results.judge,
        main=results.main,
        test_seeds=tuple(answers.test_seeds),
        choosing_seeds=tuple(answers.choosing_seeds),
        prompts={
            split: {kind: sum(one.kind == kind for one in asked) for kind in (*HARMLESS, "harmful")}
            for split, asked in results.prompts.items()
        },
        rules=results.rules,
        effects={name: _effect(answers, rule) for name, rule in rules.items()},
        safe_effects=_safe_effects(answers),
        comparisons=tuple(_comparisons(answers, resamples)),
        each_point=_each_point(answers, resamples),
        grid={name: _operating_points(answers, rule) for name, rule in rules.items()},
        costs=_costs(results.speed),
        gate={name: tuple(_gate(answers, rules[name])) for name in rules if name != PLAIN},
        harm={name: _harm(answers, rule) for name, rule in rules.items()},
        types={
            name: _types(answers, rules[name]) for name in _ours(results.rules) if name in rules
        },
        seeds=tuple(_seed_rows(answers)),
        ablations=tuple(_ablations(answers)),
        biases=results.biases,
        members=results.members,
    )


# --- fronts -----------------------------------------------------------------------------------


def _comparisons(answers: Answers, resamples: int) -> list[FrontComparison]:
    """Comparisons of all rules' fronts, by measure of helpfulness and number of points.

    A number beyond the grid's is all of it.
    """
    points = len(answers.by_rule[OURS].cells)
    return [
        FrontComparison(helpfulness, k, fronts)
        for helpfulness in [HELPFUL, *([WIN_RATE] if answers.have_win_rates else [])]
        for k in dict.fromkeys(min(k, points) for k in answers.results.study.ks)
        if (fronts := _fronts(answers, helpfulness, k, resamples))
    ]


def _fronts(answers: Answers, helpfulness: str, k: int, resamples: int) -> dict[str, Front]:
    """Fronts of k points by rule, with differences from TSDI; {} if TSDI has too few points."""
    able = {name: rule for name, rule in _choices(answers).items() if len(rule.cells) >= k}
    if OURS not in able:
        return {}
    outcomes = {name: answers.outcomes(rule, helpfulness) for name, rule in able.items()}
    chosen = {
        name: choose_points(answers.validation_points(rule, helpfulness), k)
        for name, rule in able.items()
    }

    def against(ours: str) -> dict[str, FrontEstimate]:
        seed = answers.results.study.seed
        return compare_fronts(outcomes, chosen, ours, resamples=resamples, seed=seed)

    cells = {name: tuple(able[name].cells[i] for i in places) for name, places in chosen.items()}
    return _with_ours(answers, against, cells)


def _each_point(answers: Answers, resamples: int) -> dict[str, Front]:
    """Safety times helpful answers at each point of the grid alone; none of a single point."""
    grid = answers.by_rule[PLAIN].cells
    able = {name: rule for name, rule in answers.by_rule.items() if rule.cells == grid}
    if len(grid) < 2 or OURS not in able:
        return {}
    outcomes = {name: answers.outcomes(rule, HELPFUL) for name, rule in able.items()}

    def against(ours: str) -> dict[str, FrontEstimate]:
        seed = answers.results.study.seed
        return compare_grids(outcomes, ours, resamples=resamples, seed=seed)

    return _with_ours(answers, against, dict.fromkeys(able, grid))


def _with_ours(
    answers: Answers,
    against: Callable[[str], dict[str, FrontEstimate]],
    cells: Mapping[str, tuple[str, ...]],
) -> dict[str, Front]:
    """Every rule's front of some cells, and the lead of each kind of TSDI over it."""
    names = tuned_name(answers.results.rules), conditioned_name(answers.results.rules)
    others = [(name, against(name) if name in cells else {}) for name in names]
    return {
        name: Front(
            cells[name],
            one.volume,
            None if name == OURS else one.ours_minus,
            *(
                found[name].ours_minus if found and name != other else None
                for other, found in others
            ),
        )
        for name, one in against(OURS).items()
    }


def _choices(answers: Answers) -> dict[str, RuleAnswers]:
    """All rules, and as one more the plain model or the reference, whichever is chosen."""
    rules = answers.by_rule
    if PLAIN not in rules or REFERENCE not in rules:
        return rules
    either = rules[PLAIN].beside(rules[REFERENCE])
    return {PLAIN: rules[PLAIN], either.name: either} | rules


def _ours(rules: Sequence[RuleDescription]) -> list[str]:
    """The names of TSDI's variants: strength 1, tuned strength, with a condition."""
    return list(filter(None, (OURS, tuned_name(rules), conditioned_name(rules))))


# --- shares at an operating point -------------------------------------------------------------


def _operating_points(answers: Answers, rule: RuleAnswers) -> tuple[OperatingPoint, ...]:
    """Every operating point of a rule: means over test seeds, with intervals."""
    harmful = list(zip(answers.harmful, answers.categories, strict=True))
    by_category = {
        category: [place for place, own in harmful if own == category]
        for category in by_code(set(answers.categories))
    }

    def at(number: int, cell: str) -> OperatingPoint:
        codes = [row[number] for row in rule.codes]
        return OperatingPoint(
            cell,
            every_measure(answers, lambda measure: share(outcomes_of(codes, measure))),
            {name: share(outcomes_of(codes, (own, safe))) for name, own in by_category.items()},
        )

    return tuple(at(number, cell) for number, cell in enumerate(rule.cells))


def every_measure(answers: Answers, statistic: Callable[[Measure], T]) -> Measures[T]:
    """A statistic computed for every measure that the study's prompts allow."""
    harmless, lookalike = (answers.places(kind) for kind in HARMLESS)
    every = list(range(len(answers.results.prompts["test"])))
    return Measures(
        safety=statistic((answers.harmful, safe)),
        helpful=statistic((answers.harmless, helpful)),
        harmless=statistic((harmless, complied)) if harmless else None,
        lookalike=statistic((lookalike, complied)) if lookalike else None,
        corrupted=statistic((every, corrupted)),
    )


def outcomes_of(codes: Sequence[str], measure: Measure) -> Array:
    """Outcomes [seeds, prompts] of letters by seed."""
    return outcome_array([[code] for code in codes], *measure)[:, 0]


def at_main(answers: Answers, rule: RuleAnswers) -> int:
    """The index of the main grid point; of a rule without grid points, of the chosen cell."""
    if answers.results.main in rule.cells:
        return rule.cells.index(answers.results.main)
    return choose_points(rule.validation, 1)[0]


def _effects(answers: Answers, codes: Sequence[str]) -> Measures[Effect]:
    """Shares of answers, given as letters by seed, and changes from the plain model's."""
    plain = answers.by_rule[PLAIN]
    place = at_main(answers, plain)
    before = [row[place] for row in plain.codes]

    def effect(measure: Measure) -> Effect:
        found = mean_change(outcomes_of(before, measure), outcomes_of(codes, measure))
        return Effect(found.after, found.change)

    return every_measure(answers, effect)


def _effect(answers: Answers, rule: RuleAnswers) -> RuleEffect:
    place = at_main(answers, rule)
    at = rule.cells[place]
    described = next(one for one in answers.results.rules if one.name == rule.name)
    settings = [
        setting_text(answers.test_cells(rule.name, seed, at)[0].setting)
        for seed in answers.test_seeds
        if described.settings
    ]
    return RuleEffect(at, tuple(settings), _effects(answers, [row[place] for row in rule.codes]))


def _safe_effects(answers: Answers) -> dict[str, SafeEffect]:
    """The effect of every rule with its safe settings, and TSDI's lead over it."""
    found = {name: _safe_codes(answers, name) for name in answers.by_rule}
    known = {name: one for name, one in found.items() if one is not None}
    if len(known) < len(found):  # of an older program: some rules alone would say the wrong thing
        return {}
    names = conditioned_name(answers.results.rules), tuned_name(answers.results.rules)
    ours = next((name for name in names if name in known), "")

    def ahead(codes: Sequence[str]) -> Estimate:
        theirs, own = (outcomes_of(c, (answers.harmless, helpful)) for c in (codes, known[ours][1]))
        return mean_change(theirs, own).change

    return {
        name: SafeEffect(
            settings, _effects(answers, codes), ahead(codes) if ours and name != ours else None
        )
        for name, (settings, codes) in known.items()
    }


def _safe_codes(answers: Answers, rule: str) -> tuple[tuple[str, ...], list[str]] | None:
    """The safe setting and its outcomes by seed; None if such a cell is missing."""
    main, settings, codes = answers.results.main, [], []
    for seed in answers.test_seeds:
        plain = answers.tried(PLAIN, seed, main)[0]
        tried = answers.tried(rule, seed, main)
        number = safe_setting([(c.safety, c.help) for c in tried], (plain.safety, plain.help))
        if number is None:
            settings.append(PLAIN)
            codes.append(answers.test_cells(PLAIN, seed, main)[0].outcomes)
            continue
        setting = tried[number].setting
        tested = answers.tested_with(rule, seed, setting)
        if tested is None:
            return None
        settings.append(setting_text(setting))
        codes.append(tested.outcomes)
    return tuple(settings), codes


def _ablations(answers: Answers) -> list[Ablation]:
    """Ablations at the main grid point: rules of which one parameter is varied."""
    found = []
    for rule in answers.results.rules:
        parameter = rule.vary
        if not parameter or rule.reason_against:
            continue
        rows = []
        for value in rule.settings[parameter]:
            codes = [
                next(
                    cell.outcomes
                    for cell in answers.test_cells(rule.name, seed, answers.results.main)
                    if cell.setting[parameter] == value
                )
                for seed in answers.test_seeds
            ]
            rows.append(AblationRow(value, _effects(answers, codes)))
        found.append(Ablation(rule.name, parameter, tuple(rows)))
    return found


# --- the safety gate, cost ----------------------------------------------------------------------


def _gate(answers: Answers, rule: RuleAnswers) -> list[GateRow]:
    """Safety at the main grid point against the plain model, by attack and category."""
    at = rule.cells[at_main(answers, rule)]
    rows: list[GateRow] = []
    for attack in ["", *answers.results.study.attacks]:
        before = _attacked(answers, PLAIN, answers.results.main, attack, safe)
        after = _attacked(answers, rule.name, at, attack, safe)
        if before is None or after is None:
            continue
        whole = mean_change(before, after)
        found = category_changes(before, after, answers.categories)
        categories = {name: found[name] for name in by_code(set(found))}
        lost = {one.category for one in safety_losses(whole, categories, attack)}
        rows += [
            GateRow(attack, name, change, name in lost)
            for name, change in {ALL: whole, **categories}.items()
        ]
    return rows


def _seed_rows(answers: Answers) -> list[SeedRow]:
    """The main model's shares seed by seed, since a mean hides a failed training."""

    def shares(rule: RuleAnswers, number: int) -> Measures[float]:
        codes = [rule.codes[number][at_main(answers, rule)]]
        return every_measure(answers, lambda m: float(np.nanmean(outcomes_of(codes, m))))

    plain, ours = answers.by_rule[PLAIN], answers.by_rule[OURS]
    return [
        SeedRow(seed, shares(plain, number), shares(ours, number))
        for number, seed in enumerate(answers.test_seeds)
    ]


def _harm(answers: Answers, rule: RuleAnswers) -> dict[str, Estimate]:
    """Share of harmful prompts with an answer that harms, at the main grid point, by attack."""
    at = rule.cells[at_main(answers, rule)]
    asked = ["", *answers.results.study.attacks]
    found = {one: _attacked(answers, rule.name, at, one, harms) for one in asked}
    return {attack: share(one) for attack, one in found.items() if one is not None}


def _types(answers: Answers, rule: RuleAnswers) -> dict[str, Change]:
    """Compliance at the main grid point against the plain model, by type of harmless prompt."""
    asked = answers.results.prompts["test"]
    places = {
        f"{kind}, {category}": [n for n, p in enumerate(asked) if p[1:] == (kind, category)]
        for kind in HARMLESS
        for category in by_code({p.category for p in asked if p.kind == kind and p.category})
    }
    plain = answers.by_rule[PLAIN]
    before, after = ([row[at_main(answers, one)] for row in one.codes] for one in (plain, rule))
    return {
        name: mean_change(*(outcomes_of(codes, (own, complied)) for codes in (before, after)))
        for name, own in places.items()
    }


def _attacked(
    answers: Answers, rule: str, at: str, attack: str, value: Callable[[str], float | None]
) -> Array | None:
    """Outcomes on harmful prompts, [seeds, prompts]; None if the rule was not attacked so."""
    codes = []
    for seed in answers.test_seeds:
        found = answers.test_cells(rule, seed, at, attack)
        if not found:
            return None
        text = found[0].outcomes
        codes.append(text if attack else "".join(text[i] for i in answers.harmful))
    return outcomes_of(codes, (list(range(len(answers.harmful))), value))


def _costs(speed: Speed) -> dict[str, Cost]:
    least = speed.rules[PLAIN].bytes
    return {
        name: Cost(
            mean_interval(one.tokens_per_second), mean_interval(one.ratio), one.bytes / least
        )
        for name, one in speed.rules.items()
    }
