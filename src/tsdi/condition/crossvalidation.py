"""How well a condition tells harmful prompts from harmless ones, on prompts that it has not seen.

Everything that the fit decides, its shrinkage too, is decided anew for each fold from the others.
The refusal log-odds of the same prompts stand beside it: what the model shows without any fit.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from tsdi.bias.case import Case
from tsdi.categories import by_code
from tsdi.condition.fit import LEAST_LABELS, Direction, area, discriminants, fit_direction, folds
from tsdi.condition.prompts import HeadInputs
from tsdi.condition.tokens import HeadMap, to_tokens
from tsdi.stats.auc import auc, auc_change
from tsdi.stats.interval import Estimate, interval_text
from tsdi.stats.seeds import mean_interval

LEAST_IN_CATEGORY = 8
"""Labels; a category with fewer may be lost without anybody seeing it."""
SHUFFLES = 8
CURVE = (8, 16, 32, 64, 128, 256)


@dataclass(frozen=True)
class CategoryAuc:
    """How well prompts of one category are told from all prompts of the other kind.

    Attributes:
        kind: "harmful" or "harmless".
        category: Its name; "" is none.
        labels: How many prompts it has, those under attack not counted.
        condition: Area under the ROC curve, of prompts held out.
        log_odds: Of the refusal log-odds.
        left_out: Of a condition that was fitted without this category; None where what is left is
            too little.
    """

    kind: str
    category: str
    labels: int
    condition: Estimate
    log_odds: Estimate
    left_out: Estimate | None

    @property
    def few(self) -> bool:
        """Whether it has too few labels for its figures, and for the fit, to say much."""
        return self.labels < LEAST_IN_CATEGORY


@dataclass(frozen=True)
class CrossValidation:
    """What a condition tells, each figure an area under the ROC curve on prompts held out.

    Attributes:
        condition: Of the condition, with all inputs of the head.
        sparse: Of the same as weights of `tokens` tokens' logits.
        log_odds: Of the refusal log-odds.
        gain: `sparse` minus `log_odds`, on the same prompts.
        shuffled: Of conditions fitted to shuffled labels, on the true ones, the mean over
            `SHUFFLES` with its t interval: about .5, or the figures beside it mean nothing.
        labels: By number of prompts of each kind that it is fitted to.
        categories: By category of harmful prompts, then of harmless ones.
        attacks: Of harmful prompts under each attack that the fit has seen, `sparse`.
        harmful: How many harmful prompts there are, under attack or not.
        harmless: How many harmless ones.
        tokens: How many tokens' logits are read.
        shrinkage: Of the fit to all prompts.
    """

    condition: Estimate
    sparse: Estimate
    log_odds: Estimate
    gain: Estimate
    shuffled: Estimate
    labels: dict[str, Estimate]
    categories: tuple[CategoryAuc, ...]
    attacks: dict[str, Estimate]
    harmful: int
    harmless: int
    tokens: int
    shrinkage: float

    @property
    def told(self) -> "Told":
        """What the condition tells, in three figures."""
        return Told(self.sparse, self.log_odds, self.gain)


@dataclass(frozen=True)
class Told:
    """How well the kinds are told apart, each figure an area under the ROC curve.

    Attributes:
        condition: By a condition, of prompts held out.
        log_odds: By the refusal log-odds.
        gain: The one minus the other, on the same prompts.
    """

    condition: Estimate
    log_odds: Estimate
    gain: Estimate

    @classmethod
    def between(cls, log_odds: Tensor, score: Tensor, harmful: Tensor) -> "Told":
        """What two scores tell, float64 [prompts]."""
        kinds = _by_kind(log_odds, harmful), _by_kind(score, harmful)
        return cls(_auc(score, harmful), _auc(log_odds, harmful), auc_change(*kinds))

    @property
    def case(self) -> Case:
        """Whether a condition is worth it: it clearly tells more than the refusal log-odds do."""
        area, odds, gain = (
            interval_text(one, signed=one is self.gain)
            for one in (self.condition, self.log_odds, self.gain)
        )
        if self.condition.low <= 0.5:
            return Case(
                "threshold",
                f"Threshold only: a condition does not clearly tell the kinds apart (area {area};"
                " .5 is chance), so use a constant strength.",
            )
        figures = f"area {area} against {odds}, gain {gain}"
        if self.gain.low <= 0:
            return Case(
                "threshold",
                "Threshold only: a condition is not clearly better than the refusal log-odds"
                f" ({figures}), so a constant strength may do as well.",
            )
        return Case(
            "condition",
            "A condition is worth it: it tells the kinds apart better than the refusal log-odds"
            f" ({figures}).",
        )


def crossvalidate(
    known: HeadInputs, direction: Direction, linear: HeadMap, tokens: int
) -> CrossValidation:
    """Fit to four fifths of the prompts at a time, and look at the last fifth.

    Args:
        known: The labelled prompts.
        direction: The fit to all of them.
        linear: The model's output layer.
        tokens: Most tokens whose logits are read.
    """
    score, sparse = _scores(known, linear, tokens)
    harmful = known.harmful
    told = Told.between(known.log_odds, sparse, harmful)
    return CrossValidation(
        condition=_auc(score, harmful),
        sparse=told.condition,
        log_odds=told.log_odds,
        gain=told.gain,
        shuffled=_shuffled(known, direction.shrinkage),
        labels=_curve(known),
        categories=_categories(known, sparse, direction.shrinkage),
        attacks=_attacks(known, sparse),
        harmful=int(harmful.sum()),
        harmless=int((~harmful).sum()),
        tokens=min(tokens, len(linear.tokens)),
        shrinkage=direction.shrinkage,
    )


def held_out(known: HeadInputs) -> Told:
    """What a condition that reads all of the head's input would tell, on prompts held out."""
    score = torch.empty(len(known.inputs), dtype=torch.float64)
    for test in folds(known.harmful, known.groups):
        train = known.at(~test)
        found = fit_direction(train.inputs, train.harmful, train.groups)
        score[test] = found.score(known.inputs[test])
    return Told.between(known.log_odds, score, known.harmful)


def _by_kind(score: Tensor, harmful: Tensor) -> tuple[list[float], list[float]]:
    return score[harmful].tolist(), score[~harmful].tolist()


def _auc(score: Tensor, harmful: Tensor) -> Estimate:
    return auc(*_by_kind(score, harmful))


def _scores(known: HeadInputs, linear: HeadMap, tokens: int) -> tuple[Tensor, Tensor]:
    """Scores of held-out prompts: of the direction, and of its tokens; float64 [prompts]."""
    score, sparse = (torch.empty(len(known.inputs), dtype=torch.float64) for _ in range(2))
    for test in folds(known.harmful, known.groups):
        train = known.at(~test)
        found = fit_direction(train.inputs, train.harmful, train.groups)
        score[test] = found.score(known.inputs[test])
        seen = to_tokens(found, train.inputs, linear, tokens).seen
        sparse[test] = seen.score(known.inputs[test])
    return score, sparse


def _shuffled(known: HeadInputs, shrinkage: float) -> Estimate:
    """The area of fits to labels in another order, which are right by chance alone."""
    generator = torch.Generator().manual_seed(0)
    areas = []
    for _ in range(SHUFFLES):
        labels = known.harmful[torch.randperm(len(known.harmful), generator=generator)]
        score = torch.empty(len(labels), dtype=torch.float64)
        for test in folds(labels, list(map(str, range(len(labels))))):
            vectors, intercepts = discriminants(known.inputs[~test], labels[~test], [shrinkage])
            score[test] = known.inputs[test] @ vectors[0] + intercepts[0]
        areas.append(area(score, known.harmful))
    return mean_interval(areas)


def _curve(known: HeadInputs) -> dict[str, Estimate]:
    """The area by number of labels of each kind, as far as a fold leaves so many."""
    found = {}
    for number in CURVE:
        score = torch.empty(len(known.inputs), dtype=torch.float64)
        for test in folds(known.harmful, known.groups):
            some = _some(known, ~test, number)
            if some is None:
                break
            train = known.at(some)
            copies = list(map(str, range(len(train.groups))))  # of few groups none can be held out
            score[test] = fit_direction(train.inputs, train.harmful, copies).score(
                known.inputs[test]
            )
        else:
            found[str(number)] = _auc(score, known.harmful)
    return found


def _some(known: HeadInputs, among: Tensor, number: int) -> Tensor | None:
    """So many prompts of each kind, drawn among some; None if there are not so many."""
    chosen = torch.zeros_like(among)
    generator = torch.Generator().manual_seed(number)
    for kind in (known.harmful, ~known.harmful):
        places = (kind & among).nonzero()[:, 0]
        if len(places) < number:
            return None
        chosen[places[torch.randperm(len(places), generator=generator)[:number]]] = True
    return chosen


def _categories(known: HeadInputs, score: Tensor, shrinkage: float) -> tuple[CategoryAuc, ...]:
    found = []
    for kind, same in (("harmful", known.harmful), ("harmless", ~known.harmful)):
        for name in by_code({known.categories[n] for n in same.nonzero()[:, 0].tolist()}):
            inside = same & torch.tensor([one == name for one in known.categories])
            seen = inside | ~same
            found.append(
                CategoryAuc(
                    kind,
                    name,
                    int((inside & known.under("")).sum()),
                    _auc(score[seen], known.harmful[seen]),
                    _auc(known.log_odds[seen], known.harmful[seen]),
                    _left_out(known, inside, same, shrinkage),
                )
            )
    return tuple(found)


def _attacks(known: HeadInputs, score: Tensor) -> dict[str, Estimate]:
    found = {}
    for name in filter(None, dict.fromkeys(known.attacks)):
        seen = known.under(name) | ~known.harmful
        found[name] = _auc(score[seen], known.harmful[seen])
    return found


def _left_out(known: HeadInputs, inside: Tensor, same: Tensor, shrinkage: float) -> Estimate | None:
    """The area of a category that no fit has seen, against held-out prompts of the other kind."""
    if int((same & ~inside).sum()) < LEAST_LABELS:
        return None
    score = torch.empty(len(known.inputs), dtype=torch.float64)
    for test in folds(known.harmful, known.groups):
        train = ~test & ~inside
        if int((train & same).sum()) < LEAST_LABELS // 2:
            return None
        vectors, intercepts = discriminants(known.inputs[train], known.harmful[train], [shrinkage])
        score[test] = known.inputs[test] @ vectors[0] + intercepts[0]
    seen = inside | ~same
    return _auc(score[seen], known.harmful[seen])
