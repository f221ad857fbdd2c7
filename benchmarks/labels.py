"""How often intervals with people's labels hold the truth, with good, bad and constant judges.

Simulated are runs of 250 answers in eight categories, some of them labelled, by three draws: any
answers; as `tsdi label` draws, by category and verdict; and half of the labels in one category,
with weights. Measured are how often 95 % intervals hold the true share, and the true change between
two runs on the same prompts, and how wide they are, beside

* the normal interval of PPI++ with the power of its paper,
* the interval of the labels alone, and that of the judge alone.
"""

from collections.abc import Iterator
from itertools import product
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from benchmarks.common import Claim, Report, parser, progress
from tsdi.stats.draws import systematic
from tsdi.stats.interval import Estimate
from tsdi.stats.prediction_powered import Item, powered_change, powered_share
from tsdi.stats.proportions import paired_change, wilson

JUDGES = {  # share of hits that the judge finds, and of others that it passes
    "good": (0.95, 0.97),
    "bad": (0.6, 0.6),
    "wrong": (0.2, 0.3),
    "constant": (0.0, 1.0),
}
DRAWS = ("any", "tsdi label", "unequal")
SHARES = (0.05, 0.4)  # of hits; a category has half to one and a half of it
CHANGES = ((0.4, 0.3, 0.02), (0.95, 0.1, 0.05))  # hits before, share of gains, share of losses
ANSWERS, CATEGORIES = 250, 8
LABELS = (20, 50)
WAYS, NORMAL = ("with labels", "labels alone", "judge alone"), "PPI++, normal"
_Z = 1.959963984540054

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]


class Draw(NamedTuple):
    """Places of the labelled answers, and the weight of each."""

    places: list[int]
    weights: Floats


def main() -> None:
    arguments = parser(__doc__).parse_args()
    times = 30 if arguments.quick else 1000
    settings = {
        "judges": JUDGES,
        "draws": DRAWS,
        "shares": SHARES,
        "changes": CHANGES,
        "answers": ANSWERS,
        "categories": CATEGORIES,
        "labels": LABELS,
        "times": times,
    }
    report = Report("labels", arguments, settings)
    shares = list(share_cells(times))
    changes = list(change_cells(times))
    report.write(
        [*claims("share", shares), *claims("change", changes)],
        {"shares": shares, "changes": changes},
    )


def claims(what: str, cells: list[dict[str, Any]]) -> Iterator[Claim]:
    """Coverage over all cells, and width beside the labels alone by judge."""
    ours = [cell["held"][WAYS[0]] for cell in cells]
    yield Claim(f"{what}: coverage with labels, lowest of {len(cells)} cells", min(ours), low=0.9)
    yield Claim(f"{what}: coverage with labels, mean", float(np.mean(ours)), low=0.945)
    for way in (NORMAL, *WAYS[1:]):
        lowest = min(cell["held"][way] for cell in cells if way in cell["held"])
        yield Claim(f"{what}: coverage, {way}, lowest", lowest)
    for judge in JUDGES:
        part = [cell["width"] for cell in cells if cell["judge"] == judge]
        ratios = [width[WAYS[0]] / width["labels alone"] for width in part]
        yield Claim(
            f"{what}: width over that of labels alone, {judge} judge", float(np.mean(ratios))
        )


def share_cells(times: int) -> Iterator[dict[str, Any]]:
    for judge, draw, share, labels in product(JUDGES, DRAWS, SHARES, LABELS):
        progress(f"share {share}, {judge} judge, {draw} draw, {labels} labels")
        dice = np.random.default_rng([1, labels])
        found = [one_share(judge, draw, share, labels, dice) for _ in range(times)]
        cell = {"judge": judge, "draw": draw, "share": share, "labels": labels}
        yield {**cell, **summary(found, share)}


def change_cells(times: int) -> Iterator[dict[str, Any]]:
    for judge, draw, change, labels in product(JUDGES, DRAWS, CHANGES, LABELS[1:]):
        progress(f"change {change}, {judge} judge, {draw} draw, {labels} labels")
        dice = np.random.default_rng([2, labels])
        found = [one_change(judge, draw, change, labels, dice) for _ in range(times)]
        cell = {"judge": judge, "draw": draw, "change": change, "labels": labels}
        before, gained, lost = change
        yield {**cell, **summary(found, (1 - before) * gained - before * lost)}


def summary(found: list[dict[str, Estimate]], truth: float) -> dict[str, dict[str, float]]:
    """How often the intervals hold the truth, and their mean width, by way."""
    return {
        "held": {
            way: float(np.mean([one[way].low <= truth <= one[way].high for one in found]))
            for way in found[0]
        },
        "width": {
            way: float(np.mean([one[way].high - one[way].low for one in found])) for way in found[0]
        },
    }


def one_share(
    judge: str, draw: str, share: float, labels: int, dice: np.random.Generator
) -> dict[str, Estimate]:
    """Intervals of the share of one simulated run."""
    categories = dice.integers(0, CATEGORIES, ANSWERS)
    truths = dice.random(ANSWERS) < share * (0.5 + categories / (CATEGORIES - 1))
    words = said(judge, truths, dice)
    drawn = draw_labels(draw, labels, categories, [words], dice)
    values = truths.astype(float)
    guesses = words.astype(float)
    items = labelled(values, guesses.tolist(), words.tolist(), drawn)
    alone = powered_share([Item("any", 0.0, i.truth, i.weight) for i in items])
    found = (powered_share(items), alone, wilson(int(words.sum()), ANSWERS))
    return with_normal(found, draw, values, guesses, drawn)


def one_change(
    judge: str, draw: str, change: tuple[float, ...], labels: int, dice: np.random.Generator
) -> dict[str, Estimate]:
    """Intervals of the change between two simulated runs."""
    share, gained, lost = change
    categories = dice.integers(0, CATEGORIES, ANSWERS)
    before = dice.random(ANSWERS) < share
    turned = dice.random(ANSWERS) < np.where(before, lost, gained) * (
        0.5 + categories / (CATEGORIES - 1)
    )
    after = before ^ turned
    words = [said(judge, arm, dice) for arm in (before, after)]
    drawn = draw_labels(draw, labels, categories, words, dice)
    values, guesses = (b.astype(float) - a for a, b in ((before, after), words))
    pairs = list(zip(*(arm.tolist() for arm in words), strict=True))
    items = labelled(values, guesses.tolist(), pairs, drawn)
    alone = powered_change([Item("any", 0.0, i.truth, i.weight) for i in items])
    found = (powered_change(items), alone, paired_change(*(arm.tolist() for arm in words)))
    return with_normal(found, draw, values, guesses, drawn)


def with_normal(
    found: tuple[Estimate, ...], draw: str, values: Floats, guesses: Floats, drawn: Draw
) -> dict[str, Estimate]:
    """Estimates by way; the normal one is of draws in which all have one chance."""
    normals = {} if draw == "unequal" else {NORMAL: normal(values, guesses, drawn)}
    return dict(zip(WAYS, found, strict=True)) | normals


def said(judge: str, truths: Bools, dice: np.random.Generator) -> Bools:
    """The judge's words on answers."""
    finds, passes = JUDGES[judge]
    chance = dice.random(len(truths))
    return np.where(truths, chance < finds, chance >= passes)


def draw_labels(
    draw: str,
    labels: int,
    categories: NDArray[np.int64],
    words: list[Bools],
    dice: np.random.Generator,
) -> Draw:
    if draw == "any":
        return Draw(dice.permutation(ANSWERS)[:labels].tolist(), np.ones(labels))
    if draw == "tsdi label":
        strata = [tuple(map(str, one)) for one in zip(categories, *words, strict=True)]
        return Draw(systematic(strata, labels, dice), np.ones(labels))
    places: list[int] = []
    weights: list[float] = []
    for part in (categories == 0, categories > 0):
        (there,) = part.nonzero()
        number = min(labels // 2, len(there))
        places += dice.permutation(there)[:number].tolist()
        weights += [len(there) / number] * number
    return Draw(places, np.array(weights))


def labelled(values: Floats, guesses: list[float], words: list[Any], drawn: Draw) -> list[Item]:
    known = dict(zip(drawn.places, drawn.weights.tolist(), strict=True))
    return [
        Item(word, guess, value if place in known else None, known.get(place, 1.0))
        for place, (value, guess, word) in enumerate(
            zip(values.tolist(), guesses, words, strict=True)
        )
    ]


def normal(values: Floats, guesses: Floats, drawn: Draw) -> Estimate:
    """PPI++ for a mean, as its paper has it: labelled and unlabelled items, normal interval."""
    y, f, rest = values[drawn.places], guesses[drawn.places], np.delete(guesses, drawn.places)
    n, more, spread = len(y), len(rest), float(guesses.var())
    power = float(np.cov(y, f)[0, 1] / ((1 + n / more) * spread)) if spread else 0.0
    power = min(1.0, max(0.0, power))
    mean = power * float(rest.mean()) + float((y - power * f).mean())
    half = _Z * float(np.sqrt(power**2 * rest.var() / more + (y - power * f).var() / n))
    return Estimate(mean, mean - half, mean + half, n)


if __name__ == "__main__":
    main()
