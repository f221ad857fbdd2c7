"""Knobs of a bias: one setting of strength or condition, steps, decay and order."""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from tsdi.decoding.condition import Condition

if TYPE_CHECKING:
    from tsdi.bias.safety_bias import SafetyBias


@dataclass(frozen=True)
class Strengths:
    """The strengths of a condition (`tsdi.decoding.condition.Condition`), and where they change.

    Attributes:
        low: Strength where a prompt is surely harmful; below `high`.
        high: Strength where a prompt is surely harmless.
        width: Width of the change between them.
        threshold: The h at which it is halfway: below 0 more prompts count as harmful.
    """

    low: float
    high: float
    width: float
    threshold: float = 0.0

    def of(self, condition: Condition) -> Condition:
        """A condition with these strengths; the threshold goes into its intercept.

        So do the scores in its evidence, which are h of held-out prompts.
        """
        evidence = dict(condition.evidence)
        if scores := evidence.get("scores"):
            evidence["scores"] = {
                kind: [round(one - self.threshold, 3) for one in some]
                for kind, some in scores.items()
            }
        return replace(
            condition,
            low=self.low,
            high=self.high,
            width=self.width,
            intercept=condition.intercept - self.threshold,
            evidence=evidence,
        )


@dataclass(frozen=True)
class Knobs:
    """One setting of a bias: step i < steps is shifted by strength x decay ** i x bias.

    Attributes:
        strength: Factor of the bias at step 0 for all prompts; None where a condition sets it.
        steps: Number of response positions that are shifted.
        decay: Factor of the strength from one step to the next.
        condition: Strengths and width of the condition; None without one.
        order: 1 with the slope of the bias, by which it follows the logits; 0 without.
    """

    strength: float | None
    steps: int
    decay: float
    condition: Strengths | None = None
    order: int = 0

    @property
    def off(self) -> bool:
        """Whether the setting leaves the model as it is."""
        return self.strength == 0

    @property
    def removal(self) -> tuple[float, ...]:
        """A sort key by how much of the bias is removed, from harmful prompts first."""
        if self.off:
            return (0.0,)
        shape = self.steps, self.decay, self.order
        if self.condition is not None:
            low, high = self.condition.low, self.condition.high
            return max(low, 0.0), high, self.condition.threshold, abs(low), *shape
        assert self.strength is not None
        return self.strength, self.strength, self.strength, *shape

    def alike(self, other: "Knobs") -> bool:
        """Whether two settings give the same answers."""
        return self == other or (self.off and other.off)

    def of(self, bias: "SafetyBias") -> "SafetyBias":
        """A bias at this setting; a strength for all prompts is left to the caller.

        The bias has its condition where one is set, and its slope at order 1.
        """
        made = bias
        if bias.slope is not None and not self.order:
            made = bias.derived(bias.values, bias.standard_error, "order 0", bias.info.reliability)
        made = made.truncate(self.steps).decayed(self.decay)
        if self.condition is None:
            return made
        assert bias.condition is not None
        return made.with_condition(self.condition.of(bias.condition))
