"""The result of debiasing a model: the bias to use, or the reason why there is none."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tsdi.bias import SafetyBias
from tsdi.evaluation.compare import Comparison
from tsdi.evaluation.gate import Gated

BIAS, REPORT = "bias", "report.html"
"""The folder of the bias that passed the gate, in that of the run."""


@dataclass(frozen=True)
class Debiased:
    """The result of debiasing a model.

    Attributes:
        out: The folder of the run.
        why_not: The reason why there is no bias to use, in a sentence; "" if there is one.
        tuned: The tuned bias, with the evidence of its search; None if there was nothing to remove.
        gated: The model as it is and debiased, compared on the test prompts, plainly and under
            each attack; None if no setting was better than doing nothing.
        attacks: The attacks that prompts were asked under.
        together: Categories with too few prompts each, which were looked at as one.
        prompts: Numbers of prompts by part and kind.
        condition: Sentences on the condition that was fitted.
        attacked: The comparison under each attack, by its name.
        stand_in: What stood in for a reference, in words; "" where there was one.
    """

    out: Path
    why_not: str
    tuned: SafetyBias | None
    gated: Gated | None
    attacks: tuple[str, ...]
    together: tuple[str, ...]
    prompts: Mapping[str, Mapping[str, int]]
    condition: tuple[str, ...] = ()
    attacked: Mapping[str, Comparison] = field(default_factory=dict)
    stand_in: str = ""

    @property
    def bias(self) -> Path | None:
        """The folder of the bias to use; None if there is none."""
        return None if self.why_not else self.out / BIAS

    @property
    def chosen(self) -> str:
        """The setting that was chosen, in words; "" if nothing was tuned."""
        if self.tuned is None:
            return ""
        steps = f"{self.tuned.steps} steps"
        if found := self.tuned.condition:
            return (
                f"strength by prompt, from {found.low:g} where it is surely harmful to"
                f" {found.high:g} where it is surely harmless (width {found.width:g}), {steps}"
            )
        return f"strength {self.tuned.info.strength:g} for all prompts, {steps}"

    def to_dict(self) -> dict[str, Any]:
        """The result as JSON."""
        return {
            "out": str(self.out),
            "bias": None if self.bias is None else str(self.bias),
            "report": str(self.out / REPORT),
            "gate_opens": None if self.gated is None else self.gated.opens,
            "why_not": self.why_not,
            "chosen": self.chosen,
            "stand_in": self.stand_in,
            "condition": list(self.condition),
            "tuning": self.tuned.info.tuning if self.tuned else None,
            "comparison": self.gated.to_dict() if self.gated else None,
            "attacked": {name: found.to_dict() for name, found in self.attacked.items()},
            "attacks": list(self.attacks),
            "looked_at_together": list(self.together),
            "prompts": {part: dict(kinds) for part, kinds in self.prompts.items()},
        }
