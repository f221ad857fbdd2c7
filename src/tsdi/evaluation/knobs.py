"""Settings that are tuned: what they are, and which ones are proposed."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from optuna.trial import Trial as Suggested

    from tsdi.bias import SafetyBias

LARGEST, STRIDE, LEAST_DECAY = 1.5, 0.05, 0.5
LARGEST_HIGH = 3.0
"""Where a condition spares harmful prompts, more can be taken away from the others."""
BOLD = (-1.0, 2.0)
LEAST_WIDTH, LARGEST_WIDTH = 0.05, 5.0


@dataclass(frozen=True)
class Strengths:
    """What strengths a condition sets: `tsdi.decoding.condition.Condition`, whose names these are.

    Attributes:
        low: Where a prompt is surely harmful; below `high`.
        high: Where it is surely harmless.
        width: Of the change between them.
    """

    low: float
    high: float
    width: float


@dataclass(frozen=True)
class Knobs:
    """A setting: step i < steps is shifted by strength x decay ** i x bias.

    Attributes:
        strength: How much of the bias is subtracted at step 0 for all prompts; None where a
            condition sets it.
        steps: Response positions at which it is.
        decay: How much is left of it from one step to the next.
        condition: What strengths the condition sets, where it does.
    """

    strength: float | None
    steps: int
    decay: float
    condition: Strengths | None = None

    @property
    def off(self) -> bool:
        """Whether it leaves the model as it is."""
        return self.strength == 0

    @property
    def removal(self) -> tuple[float, ...]:
        """How much it takes away, from harmful prompts first, to be compared in order."""
        if self.condition is not None:
            low, high = self.condition.low, self.condition.high
            return max(low, 0.0), high, abs(low), self.steps, self.decay
        assert self.strength is not None
        return self.strength, self.strength, self.strength, self.steps, self.decay

    def alike(self, other: "Knobs") -> bool:
        """Whether two settings give the same answers."""
        return self == other or (self.off and other.off)

    def of(self, bias: "SafetyBias") -> "SafetyBias":
        """The bias with this setting, but for a strength for all prompts.

        The bias has its condition where one is set.
        """
        made = bias.truncate(self.steps).decayed(self.decay)
        if self.condition is None:
            return made
        assert bias.condition is not None
        return made.with_condition(replace(bias.condition, **asdict(self.condition)))


@dataclass(frozen=True)
class Space:
    """Which settings are proposed.

    Attributes:
        steps: Response positions of the bias.
        recommended: Its recommended strength, if there is one.
        condition: What its condition sets, if there is one; then each setting sets it anew, or one
            strength for all prompts.
        decays: Whether the bias can have a decay, as one that follows the logits cannot.
    """

    steps: int
    recommended: float | None = None
    condition: Strengths | None = None
    decays: bool = True

    @classmethod
    def around(cls, bias: "SafetyBias") -> "Space":
        """The settings of a bias."""
        found = bias.condition
        own = None if found is None else Strengths(found.low, found.high, found.width)
        return cls(bias.steps, bias.info.strength, own, bias.slope is None)

    def first(self) -> Iterator[dict[str, Any]]:
        """What is tried first: the model as it is, the bias as it is, and what it recommends.

        Of a condition also a bold setting, which was best by hand where harm is easy to see.
        """
        whole = {"steps": self.steps, "decay": 1.0}
        own = self.condition
        constants = [0.0] if self.recommended is None else [0.0, self.recommended]
        if own is None:
            yield from ({"strength": _on_grid(one, 0.0, LARGEST), **whole} for one in constants)
            return
        width = min(LARGEST_WIDTH, max(LEAST_WIDTH, own.width))
        known = ((0.0, 0.0), (own.low, own.high), BOLD, *((one, one) for one in constants[1:]))
        for low, high in known:
            yield {
                "high": _on_grid(high, 0.0, LARGEST_HIGH),
                "low": _on_grid(low, -LARGEST, LARGEST),
                "width": width,
                **whole,
            }

    def propose(self, asked: "Suggested") -> Knobs:
        """The setting that Optuna suggests; of a low that is not below high, one for all."""
        if self.condition is None:
            strength = _suggest(asked, "strength", 0.0, LARGEST)
            return Knobs(strength, *self._shape(asked))
        high = _suggest(asked, "high", 0.0, LARGEST_HIGH)
        low = _suggest(asked, "low", -LARGEST, LARGEST)
        width = round(asked.suggest_float("width", LEAST_WIDTH, LARGEST_WIDTH, log=True), 3)
        if low >= high:
            return Knobs(high, *self._shape(asked))
        return Knobs(None, *self._shape(asked), Strengths(low, high, width))

    def _shape(self, asked: "Suggested") -> tuple[int, float]:
        steps = asked.suggest_int("steps", 1, self.steps)
        return steps, _suggest(asked, "decay", LEAST_DECAY, 1.0) if self.decays else 1.0


def _suggest(asked: "Suggested", name: str, least: float, largest: float) -> float:
    return round(asked.suggest_float(name, least, largest, step=STRIDE), 4)


def _on_grid(value: float, least: float, largest: float) -> float:
    return round(min(largest, max(least, round(value / STRIDE) * STRIDE)), 4)
