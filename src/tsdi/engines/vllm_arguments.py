"""Arguments of requests to vLLM: how much of the bias each of them gets, and where.

Offline ``SamplingParams(extra_args={"tsdi_strength": 0.5})``, in the server's JSON ``"vllm_xargs":
{"tsdi_strength": 0.5}``. What a request does not say is as the server has it.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from math import inf
from typing import Any

from tsdi.arguments import is_number
from tsdi.bias.knobs import Knobs
from tsdi.decoding.condition import WIDTHS
from tsdi.decoding.rule import LARGEST_STRENGTH, check_strength
from tsdi.errors import UsageError
from tsdi.yaml_file import meant

PREFIX = "tsdi_"


@dataclass(frozen=True)
class Asked:
    """The setting that a request asks for; None is as the server has it.

    Attributes:
        strength: Strength for this prompt, 0 being off.
        low: Strength that the bias's condition sets where the prompt is surely harmful, given
            together with `high`.
        high: Strength where it is surely harmless.
        width: Width of the change between them.
        threshold: The condition's score at which it is halfway between them; 0 is its own.
        steps: Number of response tokens that are shifted, at most those of the bias.
        decay: Factor of the strength from one token to the next.
        order: 0 leaves out the slope of a bias of first order.
    """

    strength: float | None = None
    low: float | None = None
    high: float | None = None
    width: float | None = None
    threshold: float | None = None
    steps: int | None = None
    decay: float | None = None
    order: int | None = None

    @classmethod
    def read(cls, extra_args: Mapping[str, Any] | None) -> "Asked":
        """Read the arguments of a request; those of others are left aside.

        Raises:
            ValueError: If a name is misspelt, a value is none, or two exclude each other.
        """
        found: dict[str, Any] = {}
        for name, value in (extra_args or {}).items():
            if not name.lower().startswith("tsdi"):
                continue
            key = name.removeprefix(PREFIX)
            if key not in _CHECKS or key == name:
                names = [PREFIX + one for one in _CHECKS]
                raise ValueError(
                    f"There is no argument {name!r}{meant(name, names)}; there are"
                    f" {', '.join(names)}."
                )
            if value is not None:
                found[key] = _checked(key, value)
        asked = cls(**found)
        asked._check_together()
        return asked

    @classmethod
    def of(cls, knobs: Knobs) -> "Asked":
        """A setting of `tune`, all of which the request then says."""
        by = {} if knobs.condition is None else asdict(knobs.condition)
        return cls(knobs.strength, **by, steps=knobs.steps, decay=knobs.decay, order=knobs.order)

    @property
    def by_prompt(self) -> bool:
        """Whether the condition is to set the strength."""
        return any(one is not None for one in (self.low, self.width, self.threshold))

    def at_strength(self, strength: float) -> "Asked":
        """The setting with one strength, whatever its condition would set."""
        return Asked(strength, steps=self.steps, decay=self.decay, order=self.order)

    def arguments(self) -> dict[str, Any]:
        """The arguments of a request that ask for this."""
        return {PREFIX + key: value for key, value in asdict(self).items() if value is not None}

    def _check_together(self) -> None:
        if (self.low is None) != (self.high is None):
            raise ValueError("tsdi_low and tsdi_high go together.")
        if self.low is not None and self.high is not None and self.low > self.high:
            raise ValueError(f"tsdi_low {self.low:g} is above tsdi_high {self.high:g}.")
        if self.strength is not None and self.by_prompt:
            raise ValueError(
                "Either tsdi_strength, or tsdi_low, tsdi_high, tsdi_width and tsdi_threshold."
            )


def _checked(key: str, value: Any) -> float | int:
    """The value of an argument; raises ValueError if it is none."""
    least, most, what = _CHECKS[key]
    if key == "strength":
        try:
            return check_strength(value)
        except UsageError as error:
            raise ValueError(f"{PREFIX}{key}: {error}") from error
    whole = isinstance(value, float) and value.is_integer()  # JSON of some clients
    number: Any = int(value) if what == "a whole number" and whole else value
    wanted = isinstance(number, int) if what == "a whole number" else True
    if not is_number(number) or not wanted or not least <= number <= most:
        raise ValueError(f"{PREFIX}{key} is {what} from {least:g} to {most:g}, not {value!r}.")
    return number


_CHECKS = {
    "strength": (0.0, LARGEST_STRENGTH, "a number"),
    "low": (-LARGEST_STRENGTH, LARGEST_STRENGTH, "a number"),
    "high": (-LARGEST_STRENGTH, LARGEST_STRENGTH, "a number"),
    "width": (*WIDTHS, "a number"),
    "threshold": (-1e6, 1e6, "a number"),
    "steps": (1, inf, "a whole number"),
    "decay": (0.0, 1.0, "a number"),
    "order": (0, 1, "a whole number"),
}
"""The least and largest value of every argument, and what it is."""
