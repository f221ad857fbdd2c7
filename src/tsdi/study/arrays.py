"""A study's answers as arrays: by rule, training seed, grid point and prompt."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tsdi.evaluation.metrics import HARMLESS
from tsdi.study.fronts import Outcomes
from tsdi.study.outcomes import WRONG, helpful, safe
from tsdi.study.win_rates import BASES

Figures = dict[str, Any]
HELP, WINS = "helpful", "win rate"


@dataclass(frozen=True)
class Method:
    """One rule's answers to the test prompts.

    Attributes:
        name: The rule's name in the study.
        cells: Its points: grid points, or settings of a rule that belongs to no grid point.
        codes: Letters of the answers by seed and cell.
        validation: Safety and help on validation prompts by cell, of each seed that chooses.
        wins: Wins against the base by seed, cell and prompt, NaN where there is none; None without
            a pairwise judge.
        validation_wins: Mean wins on validation prompts, [seeds, cells]; likewise.
    """

    name: str
    cells: tuple[str, ...]
    codes: tuple[tuple[str, ...], ...]
    validation: NDArray[np.float64]
    wins: NDArray[np.float64] | None = None
    validation_wins: NDArray[np.float64] | None = None


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
            key = (cell["name"], cell["model"], cell["split"], cell.get("attack", ""))
            self._cells.setdefault(key, []).append(cell)
        self.rules = {rule["name"]: rule for rule in data["rules"]}

    def find(self, rule: str, seed: int, cell: str, split: str, attack: str = "") -> list[Figures]:
        """The cells of a rule, of which a tuned one has one chosen setting."""
        of = self.rules[rule]["of"]
        model = f"seed{seed}/{cell if of == 'aligned' else of}"
        return [
            found
            for found in self._cells.get((rule, model, split, attack), [])
            if (of == "aligned" or shown(found["setting"]) == cell) and found.get("chosen", True)
        ]

    def names(self, rule: str) -> list[str]:
        """The points of a rule: grid points, or settings."""
        if self.rules[rule]["of"] == "aligned":
            return self.grid
        model = f"seed{self.test_seeds[0]}/{self.rules[rule]['of']}"
        found = [shown(cell["setting"]) for cell in self._cells[rule, model, "test", ""]]
        return list(dict.fromkeys(found))

    def method(self, rule: str) -> Method:
        """All of a rule's answers to the test prompts."""
        cells = self.names(rule)
        tested = [
            [self.find(rule, seed, cell, "test")[0] for cell in cells] for seed in self.test_seeds
        ]
        codes = tuple(tuple(one["outcomes"] for one in row) for row in tested)
        validation = [
            [self.find(rule, seed, cell, "validation")[0] for cell in cells]
            for seed in self.choosing_seeds
        ]
        points = [[(one["safety"], one["help"]) for one in row] for row in validation]
        wins = validation_wins = None
        if "wins" in tested[0][0]:
            wins = np.array([[one["wins"] for one in row] for row in tested], np.float64)
            every = np.array([[one["wins"] for one in row] for row in validation], np.float64)
            validation_wins = np.nanmean(every, axis=-1)
        return Method(
            rule, tuple(cells), codes, np.array(points, np.float64), wins, validation_wins
        )


def shown(setting: Figures) -> str:
    """A setting in words."""
    return ", ".join(f"{key} {value:g}" if isinstance(value, int | float) else f"{key} {value}"
                     for key, value in setting.items()) or "as it is"  # fmt: skip


def array(codes: Sequence[Sequence[str]], places: Sequence[int], value: Any) -> NDArray[Any]:
    """Outcomes [seeds, cells, prompts]; NaN where an answer has no verdict."""
    known: dict[str, float] = {}

    def number(code: str) -> float:
        if code not in known:
            found = value(code)
            known[code] = np.nan if found is None else found
        return known[code]

    return np.array([[[number(one[i]) for i in places] for one in row] for row in codes])


def base_of(results: Results) -> str | None:
    """The name of the rule whose answers win rates are against."""
    of = {rule["rule"]: name for name, rule in results.rules.items()}
    return next((of[name] for name in BASES if name in of), None)


def has_wins(results: Results, methods: dict[str, Method]) -> bool:
    """Whether answers were compared, or a judge that knows right from wrong stands in for that."""
    if base_of(results) is None:
        return False
    return any(
        method.wins is not None or any(WRONG in code for row in method.codes for code in row)
        for method in methods.values()
    )


def outcomes_of(results: Results, method: Method, help_: str) -> Outcomes:
    """A method's answers to the test prompts, with the helpfulness that is asked for."""
    safety = array(method.codes, results.harmful, safe)
    help_rates = array(method.codes, results.helpful, helpful)
    if help_ == WINS and method.wins is not None:
        help_rates = method.wins[..., results.helpful]
    elif help_ == WINS:
        base = results.method(str(base_of(results)))
        wins = array(base.codes, results.helpful, helpful)[:, :1]
        help_rates = 0.5 + 0.5 * (help_rates - wins)
    return Outcomes(safety, help_rates)


def validated(results: Results, method: Method, help_: str) -> NDArray[np.float64]:
    """A method's points on validation prompts, [seeds, cells, 2], with that helpfulness."""
    if help_ != WINS:
        return method.validation
    points = method.validation.copy()
    if method.validation_wins is not None:
        points[..., 1] = method.validation_wins
        return points
    base = results.method(str(base_of(results))).validation[:, :1, 1]
    points[..., 1] = 0.5 + 0.5 * (points[..., 1] - base)
    return points
