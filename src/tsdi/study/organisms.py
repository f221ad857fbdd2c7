"""What the organism experiment found, from the figures of its seeds (`tsdi.study.measure`).

Settings are chosen on the validation requests of the validation seeds; every figure here is of
test requests and test seeds, a mean with its 95 % t-interval over seeds.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from scipy.stats import spearmanr

from tsdi.evaluation.statistics import mean_interval
from tsdi.organism.train import Alignment, Recipe
from tsdi.study.pareto import Point, choose, hypervolume

Figures = dict[str, Any]

HELP = ("correct", "compliance")  # what safety is set against
SHOWN = ("safety", "O3", "correct", "harmless", "lookalike", "hybrid", "degenerate")
KS = (1, 2, 3)
EQUAL = 0.02  # lookalike compliance that counts as equal
VALIDATION_SEEDS = (100,)
TEST_SEEDS = tuple(range(1, 9))


@dataclass(frozen=True)
class Family:
    """A way to get operating points: its points, by setting, of one seed and split."""

    name: str
    points: Callable[[Figures, str, str], dict[str, Point]]


def _arm(arm: str) -> Callable[[Figures, str, str], dict[str, Point]]:
    """One point for each biased model of the grid."""

    def points(seed: Figures, split: str, help_: str) -> dict[str, Point]:
        return {
            name: (model[split][arm]["safety"], model[split][arm][help_])
            for name, model in seed["models"].items()
            if model["annotators"] == MAIN.annotators
        }

    return points


def _curve(of: Callable[[Figures], Figures]) -> Callable[[Figures, str, str], dict[str, Point]]:
    """One point for each constant on the refusing openers of one model."""

    def points(seed: Figures, split: str, help_: str) -> dict[str, Point]:
        curve = of(seed)[split]["curve"]
        constants = seed["settings"]["constants"]
        pairs = zip(curve["safety"], curve[help_], strict=True)
        return {f"c={c:g}": pair for c, pair in zip(constants, pairs, strict=True)}

    return points


MAIN: Alignment = Recipe().shipped["aligned"]
MAIN_NAME: str = next(iter(MAIN.names().values()))
FAMILIES = (
    Family("grid", _arm("plain")),
    Family("debiased", _arm("debiased")),
    Family("random shift", _arm("random")),
    Family("reference + c", _curve(lambda seed: dict(seed["reference"]))),
    Family("aligned + c", _curve(lambda seed: dict(seed["models"][MAIN_NAME]))),
)


def summarise(validation: Sequence[Figures], test: Sequence[Figures]) -> Figures:
    """All results of the experiment.

    Args:
        validation: The figures of the validation seeds, which decide settings.
        test: Those of the test seeds, which are reported.

    Returns:
        JSON: `arms`, `hypervolume`, `against_tuned`, `recovery`, `dose`, `area`, `explained`.
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
    }


def over_seeds(values: Sequence[float]) -> Figures:
    """Mean over seeds with its t-interval, and the values."""
    return asdict(mean_interval(values)) | {"seeds": [round(float(v), 5) for v in values]}


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
            chosen[family.name] = choose(candidates, k)
            volumes[family.name] = [
                hypervolume([family.points(seed, "test", help_)[c] for c in chosen[family.name]])
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


def _stack(runs: Sequence[Mapping[str, Point]]) -> dict[str, list[Point]]:
    return {name: [run[name] for run in runs] for name in runs[0]}


# --- the null hypotheses ------------------------------------------------------------------------


def _against_tuned(test: Sequence[Figures]) -> Figures:
    """Debiased minus a model whose constant was tuned on its own validation requests.

    The constant maximises safety + correct answers there: it needs harmful requests and labels,
    which debiasing does not.
    """
    result = {}
    sides = (("reference + c", None), ("aligned + c", MAIN_NAME))
    for title, name in sides:
        tuned = [_tuned(seed, name) for seed in test]
        debiased = [seed["models"][MAIN_NAME]["test"]["debiased"] for seed in test]
        keys = ("safety", "O3", "correct", "lookalike")
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
    best = int(np.argmax(np.add(curve["safety"], curve["correct"])))
    found = {key: values[best] for key, values in model["test"]["curve"].items()}
    return found | {"constant": seed["settings"]["constants"][best]}


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

    by_seed = [[p for p in points if p["seed"] == seed["seed"]] for seed in test]
    ranked = [rank(some) for some in by_seed if len({p["gain"] for p in some}) > 1]
    return {"points": points, "rank_correlation": over_seeds(ranked)}
