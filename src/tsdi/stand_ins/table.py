"""The stand-ins by name, each with its title, its source and the function that estimates it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from tsdi.bias import SafetyBias
from tsdi.stand_ins import names
from tsdi.stand_ins.ablated import ablated_bias, partly_ablated_bias
from tsdi.stand_ins.openers import openers_bias
from tsdi.stand_ins.permissive import permissive_bias
from tsdi.stand_ins.self_contrast import self_contrast_bias
from tsdi.stand_ins.subject import Subject


@dataclass(frozen=True)
class StandIn:
    """Something that stands in for a reference.

    Attributes:
        title: What it is, in words.
        source: Paper that it comes from.
        estimate: Its bias for a model.
    """

    title: str
    source: str
    estimate: Callable[[Subject], SafetyBias]


STAND_INS: Mapping[str, StandIn] = {
    names.OPENERS: StandIn("one number on its own refusing openers", "control", openers_bias),
    names.SELF_CONTRAST: StandIn("refused minus answered prompts", "ours", self_contrast_bias),
    names.ABLATED: StandIn(
        "without its false-refusal direction", "Wang et al. 2025, arXiv 2410.03415", ablated_bias
    ),
    names.PARTLY_ABLATED: StandIn(
        "without a share of that", "Wang et al. 2025, arXiv 2410.03415", partly_ablated_bias
    ),
    names.PERMISSIVE: StandIn(
        "under a permissive system prompt", "Shi et al. 2024, arXiv 2401.17633", permissive_bias
    ),
}
