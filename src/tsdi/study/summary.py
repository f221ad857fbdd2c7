"""What the results of a study say: points, fronts, changes by category, the safety gate, in words.

Everything is computed from results.json. Settings and grid points were chosen on validation
prompts, and on the validation seeds where the study names some; all figures here are of test
prompts and of the other seeds. Intervals are paired bootstraps over prompts and, where there are
several, training seeds.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tsdi.evaluation.metrics import HARMLESS, by_code
from tsdi.interval import Estimate, mean_interval
from tsdi.study import sentences as words
from tsdi.study.fronts import (
    Outcomes,
    category_changes,
    choose_points,
    compare_fronts,
    mean_change,
)
from tsdi.study.points import helpful, safe

Summary = dict[str, Any]
Figures = dict[str, Any]
OURS, PLAIN = "tsdi", "plain"
RESAMPLES = 2000
HELP = "helpful"
WINS = "win rate"


@dataclass(frozen=True)
class Method:
    """One rule's answers to the test prompts.

    Attributes:
        name: The rule's name in the study.
        cells: Its points: grid points, or settings of a rule that belongs to no grid point.
        codes: Letters of the answers by seed and cell.
        validation: Safety and help on validation prompts by cell, of each seed that chooses.
    """

    name: str
    cells: tuple[str, ...]
    codes: tuple[tuple[str, ...], ...]
    validation: NDArray[np.float64]


class Results:
    """Results of a study, sorted by rule, seed and grid point.

    Args:
        data: The content of results.json.
    """

    def __init__(self, data: Figures) -> None:
        self.data = data
        aside = data["study"].get("validation_seeds", [])
        seeds = list(dict.fromkeys(member["seed"] for member in data["members"]))
        self.test_seeds = [seed for seed in seeds if seed not in aside] or seeds
        self.choosing_seeds = [seed for seed in seeds if seed in aside] or self.test_seeds
        self.grid = list(dict.fromkeys(member["name"] for member in data["members"]))
        prompts = data["prompts"]["test"]
        self.kinds = [kind for _, kind, _ in prompts]
        self.categories = [category for _, _, category in prompts]
        self.harmful = [i for i, kind in enumerate(self.kinds) if kind == "harmful"]
        self.helpful = [i for i, kind in enumerate(self.kinds) if kind in HARMLESS]
        self._cells: dict[tuple[str, str, str, str], list[Figures]] = {}
        for cell in data["cells"]:
            key = (cell["rule"], cell["model"], cell["split"], cell.get("attack", ""))
            self._cells.setdefault(key, []).append(cell)
        self.rules = {rule["name"]: rule for rule in data["rules"]}

    def find(self, rule: str, seed: int, cell: str, split: str, attack: str = "") -> list[Figures]:
        """The cells of a rule, of which a tuned one has one chosen setting."""
        of = self.rules[rule]["of"]
        model = f"seed{seed}/{cell if of == 'aligned' else of}"
        return [
            found
            for found in self._cells.get((rule, model, split, attack), [])
            if (of == "aligned" or _shown(found["setting"]) == cell) and found.get("chosen", True)
        ]

    def names(self, rule: str) -> list[str]:
        """The points of a rule: grid points, or settings."""
        if self.rules[rule]["of"] == "aligned":
            return self.grid
        model = f"seed{self.test_seeds[0]}/{self.rules[rule]['of']}"
        found = [_shown(cell["setting"]) for cell in self._cells[rule, model, "test", ""]]
        return list(dict.fromkeys(found))

    def method(self, rule: str) -> Method:
        """All of a rule's answers to the test prompts."""
        cells = self.names(rule)
        codes = tuple(
            tuple(self.find(rule, seed, cell, "test")[0]["outcomes"] for cell in cells)
            for seed in self.test_seeds
        )
        validation = [
            [self.find(rule, seed, cell, "validation")[0] for cell in cells]
            for seed in self.choosing_seeds
        ]
        points = [[(one["safety"], one["help"]) for one in row] for row in validation]
        return Method(rule, tuple(cells), codes, np.array(points, np.float64))


def _shown(setting: Figures) -> str:
    return ", ".join(f"{key} {value:g}" if isinstance(value, int | float) else f"{key} {value}"
                     for key, value in setting.items()) or "as it is"  # fmt: skip


def summarise(data: Figures, resamples: int = RESAMPLES) -> Summary:
    """All that a study found.

    Args:
        data: The content of results.json.
        resamples: Of every bootstrap.
    """
    results = Results(data)
    applying = [r["name"] for r in data["rules"] if not r["reason_against"] and not r["vary"]]
    methods = {name: results.method(name) for name in applying}
    fronts = _fronts(results, methods, resamples)
    summary: Summary = {
        "title": data["study"]["title"],
        "main": data["main"],
        "seeds": {"test": results.test_seeds, "choosing": results.choosing_seeds},
        "prompts": {
            split: {kind: sum(k == kind for _, k, _ in rows) for kind in (*HARMLESS, "harmful")}
            for split, rows in data["prompts"].items()
        },
        "helps": list(fronts),
        "rules": data["rules"],
        "methods": {
            name: _at_main(results, method, methods[PLAIN], resamples)
            for name, method in methods.items()
        },
        "fronts": fronts,
        "grid": _grid(results, methods),
        "speed": _speed(data["speed"]),
        "gate": {name: _gate(results, name, resamples) for name in methods if name != PLAIN},
        "ablations": _ablations(results, resamples),
        "biases": data["biases"],
        "members": data["members"],
    }
    for one in summary["ablations"]:
        one["sentence"] = words.ablation_sentence(one)
    spoken = {
        "sentences": words.sentences(summary),
        "answer": words.answer(summary),
        "alerts": words.alerts(summary),
    }
    return summary | spoken


# --- arrays -----------------------------------------------------------------------------------


def _array(codes: Sequence[Sequence[str]], places: Sequence[int], value: Any) -> NDArray[Any]:
    """Outcomes [seeds, cells, prompts]; NaN where an answer has no verdict."""
    known: dict[str, float] = {}

    def number(code: str) -> float:
        if code not in known:
            found = value(code)
            known[code] = np.nan if found is None else found
        return known[code]

    return np.array([[[number(one[i]) for i in places] for one in row] for row in codes])


def _base(results: Results) -> str | None:
    """The rule whose answers win rates are against: SFT as in the paper, else the reference."""
    of = {rule["rule"]: name for name, rule in results.rules.items()}
    return of.get("sft") or of.get("reference")


def _outcomes(results: Results, method: Method, help_: str) -> Outcomes:
    safety = _array(method.codes, results.harmful, safe)
    help_rates = _array(method.codes, results.helpful, helpful)
    if help_ == WINS:
        base = results.method(str(_base(results)))
        wins = _array(base.codes, results.helpful, helpful)[:, :1]
        help_rates = 0.5 + 0.5 * (help_rates - wins)
    return Outcomes(safety, help_rates)


def _validated(results: Results, method: Method, help_: str) -> NDArray[np.float64]:
    if help_ != WINS:
        return method.validation
    base = results.method(str(_base(results))).validation[:, :1, 1]
    points = method.validation.copy()
    points[..., 1] = 0.5 + 0.5 * (points[..., 1] - base)
    return points


# --- fronts -----------------------------------------------------------------------------------


def _fronts(results: Results, methods: dict[str, Method], resamples: int) -> Figures:
    """By help and number of points: what was chosen, hypervolumes, and ours minus the others."""
    helps = [HELP, *([WINS] if _base(results) else [])]
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
    outcomes = {name: _outcomes(results, method, help_) for name, method in able.items()}
    chosen = {
        name: choose_points(_validated(results, method, help_), k) for name, method in able.items()
    }
    found = compare_fronts(
        outcomes, chosen, OURS, resamples=resamples, seed=results.data["study"].get("seed", 0)
    )
    return {
        name: {
            "chosen": [able[name].cells[i] for i in chosen[name]],
            "volume": one.volume.to_dict(),
            "ours_minus": None if name == OURS else one.ours_minus.to_dict(),
        }
        for name, one in found.items()
    }


def _grid(results: Results, methods: dict[str, Method]) -> Figures:
    """Every point of every method: means over test seeds, with t-intervals over them."""
    return {
        name: [
            {
                "cell": cell,
                **{
                    key: mean_interval(_rates(method, number, places, value)).to_dict()
                    for key, (places, value) in _measures(results).items()
                },
                "by_category": {
                    category: mean_interval(_rates(method, number, places, safe)).to_dict()
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
    measures |= {f"complied, {kind}": (places, _complied) for kind, places in of.items() if places}
    return measures | {"corrupted": (list(range(len(kinds))), _corrupted)}


def _complied(code: str) -> float | None:
    return None if code in "?SU" else float(code in "CW")


def _corrupted(code: str) -> float | None:
    return None if code == "?" else float(code in "PD")


def _by_category(results: Results) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for place in results.harmful:
        found.setdefault(results.categories[place], []).append(place)
    return {name: found[name] for name in by_code(set(found))}


def _rates(method: Method, cell: int, places: Sequence[int], value: Any) -> list[float]:
    """The share of each seed that has verdicts."""
    rates = []
    for row in method.codes:
        known = [v for i in places if (v := value(row[cell][i])) is not None]
        if known:
            rates.append(float(np.mean(known)))
    return rates


# --- at the main grid point -------------------------------------------------------------------


def _at(results: Results, method: Method) -> int:
    """The main grid point's place; of a rule without grid points the one chosen for a front."""
    if results.data["main"] in method.cells:
        return method.cells.index(results.data["main"])
    return choose_points(method.validation, 1)[0]


def _at_main(results: Results, method: Method, plain: Method, resamples: int) -> Figures:
    cell, before = _at(results, method), _at(results, plain)
    figures: Figures = {"cell": method.cells[cell], "settings": _settings(results, method, cell)}
    for key, (places, value) in _measures(results).items():
        own = _array([[row[cell]] for row in method.codes], places, value)[:, 0]
        base = _array([[row[before]] for row in plain.codes], places, value)[:, 0]
        found = mean_change(base, own, resamples=resamples, seed=0)
        figures[key] = {"value": found.after.to_dict(), "change": found.change.to_dict()}
    return figures


def _settings(results: Results, method: Method, cell: int) -> list[str]:
    """The setting that validation prompts chose, seed by seed; none where there is no choice."""
    if not results.rules[method.name]["settings"]:
        return []
    return [
        _shown(results.find(method.name, seed, method.cells[cell], "test")[0]["setting"])
        for seed in results.test_seeds
    ]


# --- the safety gate --------------------------------------------------------------------------


def _gate(results: Results, rule: str, resamples: int) -> Figures:
    """Safety at the main grid point against the plain model, by attack and category."""
    method = results.method(rule)
    cell = method.cells[_at(results, method)]
    rows: list[Figures] = []
    attacks = ["", *results.data["study"].get("attacks", [])]
    for attack in attacks:
        before, after = (
            _attacked(results, name, where, attack)
            for name, where in ((PLAIN, results.data["main"]), (rule, cell))
        )
        if before is None or after is None:
            continue
        places = [results.categories[i] for i in results.harmful]
        every = mean_change(before, after, resamples=resamples, seed=0)
        rows.append(
            {"attack": attack, "category": "all", **_row(every.before, every.after, every.change)}
        )
        found = category_changes(before, after, places, resamples=resamples, seed=0)
        rows += [
            {
                "attack": attack,
                "category": name,
                **_row(found[name].before, found[name].after, found[name].change),
                "p": found[name].p,
                "p_holm": found[name].p_holm,
            }
            for name in by_code(set(found))
        ]
    lost = [row for row in rows if row["change"]["high"] is not None and row["change"]["high"] < 0]
    return {"rows": rows, "lost": [[row["attack"], row["category"]] for row in lost]}


def _row(before: Estimate, after: Estimate, change: Estimate) -> Figures:
    return {"before": before.to_dict(), "after": after.to_dict(), "change": change.to_dict()}


def _attacked(results: Results, rule: str, cell: str, attack: str) -> NDArray[Any] | None:
    """Whether answers to harmful prompts are safe, [seeds, prompts], with or without attack."""
    codes = []
    for seed in results.test_seeds:
        found = results.find(rule, seed, cell, "test", attack)
        if not found:
            return None
        text = found[0]["outcomes"]
        codes.append([text if attack else "".join(text[i] for i in results.harmful)])
    return _array(codes, range(len(results.harmful)), safe)[:, 0]


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


def _ablations(results: Results, resamples: int) -> list[Figures]:
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
                own = _array([[code] for code in codes], places, measure)[:, 0]
                base = _array([[row[at]] for row in plain.codes], places, measure)[:, 0]
                change = mean_change(base, own, resamples=resamples, seed=0)
                figures[key] = {"value": change.after.to_dict(), "change": change.change.to_dict()}
            values.append(figures)
        found.append({"rule": rule["name"], "parameter": rule["vary"], "values": values})
    return found
