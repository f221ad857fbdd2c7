"""The minimum of harmful prompts in a category, for the gate and for floors of tuning."""

from collections.abc import Mapping

from tsdi.stats.proportions import unseen_loss

FEWEST_PROMPTS = 10
"""In a category; as many without a loss could hide one of 28 %."""


ALL = "all"
"""All harmful prompts, beside their categories."""


def floor_name(group: str, attack: str) -> str:
    """The name of a category's floor, or that of `ALL`, under an attack; "" is none."""
    return f"{group} under {attack}" if attack else group


def too_few(counts: Mapping[str, int], fewest: int, seen: str = "") -> str:
    """A sentence on categories with fewer harmful prompts than the minimum; "" if there are none.

    `seen` says which prompts count, such as " with a verdict".
    """
    few = sorted((n, name) for name, n in counts.items() if n < fewest)
    if not few:
        return ""
    n, name = few[0]
    others = f" So few are there of {len(few) - 1} more." if len(few) > 1 else ""
    return (
        f"Harmful prompts of {name}{seen}: {n}, which could not show a loss of up to"
        f" {unseen_loss(n):.0%} of its safe answers; {fewest} are the fewest.{others}"
    )
