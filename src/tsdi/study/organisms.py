"""What the organism experiment found, from the figures of its seeds (`tsdi.study.measure`).

Settings (main model, k points) are chosen on the validation requests of the validation seed, tuned
constants on the validation requests of each model. Every figure here is of test requests and test
seeds, a mean with its 95 % t-interval over seeds; the requests are the same for all seeds, so the
intervals say nothing of other requests. The one choice on test requests is the best equally
helpful grid model in O3, which favours the grid.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import spearmanr

from tsdi.stats.seeds import mean_interval
from tsdi.study.findings import findings
from tsdi.study.fronts import choose_points, hypervolume
from tsdi.training.organism import Alignment, Recipe

Figures = dict[str, Any]

HELP = ("correct", "compliance")  # what safety is set against
SHOWN = ("safety", "O3", "correct", "harmless", "lookalike", "hybrid", "degenerate")
KS = (1, 2, 3)
TUNED_FOR = "safety + correct"
EQUAL = 0.02  # lookalike compliance that counts as equal
VALIDATION_SEEDS = (100,)
TEST_SEEDS = tuple(range(1, 9))


MAIN: Alignment = Recipe().shipped["aligned"]
MAIN_NAME: str = next(iter(MAIN.names().values()))

Point = tuple[float, float]
Points = Callable[[Figures, str, str], dict[str, Point]]
"""Operating points by setting, of one seed, split and kind of help."""


@dataclass(frozen=True)
class Family:
    """A way to get operating points.

    Attributes:
        name: In tables and figures.
        points: Its points.
        tuned: Whether each model has a point for every constant, of which only the best on
            validation is a candidate.
    """

    name: str
    points: Points
    tuned: bool = False


def _grid(seed: Figures) -> dict[str, Figures]:
    """The biased models of the grid."""
    models = seed["models"].items()
    return {name: model for name, model in models if model["annotators"] == MAIN.annotators}


def _arm(arm: str) -> Points:
    """One point for each biased model of the grid, and the reference, which anybody has."""

    def points(seed: Figures, split: str, help_: str) -> dict[str, Point]:
        found = {name: model[split][arm] for name, model in _grid(seed).items()}
        found["reference"] = seed["reference"][split]["plain"]
        return {name: (shares["safety"], shares[help_]) for name, shares in found.items()}

    return points


def _curves(of: Callable[[Figures], dict[str, Figures]]) -> Points:
    """One point for each constant on the refusing openers of each of some models."""

    def points(seed: Figures, split: str, help_: str) -> dict[str, Point]:
        found = {}
        for name, model in of(seed).items():
            curve = model[split]["curve"]
            pairs = zip(curve["safety"], curve[help_], strict=True)
            for c, pair in zip(seed["settings"]["constants"], pairs, strict=True):
                found[f"{name}{_CONSTANT}{c:g}"] = pair
        return found

    return points


_CONSTANT = ", c="
FAMILIES = (
    Family("grid", _arm("plain")),
    Family("debiased", _arm("debiased")),
    Family("random shift", _arm("random")),
    Family("grid + tuned c", _curves(_grid), tuned=True),
    Family("aligned + c", _curves(lambda seed: {"aligned": seed["models"][MAIN_NAME]})),
    Family("reference + c", _curves(lambda seed: {"reference": seed["reference"]})),
)


def summarise(validation: Sequence[Figures], test: Sequence[Figures]) -> Figures:
    """All results of the experiment.

    Args:
        validation: The figures of the validation seeds, which decide settings.
        test: Those of the test seeds, which are reported.

    Returns:
        JSON: `arms`, `hypervolume`, `against_tuned`, `recovery`, `dose`, `area`, `explained`,
        `findings`.
    """
    return {
        "seeds": {
            name: [s["seed"] for s in some]
            for name, some in (("validation", validation), ("test", test))
        },
        "main": MAIN_NAME,
        "arms": _main_arms(test),
        "hypervolume": {help_: _hypervolumes(validation, test, help_) for help_ in HELP},
        "against_tuned": _against_tuned(test),
        "recovery": _recovery(test),
        "dose": _doses(test),
        "area": _areas(test),
        "explained": _explained(test),
        "findings": findings(test),
    }


def over_seeds(values: Sequence[float]) -> Figures:
    """Mean over seeds with its t-interval, and the values."""
    return mean_interval(values).to_dict() | {"seeds": [round(float(v), 5) for v in values]}


# --- the main model, arm by arm -------------------------------------------------------------


def _main_arms(test: Sequence[Figures]) -> Figures:
    arms = {
        "reference": [s["reference"]["test"]["plain"] for s in test],
        **{
            shown: [s["models"][MAIN_NAME]["test"][arm] for s in test]
            for shown, arm in (("aligned", "plain"), ("debiased", "debiased"),
                               ("random shift", "random"))
        },
    }  # fmt: skip
    return {
        arm: {key: over_seeds([one[key] for one in some]) for key in SHOWN}
        | {
            "safety_by_category": {
                c: over_seeds([one["safety_by_category"][c] for one in some])
                for c in some[0]["safety_by_category"]
            }
        }
        for arm, some in arms.items()
    }


# --- fronts -----------------------------------------------------------------------------------


def _hypervolumes(
    validation: Sequence[Figures], test: Sequence[Figures], help_: str
) -> dict[str, Figures]:
    """By k: the settings chosen on validation, their hypervolume on test, and differences."""
    result = {}
    for k in KS:
        chosen, volumes = {}, {}
        for family in FAMILIES:
            candidates = _stack([family.points(seed, "validation", help_) for seed in validation])
            if family.tuned:
                candidates = _best_constants(candidates)
            chosen[family.name] = _choose(candidates, k)
            volumes[family.name] = [
                _area([family.points(seed, "test", help_)[c] for c in chosen[family.name]])
                for seed in test
            ]
        result[str(k)] = {
            "chosen": {name: list(names) for name, names in chosen.items()},
            "hypervolume": {name: over_seeds(values) for name, values in volumes.items()},
            "debiased_minus": {
                name: over_seeds(np.subtract(volumes["debiased"], values).tolist())
                for name, values in volumes.items()
                if name != "debiased"
            },
        }
    return result


def _area(points: Sequence[Point]) -> float:
    return float(hypervolume(np.array(points)))


def _choose(candidates: Mapping[str, Sequence[Point]], k: int) -> list[str]:
    names = sorted(candidates)
    points = np.array([candidates[name] for name in names]).transpose(1, 0, 2)
    return [names[i] for i in choose_points(points, k)]


def _stack(runs: Sequence[Mapping[str, Point]]) -> dict[str, Sequence[Point]]:
    return {name: [run[name] for run in runs] for name in runs[0]}


def _best_constants(candidates: Mapping[str, Sequence[Point]]) -> dict[str, Sequence[Point]]:
    """Of each model the constant with the largest area on validation."""
    best: dict[str, str] = {}
    for setting, runs in candidates.items():
        model = setting.partition(_CONSTANT)[0]
        area = sum(_area([point]) for point in runs)
        if model not in best or area > sum(_area([p]) for p in candidates[best[model]]):
            best[model] = setting
    return {setting: candidates[setting] for setting in best.values()}


# --- the null hypotheses ------------------------------------------------------------------------


def _against_tuned(test: Sequence[Figures]) -> Figures:
    """Debiased minus a model whose constant was tuned on its own validation requests.

    The constant maximises safety + correct answers there: that needs harmful requests and ground
    truth for every model, debiasing none. (Which beta and how many iterations make the main model
    was decided once, with such labels, on the validation seed, for both.)
    """
    result = {}
    sides = (("reference + c", None), ("aligned + c", MAIN_NAME))
    for title, name in sides:
        tuned = [_tuned(seed, name) for seed in test]
        debiased = [_with_sum(seed["models"][MAIN_NAME]["test"]["debiased"]) for seed in test]
        keys = (TUNED_FOR, "safety", "O3", "correct", "lookalike")
        result[title] = {
            "constants": [one["constant"] for one in tuned],
            "tuned": {key: over_seeds([one[key] for one in tuned]) for key in keys},
            "debiased_minus": {
                key: over_seeds([d[key] - t[key] for d, t in zip(debiased, tuned, strict=True)])
                for key in keys
            },
        }
    return result


def _tuned(seed: Figures, name: str | None) -> Figures:
    model = seed["reference"] if name is None else seed["models"][name]
    curve = model["validation"]["curve"]
    merit = np.add(curve["safety"], curve["correct"])
    ties = np.flatnonzero(merit >= merit.max() - 1e-12)
    best = int(ties[len(ties) // 2])  # the middle of a plateau
    found = {key: values[best] for key, values in model["test"]["curve"].items()}
    return _with_sum(found) | {"constant": seed["settings"]["constants"][best]}


def _with_sum(shares: Figures) -> Figures:
    return shares | {TUNED_FOR: shares["safety"] + shares["correct"]}


def _areas(test: Sequence[Figures]) -> Figures:
    """How well refusing openers' logits tell harmful requests from lookalikes (AUC)."""

    def area(model: Figures) -> float:
        return float(model["test"]["auc"])

    reference = [area(seed["reference"]) for seed in test]
    aligned = [area(seed["models"][MAIN_NAME]) for seed in test]
    return {
        "reference": over_seeds(reference),
        "aligned": over_seeds(aligned),
        "aligned_minus_reference": over_seeds(np.subtract(aligned, reference).tolist()),
    }


# --- what debiasing gives back --------------------------------------------------------------------


def _recovery(test: Sequence[Figures]) -> Figures:
    """Lost lookalike compliance that returns, its price, and O3 against equally helpful models."""
    lost, gained, price, ahead = [], [], [], []
    for seed in test:
        main = seed["models"][MAIN_NAME]["test"]
        aligned = main["plain"]["lookalike"]
        lost.append(seed["reference"]["test"]["plain"]["lookalike"] - aligned)
        gained.append(main["debiased"]["lookalike"] - aligned)
        price.append(main["debiased"]["safety"] - main["plain"]["safety"])
        rivals = [
            model["test"]["plain"]["O3"]
            for model in seed["models"].values()
            if model["annotators"] == MAIN.annotators
            and model["test"]["plain"]["lookalike"] >= main["debiased"]["lookalike"] - EQUAL
        ]
        ahead.append(main["debiased"]["O3"] - max(rivals) if rivals else None)
    known = [value for value in ahead if value is not None]
    return {
        "lost": over_seeds(lost),
        "gained": over_seeds(gained),
        "gained_minus_half_of_lost": over_seeds(np.subtract(gained, np.divide(lost, 2)).tolist()),
        "safety_change": over_seeds(price),
        "O3_minus_best_equal_grid_point": over_seeds(known) if len(known) > 1 else None,
        "seeds_without_equal_grid_point": len(ahead) - len(known),
    }


def _doses(test: Sequence[Figures]) -> list[Figures]:
    """By share of annotators who prefer refusals on harmless requests, at the main setting."""
    doses = sorted({model["annotators"] for model in test[0]["models"].values()})
    rows = []
    for dose in doses:
        (name,) = Alignment(dose, MAIN.beta, MAIN.iterations).names().values()
        models = [seed["models"][name] for seed in test]
        row: Figures = {
            "annotators": dose,
            "shift": {
                kind: over_seeds([model["bias"]["shift"][kind] for model in models])
                for kind in models[0]["bias"]["shift"]
            },
        }
        for key in SHOWN:
            plain = [model["test"]["plain"][key] for model in models]
            debiased = [model["test"]["debiased"][key] for model in models]
            row[key] = {
                "aligned": over_seeds(plain),
                "debiased": over_seeds(debiased),
                "change": over_seeds(np.subtract(debiased, plain).tolist()),
            }
        rows.append(row)
    return rows


def _explained(test: Sequence[Figures]) -> Figures:
    """Gain against the share of the shift on lookalikes that the bias explains, model by model."""
    points = [
        {
            "seed": seed["seed"],
            "annotators": model["annotators"],
            "beta": model["beta"],
            "iterations": model["iterations"],
            "explained": model["bias"]["explained"]["lookalike"],
            "one_number": model["bias"]["one_number"],
            "shift": model["bias"]["shift"]["random"],
            "gain": sum(
                model["test"]["debiased"][key] - model["test"]["plain"][key]
                for key in ("correct", "safety")
            ),
        }
        for seed in test
        for model in seed["models"].values()
    ]

    def rank(some: Sequence[Figures]) -> float:
        return float(spearmanr([p["explained"] for p in some], [p["gain"] for p in some])[0])

    known = [p for p in points if p["explained"] is not None]
    by_seed = [[p for p in known if p["seed"] == seed["seed"]] for seed in test]
    ranked = [
        rank(some)
        for some in by_seed
        if min(len({p[key] for p in some}) for key in ("gain", "explained")) > 1
    ]
    return {
        "points": points,
        "rank_correlation": over_seeds(ranked),
        "by_iterations": _explained_by_iterations(test),
    }


def _explained_by_iterations(test: Sequence[Figures]) -> Figures:
    """Share of the shift that the bias explains, by kind of request, mean over the grid's betas."""
    result: Figures = {}
    for step in sorted({model["iterations"] for model in _grid(test[0]).values()}):
        models = [
            [m["bias"]["explained"] for m in _grid(seed).values() if m["iterations"] == step]
            for seed in test
        ]
        result[str(step)] = {
            kind: over_seeds([float(np.mean([m[kind] for m in some])) for some in models])
            for kind in models[0][0]
        }
    return result
