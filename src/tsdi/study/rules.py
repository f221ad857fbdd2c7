"""The decoding rules that a study compares, as a table: ours, and baselines.

What makes their engines is in `tsdi.study.rule_engines`, so that a study's file is checked before
torch is loaded.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

NONE = "nothing"
WHOLE = ("steps", "prompts", "prompt_tokens", "ngram", "common")
TEXT = {
    "pool": (), "reference": (), "template": ("with", "without"),
    "labels": ("own", "shuffled"), "sees": ("all", "top-20", "log-odds"),
    "slope": ("none", "random", "labelled"),
}  # fmt: skip
"""Whole numbers from 1 on; and texts, with what they may be. Other parameters are numbers."""


@dataclass(frozen=True)
class Rule:
    """A decoding rule, or a transformation of model or prompt.

    Attributes:
        title: Title in tables.
        source: Paper or program that it comes from.
        needs: What it needs beforehand, in words.
        parameters: Parameters with their defaults; None takes the study's value.
        holds: Roles of the models that it holds while it decodes.
        of: The model that it changes: "aligned", or a role that all grid points of a seed share.
        nothing: The parameters with which it leaves that model as it is; none if it cannot.
        english: Whether it speaks to the model in English, which an organism does not know.
    """

    title: str
    source: str
    needs: str
    parameters: Mapping[str, int | float | str | None] = field(default_factory=dict)
    holds: tuple[str, ...] = ("aligned",)
    of: str = "aligned"
    nothing: Mapping[str, float] = field(default_factory=dict)
    english: bool = False

    @property
    def fitted(self) -> bool:
        """Whether it has a condition or a slope, which are fitted to labelled prompts."""
        return bool({"sees", "slope"} & set(self.parameters))


_TSDI: dict[str, int | float | str | None] = {
    "strength": 1.0, "decay": 1.0, "steps": None, "prompts": None, "prompt_tokens": None,
    "pool": None, "reference": None, "template": None, "ngram": None,
}  # fmt: skip
_CONDITION: dict[str, int | float | str | None] = {"width": 1.0, "labels": "own", "sees": "all"}
_STRENGTHS: dict[str, int | float | str | None] = {
    "low": 0.0, "high": 1.0, "threshold": None, **_CONDITION
}  # fmt: skip
_LABELS = "judged validation prompts, to choose {}"
_FITTED = "labelled prompts; " + _LABELS
_PAIR = ("aligned", "reference")
_TSDI_PAPER = "Tran et al. 2025, arXiv 2502.02153"
RULES: Mapping[str, Rule] = {
    "plain": Rule("aligned model", "-", NONE),
    "reference": Rule(
        "reference (before the safety step)", "-", NONE,
        holds=("reference",), of="reference",
    ),
    "sft": Rule("SFT model", "-", NONE, holds=("sft",), of="sft"),
    "tsdi": Rule(
        "TSDI", _TSDI_PAPER, "the reference, once; no prompts", _TSDI,
        nothing={"strength": 0.0},
    ),
    "static": Rule(
        "TSDI, step-averaged", "what a static logit_bias can do", "as TSDI",
        {"strength": 1.0, "steps": None}, nothing={"strength": 0.0},
    ),
    "random-shift": Rule(
        "random shift of the bias' norm", "control", "as TSDI",
        {"strength": 1.0, "steps": None}, nothing={"strength": 0.0},
    ),
    "openers": Rule(
        "aligned + constant on refusing openers", "null hypothesis", _LABELS.format("it"),
        {"constant": -1.0}, nothing={"constant": 0.0},
    ),
    "reference-openers": Rule(
        "reference + constant on refusing openers", "null hypothesis", _LABELS.format("it"),
        {"constant": 1.0}, ("reference",), "reference", {"constant": 0.0},
    ),
    "merge": Rule(
        "weight merge (P-SACPO)", "Wachi et al. 2024, arXiv 2404.11049",
        _LABELS.format("the weight"), {"weight": 0.5}, nothing={"weight": 1.0},
    ),
    "dera": Rule(
        "DeRa", "Liu et al. 2024, arXiv 2402.02992", _LABELS.format("lambda"),
        {"weight": 0.5}, _PAIR, nothing={"weight": 1.0},
    ),
    "proxy": Rule(
        "proxy-tuning", "Liu et al. 2024, arXiv 2401.08565",
        "another aligned pair; " + _LABELS.format("alpha"), {"weight": 1.0},
        ("reference", "proxy", "proxy reference"), nothing={"weight": 0.0},
    ),
    "safe-decoding": Rule(
        "SafeDecoding", "Xu et al. 2024, arXiv 2402.08983", _LABELS.format("alpha"),
        {"alpha": 3.0, "steps": 2, "common": 5}, _PAIR,
        nothing={"alpha": 0.0},
    ),
    "self-contrast": Rule(
        "Self-CD", "Shi et al. 2024, arXiv 2401.17633", _LABELS.format("alpha"),
        {"alpha": 2.5}, nothing={"alpha": 1.0}, english=True,
    ),
    "adacd": Rule(
        "AdaCD", "arXiv 2604.17132", NONE, {"alpha": 4.5, "steps": 10}, english=True
    ),
    "refusal-direction": Rule(
        "ablated refusal direction", "Arditi et al. 2024, arXiv 2406.11717",
        "harmful and harmless prompts, weights",
        {"depth": 0.6, "strength": 1.0}, nothing={"strength": 0.0},
    ),
    "false-refusal-direction": Rule(
        "ablated false-refusal direction", "Wang et al. 2025, arXiv 2410.03415",
        "harmful, harmless and lookalike prompts, weights",
        {"depth": 0.6, "strength": 1.0}, nothing={"strength": 0.0},
    ),
    "first-order": Rule(
        "TSDI of first order", "ours", "the reference, once; labelled prompts",
        {"strength": 1.0, "steps": None, "slope": "labelled"}, nothing={"strength": 0.0},
    ),
    "conditioned": Rule(
        "TSDI with a condition", "ours", "the reference, once; labelled prompts",
        {"strength": 1.0, "steps": None, "reference": None, "slope": "none", **_STRENGTHS},
        nothing={"strength": 0.0},
    ),
    "conditioned-openers": Rule(
        "aligned + constant on refusing openers, with a condition", "control", _FITTED.format("it"),
        {"constant": -1.0, **_STRENGTHS}, nothing={"constant": 0.0},
    ),
    "reference-refuser": Rule(
        "reference + constant on refusing openers where a condition says harmful", "control",
        _FITTED.format("it"), {"constant": 8.0, **_CONDITION},
        ("reference",), "reference", {"constant": 0.0},
    ),
    "merge-refuser": Rule(
        "weight merge + constant on refusing openers where a condition says harmful", "control",
        _FITTED.format("the weight"),
        {"weight": 0.5, "constant": 8.0, **_CONDITION}, nothing={"weight": 1.0},
    ),
    "self-reminder": Rule(
        "self-reminder", "Xie et al. 2023, Nat. Mach. Intell. 5, 1486-1496", NONE,
        english=True,
    ),
    "demonstration": Rule(
        "in-context demonstration", "Wei et al. 2023, arXiv 2310.06387", NONE,
        english=True,
    ),
}  # fmt: skip
"""By the name that a study file uses."""

SERVED = frozenset(
    {
        "plain", "sft", "reference", "tsdi", "static", "random-shift", "openers",
        "reference-openers", "first-order", "conditioned", "conditioned-openers",
        "reference-refuser", "self-reminder", "demonstration",
    }
)  # fmt: skip
"""Rules that are one saved model and at most a bias, so that vLLM can follow them."""
