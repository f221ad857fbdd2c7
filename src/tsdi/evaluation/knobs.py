"""The space of settings that `tune` searches, and their proposal."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tsdi.bias.knobs import Knobs, Strengths

if TYPE_CHECKING:
    from optuna.trial import Trial as Suggested

    from tsdi.bias import SafetyBias

LARGEST, STRIDE, LEAST_DECAY = 1.5, 0.05, 0.5
LARGEST_HIGH = 3.0
"""Where a condition spares harmful prompts, more can be taken away from the others."""
BOLD = (-1.0, 2.0)
CAUTIOUS = (-1.0, -2.0)
"""Thresholds: at 0 both kinds of error count alike, and too much harm may pass for a floor."""
LEAST_THRESHOLD, LARGEST_THRESHOLD = -4.0, 2.0
LEAST_WIDTH, LARGEST_WIDTH = 0.05, 5.0


@dataclass(frozen=True)
class Space:
    """The space of settings that a search proposes from.

    Attributes:
        steps: Response positions of the bias.
        recommended: Its recommended strength; all of it where there is none.
        condition: Strengths of its condition, if there is one; each setting then has strengths of
            a condition, or one strength for all prompts, at all steps alike: fewer knobs leave more
            trials to those that count.
        sloped: Whether it has a slope; then each setting takes it or leaves it out. With the slope
            there is no decay.
    """

    steps: int
    recommended: float = 1.0
    condition: Strengths | None = None
    sloped: bool = False

    @classmethod
    def around(cls, bias: "SafetyBias") -> "Space":
        """The search space of a bias."""
        found = bias.condition
        own = None if found is None else Strengths(found.low, found.high, found.width)
        recommended = 1.0 if bias.info.strength is None else bias.info.strength
        return cls(bias.steps, recommended, own, bias.slope is not None)

    def first(self) -> list[dict[str, Any]]:
        """The first settings to try: strength 0, the bias's own, and the recommended one.

        Of a condition also a bold setting, which was best by hand where harm is easy to see, and
        the same at lower thresholds; of a bias with a slope all of them in both orders.
        """
        orders = (1, 0) if self.sloped else (0,)
        nothing, *others = self._strengths()
        both = [(nothing, 0), *((strengths, order) for strengths in others for order in orders)]
        whole = {} if self.condition else {"steps": self.steps, "decay": 1.0}
        return [{**strengths, **whole, "order": order} for strengths, order in both]

    def _strengths(self) -> Iterator[dict[str, float]]:
        own = self.condition
        if own is None:
            for strength in (0.0, self.recommended):
                yield {"strength": _on_grid(strength, 0.0, LARGEST)}
            return
        width = min(LARGEST_WIDTH, max(LEAST_WIDTH, own.width))
        constant = self.recommended, self.recommended
        plain = [(0.0, 0.0), (own.low, own.high), constant, BOLD]
        for low, high, threshold in [
            *((*both, 0.0) for both in plain), *((*BOLD, one) for one in CAUTIOUS)
        ]:  # fmt: skip
            yield {
                "high": _on_grid(high, 0.0, LARGEST_HIGH),
                "low": _on_grid(low, -LARGEST, LARGEST),
                "width": width,
                "threshold": threshold,
            }

    def propose(self, asked: "Suggested") -> Knobs:
        """The setting that Optuna suggests; one strength for all unless low is below high."""
        order = asked.suggest_int("order", 0, 1) if self.sloped else 0
        if self.condition is None:
            strength = _suggest(asked, "strength", 0.0, LARGEST)
            steps = asked.suggest_int("steps", 1, self.steps)
            decay = 1.0 if order else _suggest(asked, "decay", LEAST_DECAY, 1.0)
            return Knobs(strength, steps, decay, order=order)
        high = _suggest(asked, "high", 0.0, LARGEST_HIGH)
        low = _suggest(asked, "low", -LARGEST, LARGEST)
        width = round(asked.suggest_float("width", LEAST_WIDTH, LARGEST_WIDTH, log=True), 3)
        threshold = _suggest(asked, "threshold", LEAST_THRESHOLD, LARGEST_THRESHOLD)
        if low >= high:
            return Knobs(high, self.steps, 1.0, order=order)
        return Knobs(None, self.steps, 1.0, Strengths(low, high, width, threshold), order)


def _suggest(asked: "Suggested", name: str, least: float, largest: float) -> float:
    return round(asked.suggest_float(name, least, largest, step=STRIDE), 4)


def _on_grid(value: float, least: float, largest: float) -> float:
    return round(min(largest, max(least, round(value / STRIDE) * STRIDE)), 4)
