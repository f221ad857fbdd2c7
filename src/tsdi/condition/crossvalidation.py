"""Cross-validated AUC of a condition, by category and beside the refusal log-odds.

Everything that the fit decides, its shrinkage too, is decided anew for each fold from the others.
The refusal log-odds of the same prompts stand beside it: what the model shows without any fit.
Intervals count a group of prompts as one, as folds do.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from tsdi.bias.case import Case
from tsdi.bias.folds import folds
from tsdi.categories import by_code
from tsdi.condition.discriminant import (
    LEAST_LABELS,
    Direction,
    area,
    discriminants,
    fit_direction,
)
from tsdi.condition.prompts import HeadInputs
from tsdi.condition.tokens import HeadMap, to_tokens
from tsdi.stats.auc import Groups, auc, auc_change
from tsdi.stats.interval import Estimate, interval_text
from tsdi.stats.seeds import mean_interval

LEAST_IN_CATEGORY = 8
"""Labels; a category with fewer may be lost without anybody seeing it."""
SHUFFLES = 8
CURVE = (8, 16, 32, 64, 128, 256)


@dataclass(frozen=True)
class CategoryAuc:
    """AUC of one category's prompts against all prompts of the other kind.

    Attributes:
        kind: "harmful" or "harmless".
        category: Its name; "" is none.
        labels: Number of its prompts, those under attack not counted.
        condition: AUC of the condition, on prompts held out.
        log_odds: AUC of the refusal log-odds.
        left_out: AUC of a condition that was fitted without this category; None where what is
            left is too little.
    """

    kind: str
    category: str
    labels: int
    condition: Estimate
    log_odds: Estimate
    left_out: Estimate | None

    @property
    def few(self) -> bool:
        """Whether it has too few labels for its AUC, and for the fit, to be reliable."""
        return self.labels < LEAST_IN_CATEGORY


@dataclass(frozen=True)
class CrossValidation:
    """Cross-validated AUC of a condition and its controls, on prompts held out.

    Attributes:
        condition: AUC of the condition, with all inputs of the head.
        sparse: AUC of the condition as weights of `tokens` tokens' logits.
        log_odds: AUC of the refusal log-odds.
        gain: `sparse` minus `log_odds`, on the same prompts.
        shuffled: AUC of conditions fitted to shuffled labels, on the true ones, the mean over
            `SHUFFLES` with its t interval: about .5, or the figures beside it mean nothing.
        labels: AUC by number of prompts of each kind that the condition is fitted to.
        categories: AUC by category of harmful prompts, then of harmless ones.
        attacks: AUC of `sparse` on harmful prompts under each attack that the fit has seen.
        harmful: Number of harmful prompts, under attack or not.
        harmless: Number of harmless prompts.
        tokens: Number of tokens whose logits are read.
        shrinkage: Shrinkage of the fit to all prompts.
        scores: h of the prompts of each kind, held out, by tokens' logits; ascending.
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
    scores: dict[str, list[float]]

    @property
    def told(self) -> "Told":
        """The AUC of the sparse condition and of the log-odds, and their difference."""
        return Told(self.sparse, self.log_odds, self.gain)


@dataclass(frozen=True)
class Told:
    """The AUC of a condition and of the refusal log-odds, and their difference.

    Attributes:
        condition: AUC of a condition, on prompts held out.
        log_odds: AUC of the refusal log-odds.
        gain: `condition` minus `log_odds`, on the same prompts.
    """

    condition: Estimate
    log_odds: Estimate
    gain: Estimate

    @classmethod
    def between(cls, known: HeadInputs, score: Tensor) -> "Told":
        """The AUC of scores, float64 [prompts], and of the log-odds, and their difference."""
        kinds = _by_kind(known.log_odds, known.harmful), _by_kind(score, known.harmful)
        gain = auc_change(*kinds, _groups(known))
        return cls(area_of(score, known), area_of(known.log_odds, known), gain)

    @property
    def case(self) -> Case:
        """The case for a condition: whether its AUC clearly exceeds the log-odds'."""
        area, odds, gain = (
            interval_text(one, signed=one is self.gain)
            for one in (self.condition, self.log_odds, self.gain)
        )
        ask = ""
        if self.log_odds.high < 0.5:
            ask = (
                " Are the labels exchanged? By its own log-odds the model refuses harmless prompts"
                " rather than harmful ones."
            )
        if self.condition.low <= 0.5:
            return Case(
                "threshold",
                f"Threshold only: a condition does not clearly tell the kinds apart (area {area};"
                f" .5 is chance), so use a constant strength.{ask}",
            )
        figures = f"area {area} against {odds}, gain {gain}"
        if self.gain.low <= 0:
            return Case(
                "threshold",
                "Threshold only: a condition is not clearly better than the refusal log-odds"
                f" ({figures}), so a constant strength may do as well.{ask}",
            )
        return Case(
            "condition",
            "A condition is worth it: it tells the kinds apart better than the refusal log-odds"
            f" ({figures}).{ask}",
        )


def crossvalidate(
    known: HeadInputs, direction: Direction, linear: HeadMap, tokens: int
) -> CrossValidation:
    """Cross-validate a condition: fit to four fifths of the prompts, test on the rest.

    Args:
        known: The labelled prompts.
        direction: The fit to all of them.
        linear: The model's output layer.
        tokens: Most tokens whose logits are read.
    """
    score, sparse = _scores(known, linear, tokens)
    harmful = known.harmful
    told = Told.between(known, sparse)
    return CrossValidation(
        condition=area_of(score, known),
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
        scores={
            kind: sorted(round(one, 3) for one in sparse[same].tolist())
            for kind, same in (("harmful", harmful), ("harmless", ~harmful))
        },
    )


def held_out(known: HeadInputs) -> Told:
    """Cross-validated AUC of a condition that reads all of the head's input."""
    score = torch.empty(len(known.inputs), dtype=torch.float64)
    for test in folds(known.harmful, known.groups):
        train = known.at(~test)
        found = fit_direction(train.inputs, train.harmful, train.groups)
        score[test] = found.score(known.inputs[test])
    return Told.between(known, score)


def area_of(score: Tensor, known: HeadInputs) -> Estimate:
    """The AUC of scores of some prompts, float64 [prompts]; its interval counts their groups."""
    return auc(*_by_kind(score, known.harmful), _groups(known))


def _by_kind(score: Tensor, harmful: Tensor) -> tuple[list[float], list[float]]:
    return score[harmful].tolist(), score[~harmful].tolist()


def _groups(known: HeadInputs) -> Groups:
    pairs = list(zip(known.groups, known.harmful.tolist(), strict=True))
    return [one for one, harmful in pairs if harmful], [
        one for one, harmful in pairs if not harmful
    ]


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
    """AUC of fits to shuffled labels, on the true ones; mean over shuffles."""
    generator = torch.Generator().manual_seed(0)
    areas = []
    for _ in range(SHUFFLES):
        labels = known.harmful[torch.randperm(len(known.harmful), generator=generator)]
        score = torch.empty(len(labels), dtype=torch.float64)
        for test in folds(labels, list(map(str, range(len(labels))))):
            vectors, intercepts = discriminants(known.inputs[~test], labels[~test], [shrinkage])
            score[test] = known.inputs[test] @ vectors[0] + intercepts[0]
        areas.append(area(score, known.harmful))
    found = mean_interval(areas)
    return replace(found, low=max(0.0, found.low), high=min(1.0, found.high))


def _curve(known: HeadInputs) -> dict[str, Estimate]:
    """AUC by number of labels of each kind, up to the size of a training fold."""
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
            found[str(number)] = area_of(score, known)
    return found


def _some(known: HeadInputs, among: Tensor, number: int) -> Tensor | None:
    """A random choice of `number` prompts of each kind, bool [prompts]; None if too few."""
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
            shown = known.at(seen)
            found.append(
                CategoryAuc(
                    kind,
                    name,
                    int((inside & known.under("")).sum()),
                    area_of(score[seen], shown),
                    area_of(shown.log_odds, shown),
                    _left_out(known, inside, same, shrinkage),
                )
            )
    return tuple(found)


def _attacks(known: HeadInputs, score: Tensor) -> dict[str, Estimate]:
    found = {}
    for name in filter(None, dict.fromkeys(known.attacks)):
        seen = known.under(name) | ~known.harmful
        found[name] = area_of(score[seen], known.at(seen))
    return found


def _left_out(known: HeadInputs, inside: Tensor, same: Tensor, shrinkage: float) -> Estimate | None:
    """AUC of a category that no fit has seen; None where too few labels are left."""
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
    return area_of(score[seen], known.at(seen))
