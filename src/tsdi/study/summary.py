"""What the results of a study say: points, fronts, changes by category, the safety gate, in words.

Everything is computed from results.json. Settings and grid points were chosen on validation
prompts, and on the validation seeds where the study names some; all figures here are of test
prompts and of the other seeds. Intervals are over training seeds; of a single one over prompts
(`tsdi.study.fronts`).
"""

from collections.abc import Sequence
from typing import Any

from numpy.typing import NDArray

from tsdi.categories import by_code
from tsdi.evaluation.gate import ALL, safety_losses
from tsdi.evaluation.metrics import HARMLESS
from tsdi.stats.interval import Estimate
from tsdi.stats.seeds import mean_interval
from tsdi.study import sentences as words
from tsdi.study import wording
from tsdi.study.arrays import (
    HELP,
    WINS,
    Method,
    Results,
    array,
    has_wins,
    outcomes_of,
    shown,
    validated,
)
from tsdi.study.fronts import category_changes, compare_fronts, mean_change, share
from tsdi.study.hypervolume import choose_points
from tsdi.study.outcomes import complied, corrupted, helpful, safe

Summary = dict[str, Any]
Figures = dict[str, Any]
OURS, PLAIN = "tsdi", "plain"
RESAMPLES = 2000


def summarise(data: Figures, resamples: int = RESAMPLES) -> Summary:
    """All that a study found.

    Args:
        data: The content of results.json.
        resamples: Of the prompts, for hypervolumes.
    """
    results = Results(data)
    applying = [r["name"] for r in data["rules"] if not r["reason_against"] and not r["vary"]]
    methods = {name: results.method(name) for name in applying}
    fronts = _fronts(results, methods, resamples)
    summary: Summary = {
        "title": data["study"]["title"],
        "judge": wording.judge_of(data),
        "main": data["main"],
        "seeds": {"test": results.test_seeds, "choosing": results.choosing_seeds},
        "prompts": {
            split: {kind: sum(k == kind for _, k, _ in rows) for kind in (*HARMLESS, "harmful")}
            for split, rows in data["prompts"].items()
        },
        "helps": list(fronts),
        "rules": data["rules"],
        "methods": {
            name: _at_main(results, method, methods[PLAIN]) for name, method in methods.items()
        },
        "fronts": fronts,
        "grid": _grid(results, methods),
        "speed": _speed(data["speed"]),
        "gate": {name: _gate(results, name) for name in methods if name != PLAIN},
        "ablations": _ablations(results),
        "biases": data["biases"],
        "members": data["members"],
    }
    for one in summary["ablations"]:
        one["sentence"] = words.ablation_sentence(summary, one)
    spoken = {
        "caveats": wording.caveats(summary),
        "sentences": words.sentences(summary),
        "answer": words.answer(summary),
        "alerts": words.alerts(summary),
    }
    return summary | spoken


# --- fronts -----------------------------------------------------------------------------------


def _fronts(results: Results, methods: dict[str, Method], resamples: int) -> Figures:
    """By help and number of points: what was chosen, hypervolumes, and ours minus the others."""
    helps = [HELP, *([WINS] if has_wins(results, methods) else [])]
    ks = results.data["study"].get("ks", [1, 3])
    return {
        help_: {
            str(k): found for k in ks if (found := _front(results, methods, help_, k, resamples))
        }
        for help_ in helps
    }


def _front(
    results: Results, methods: dict[str, Method], help_: str, k: int, resamples: int
) -> Figures | None:
    able = {name: method for name, method in methods.items() if len(method.cells) >= k}
    if OURS not in able:
        return None
    outcomes = {name: outcomes_of(results, method, help_) for name, method in able.items()}
    chosen = {
        name: choose_points(validated(results, method, help_), k) for name, method in able.items()
    }
    seed = results.data["study"].get("seed", 0)
    found = compare_fronts(outcomes, chosen, OURS, resamples=resamples, seed=seed)
    tuned = _tuned(results)
    if tuned in able:
        ahead = compare_fronts(outcomes, chosen, tuned, resamples=resamples, seed=seed)
    return {
        name: {
            "chosen": [able[name].cells[i] for i in chosen[name]],
            "volume": one.volume.to_dict(),
            "ours_minus": None if name == OURS else one.ours_minus.to_dict(),
            "tuned_minus": (
                ahead[name].ours_minus.to_dict() if tuned in able and name != tuned else None
            ),
        }
        for name, one in found.items()
    }


def _tuned(results: Results) -> str:
    """The name of TSDI with a choice of settings, as its rivals have one; "" if there is none."""
    return next(
        (
            rule["name"]
            for rule in results.data["rules"]
            if rule["rule"] == OURS
            and len(rule["settings"].get("strength", ())) > 1
            and not rule["vary"]
        ),
        "",
    )


def _grid(results: Results, methods: dict[str, Method]) -> Figures:
    """Every point of every method: means over test seeds, with intervals."""
    return {
        name: [
            {
                "cell": cell,
                **{
                    key: _share(method, number, places, value).to_dict()
                    for key, (places, value) in _measures(results).items()
                },
                "by_category": {
                    category: _share(method, number, places, safe).to_dict()
                    for category, places in _by_category(results).items()
                },
            }
            for number, cell in enumerate(method.cells)
        ]
        for name, method in methods.items()
    }


def _measures(results: Results) -> dict[str, tuple[list[int], Any]]:
    kinds = results.kinds
    of = {kind: [i for i, k in enumerate(kinds) if k == kind] for kind in HARMLESS}
    measures: dict[str, tuple[list[int], Any]] = {
        "safety": (results.harmful, safe),
        "helpful": (results.helpful, helpful),
    }
    measures |= {f"complied, {kind}": (places, complied) for kind, places in of.items() if places}
    return measures | {"corrupted": (list(range(len(kinds))), corrupted)}


def _by_category(results: Results) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for place in results.harmful:
        found.setdefault(results.categories[place], []).append(place)
    return {name: found[name] for name in by_code(set(found))}


def _share(method: Method, cell: int, places: Sequence[int], value: Any) -> Estimate:
    return share(array([[row[cell]] for row in method.codes], places, value)[:, 0])


# --- at the main grid point -------------------------------------------------------------------


def _at(results: Results, method: Method) -> int:
    """The main grid point's place; of a rule without grid points the one chosen for a front."""
    if results.data["main"] in method.cells:
        return method.cells.index(results.data["main"])
    return choose_points(method.validation, 1)[0]


def _at_main(results: Results, method: Method, plain: Method) -> Figures:
    cell, before = _at(results, method), _at(results, plain)
    figures: Figures = {"cell": method.cells[cell], "settings": _settings(results, method, cell)}
    for key, (places, value) in _measures(results).items():
        own = array([[row[cell]] for row in method.codes], places, value)[:, 0]
        base = array([[row[before]] for row in plain.codes], places, value)[:, 0]
        found = mean_change(base, own)
        figures[key] = {"value": found.after.to_dict(), "change": found.change.to_dict()}
    return figures


def _settings(results: Results, method: Method, cell: int) -> list[str]:
    """The setting that validation prompts chose, seed by seed; none where there is no choice."""
    if not results.rules[method.name]["settings"]:
        return []
    return [
        shown(results.find(method.name, seed, method.cells[cell], "test")[0]["setting"])
        for seed in results.test_seeds
    ]


# --- the safety gate --------------------------------------------------------------------------


def _gate(results: Results, rule: str) -> Figures:
    """Safety at the main grid point against the plain model, by attack and category."""
    method = results.method(rule)
    cell = method.cells[_at(results, method)]
    rows: list[Figures] = []
    lost: list[list[str]] = []
    for attack in ["", *results.data["study"].get("attacks", [])]:
        before, after = (
            _attacked(results, name, where, attack)
            for name, where in ((PLAIN, results.data["main"]), (rule, cell))
        )
        if before is None or after is None:
            continue
        whole = mean_change(before, after)
        found = category_changes(before, after, [results.categories[i] for i in results.harmful])
        categories = {name: found[name] for name in by_code(set(found))}
        losses = safety_losses(whole, categories, attack)
        lost += [[one.attack, one.category] for one in losses]
        rows += [
            {"attack": attack, "category": name, **change.to_dict()}
            for name, change in {ALL: whole, **categories}.items()
        ]
    return {"rows": rows, "lost": lost}


def _attacked(results: Results, rule: str, cell: str, attack: str) -> NDArray[Any] | None:
    """Whether answers to harmful prompts are safe, [seeds, prompts], with or without attack."""
    codes = []
    for seed in results.test_seeds:
        found = results.find(rule, seed, cell, "test", attack)
        if not found:
            return None
        text = found[0]["outcomes"]
        codes.append([text if attack else "".join(text[i] for i in results.harmful)])
    return array(codes, range(len(results.harmful)), safe)[:, 0]


# --- speed, ablations -------------------------------------------------------------------------


def _speed(speed: Figures) -> Figures:
    rules = speed["rules"]
    least = rules[PLAIN]["bytes"]
    return {
        name: {
            "tokens_per_second": mean_interval(one["tokens_per_second"]).to_dict(),
            "ratio": mean_interval(one["ratio"]).to_dict(),
            "memory": one["bytes"] / least,
        }
        for name, one in rules.items()
    }


def _ablations(results: Results) -> list[Figures]:
    """Every rule of which one parameter is varied, at the main grid point, value by value."""
    found = []
    for rule in results.data["rules"]:
        if not rule["vary"] or rule["reason_against"]:
            continue
        values = []
        for value in rule["settings"][rule["vary"]]:
            codes = [
                next(
                    cell["outcomes"]
                    for cell in results.find(rule["name"], seed, results.data["main"], "test")
                    if cell["setting"][rule["vary"]] == value
                )
                for seed in results.test_seeds
            ]
            plain = results.method(PLAIN)
            at = _at(results, plain)
            figures: Figures = {"value": value}
            for key, (places, measure) in _measures(results).items():
                own = array([[code] for code in codes], places, measure)[:, 0]
                base = array([[row[at]] for row in plain.codes], places, measure)[:, 0]
                change = mean_change(base, own)
                figures[key] = {"value": change.after.to_dict(), "change": change.change.to_dict()}
            values.append(figures)
        found.append({"name": rule["name"], "parameter": rule["vary"], "values": values})
    return found
