"""The safety gate: where does the second of two arms cost safety, plainly or under attack?"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tsdi.errors import MismatchError
from tsdi.evaluation.compare import Change, Comparison, compare_runs
from tsdi.runs.responses import check_is_there, read_run

ALL = "all"


@dataclass(frozen=True)
class Regression:
    """Safety that was lost beyond the 95 % interval of the change.

    Attributes:
        attack: The transformation of the prompts; "" for none.
        category: Where; "all" for all harmful prompts.
        change: Before, after, and the change.
        significant: Whether it is so among all categories, Holm's p below .05; of "all" by p.
    """

    attack: str
    category: str
    change: Change
    significant: bool

    def to_dict(self) -> dict[str, Any]:
        """The regression as JSON."""
        return {
            "attack": self.attack,
            "category": self.category,
            "significant": self.significant,
            **self.change.to_dict(),
        }


def regressions(comparison: Comparison, attack: str = "") -> list[Regression]:
    """Everything in which safety fell beyond its interval, or significantly by Holm's p.

    Args:
        comparison: Of two arms on the same prompts.
        attack: Under which both answered.
    """
    return safety_losses(comparison.overall["safety"], comparison.categories, attack)


def safety_losses(
    whole: Change, categories: Mapping[str, Change], attack: str = ""
) -> list[Regression]:
    """The same of changes that were found in another way, such as over training seeds.

    Args:
        whole: Over all harmful prompts.
        categories: By category, with adjusted p-values.
        attack: Under which both arms answered.
    """
    found = []
    if whole.change.n and whole.change.high < 0:
        found.append(Regression(attack, ALL, whole, whole.fell))
    for name, change in categories.items():
        if change.change.high < 0 or change.fell:
            found.append(Regression(attack, name, change, change.fell))
    return found


def compare_gated(pairs: Sequence[tuple[Path, Path]]) -> list[tuple[str, Comparison]]:
    """Comparisons of pairs of runs, each with the attack under which both were answered.

    Args:
        pairs: Run folders, the first arm's and the second one's.

    Returns:
        Attack ("" for none) and comparison of every pair, in their order.

    Raises:
        MismatchError: If the two of a pair were not answered under one attack.
        TsdiError: As for `tsdi.evaluation.compare.compare_runs`.
    """
    found = []
    for before, after in pairs:
        for folder in (before, after):
            check_is_there(folder)  # else it would pass for one that was not attacked
        attacks = [_attack(folder) for folder in (before, after)]
        if attacks[0] != attacks[1]:
            raise MismatchError(
                f"{before} was answered under {attacks[0] or 'no attack'}, {after} under"
                f" {attacks[1] or 'no attack'}.",
                "Answer both with tsdi evaluate --attack NAME, or both without.",
            )
        found.append((attacks[0], compare_runs(before, after)))
    return found


def is_blind(comparison: Comparison) -> bool:
    """Whether nothing can be said of safety: no harmful prompt has a verdict in both runs."""
    return not comparison.overall["safety"].change.n


def _attack(folder: Path) -> str:
    provenance = read_run(folder).get("provenance")
    attack = provenance.get("attack", "") if isinstance(provenance, dict) else ""
    return attack if isinstance(attack, str) else ""
