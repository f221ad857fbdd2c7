"""The decoding rules that a study compares: TSDI and baselines, behind one interface.

A rule turns a family (an aligned model and what is around it) and a setting into an engine. What
it needs besides the aligned model is said in words, and as the models that it holds while it
decodes.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from torch import Tensor
from transformers import PreTrainedModel

from tsdi.baselines import prompting
from tsdi.baselines.directions import AblatedEngine, false_refusal_direction, refusal_direction
from tsdi.baselines.engine import (
    adacd_engine,
    dera_engine,
    proxy_engine,
    safe_decoding_engine,
    self_contrast_engine,
)
from tsdi.baselines.shifts import constant_shift, random_shift, static_shift
from tsdi.baselines.weights import merged
from tsdi.bias import SafetyBias
from tsdi.engines.base import Engine
from tsdi.engines.transformers import TransformersEngine
from tsdi.study.family import ModelFamily
from tsdi.study.settings import Setting

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
    """A decoding rule, or a transformation of model or prompt, that makes an engine.

    Attributes:
        title: Title in tables.
        source: Paper or program that it comes from.
        needs: What it needs beforehand, in words.
        build: Makes the engine.
        parameters: Parameters with their defaults; None takes the study's value.
        holds: Roles of the models that it holds while it decodes.
        of: The model that it changes: "aligned", or a role that all grid points of a seed share.
        nothing: The parameters with which it leaves that model as it is; none if it cannot.
        english: Whether it speaks to the model in English, which an organism does not know.
    """

    title: str
    source: str
    needs: str
    build: Callable[[ModelFamily, Setting], Engine]
    parameters: Mapping[str, int | float | str | None] = field(default_factory=dict)
    holds: tuple[str, ...] = ("aligned",)
    of: str = "aligned"
    nothing: Mapping[str, float] = field(default_factory=dict)
    english: bool = False

    @property
    def fitted(self) -> bool:
        """Whether it has a condition or a slope, which are fitted to labelled prompts."""
        return bool({"sees", "slope"} & set(self.parameters))


def _transformers(family: ModelFamily, role: str, bias: SafetyBias | None = None) -> Engine:
    return TransformersEngine(family.model(role), family.tokenizer, bias, 1.0, family.chat_format)


def _plain(role: str) -> Callable[[ModelFamily, Setting], Engine]:
    return lambda family, _setting: _transformers(family, role)


def tsdi_bias(family: ModelFamily, setting: Setting) -> SafetyBias:
    """The bias that `tsdi` subtracts at a setting, with its strength."""
    bias = family.bias(setting)
    decay = setting.get("decay")
    bias = bias if decay in (None, 1.0) else bias.decayed(float(decay or 0.0))
    return bias.scale(float(setting["strength"] or 0.0))


def _tsdi(family: ModelFamily, setting: Setting) -> Engine:
    return _transformers(family, "aligned", tsdi_bias(family, setting))


def _static(family: ModelFamily, setting: Setting) -> Engine:
    bias = static_shift(family.bias(setting)).scale(float(setting["strength"] or 0.0))
    return _transformers(family, "aligned", bias)


def _random(family: ModelFamily, setting: Setting) -> Engine:
    bias = random_shift(family.bias(setting), 0).scale(float(setting["strength"] or 0.0))
    return _transformers(family, "aligned", bias)


def _openers(role: str) -> Callable[[ModelFamily, Setting], Engine]:
    def build(family: ModelFamily, setting: Setting) -> Engine:
        constant = float(setting["constant"] or 0.0)
        return _transformers(family, role, _constant_shift(family, family.model(role), constant))

    return build


def _constant_shift(family: ModelFamily, model: PreTrainedModel, constant: float) -> SafetyBias:
    """A bias that adds a constant to refusing openers."""
    openers = family.openers[0]
    return constant_shift(family.tokenizer, model, openers, constant, family.chat_format)


def _merged(family: ModelFamily, weight: float) -> PreTrainedModel:
    return merged(family.model("aligned"), family.model("reference"), weight)


def _merge(family: ModelFamily, setting: Setting) -> Engine:
    model = _merged(family, float(setting["weight"] or 0.0))
    return TransformersEngine(model, family.tokenizer, chat_format=family.chat_format)


def _with_condition(
    family: ModelFamily, name: str, model: PreTrainedModel, shift: SafetyBias, setting: Setting
) -> Engine:
    """An engine whose shift is scaled by a condition on the model's own logits."""
    condition = family.conditions.of(name, model, setting)
    return TransformersEngine(model, family.tokenizer, shift.with_condition(condition))


def _conditioned(family: ModelFamily, setting: Setting) -> Engine:
    model = family.model("aligned")
    return _with_condition(family, "aligned", model, tsdi_bias(family, setting), setting)


def _conditioned_openers(family: ModelFamily, setting: Setting) -> Engine:
    model = family.model("aligned")
    shift = _constant_shift(family, model, float(setting["constant"] or 0.0))
    return _with_condition(family, "aligned", model, shift, setting)


def _refuser(
    family: ModelFamily, name: str, model: PreTrainedModel, constant: float, setting: Setting
) -> Engine:
    """An engine that adds a constant to refusing openers where a condition says harmful."""
    shift = _constant_shift(family, model, -constant)
    switch = {**setting, "low": -1.0, "high": 0.0}
    return _with_condition(family, name, model, shift, switch)


def _reference_refuser(family: ModelFamily, setting: Setting) -> Engine:
    constant = float(setting["constant"] or 0.0)
    return _refuser(family, "reference", family.model("reference"), constant, setting)


def _merge_refuser(family: ModelFamily, setting: Setting) -> Engine:
    weight, constant = float(setting["weight"] or 0.0), float(setting["constant"] or 0.0)
    model = _merged(family, weight)
    # The less is left of the alignment, the more refuses in its place: weight 1 is as it was.
    return _refuser(family, f"merge {weight}", model, (1 - weight) * constant, setting)


def _dera(family: ModelFamily, setting: Setting) -> Engine:
    models = family.model("aligned"), family.model("reference")
    weight = float(setting["weight"] or 0.0)
    return dera_engine(*models, family.tokenizer, weight, family.chat_format)


def _proxy(family: ModelFamily, setting: Setting) -> Engine:
    base, expert, antiexpert = (family.model(role) for role in RULES["proxy"].holds)
    weight = float(setting["weight"] or 0.0)
    return proxy_engine(base, expert, antiexpert, family.tokenizer, weight, family.chat_format)


def _safe_decoding(family: ModelFamily, setting: Setting) -> Engine:
    return safe_decoding_engine(
        family.model("reference"),
        family.model("aligned"),
        family.tokenizer,
        float(setting["alpha"] or 0.0),
        steps=int(setting["steps"] or 0),
        common=int(setting["common"] or 0),
        chat_format=family.chat_format,
    )


def _self_contrast(family: ModelFamily, setting: Setting) -> Engine:
    alpha = float(setting["alpha"] or 0.0)
    model = family.model("aligned")
    return self_contrast_engine(model, family.tokenizer, alpha, family.chat_format)


def _adacd(family: ModelFamily, setting: Setting) -> Engine:
    return adacd_engine(
        family.model("aligned"),
        family.tokenizer,
        float(setting["alpha"] or 0.0),
        steps=int(setting["steps"] or 0),
        chat_format=family.chat_format,
    )


def _refusal_direction(family: ModelFamily, setting: Setting) -> Engine:
    harmful, harmless = (family.mean_activation(k, _layer(family, setting)) for k in _CONTRAST)
    direction = refusal_direction(harmful, harmless)
    return _ablated(family, setting, direction)


def _false_refusal_direction(family: ModelFamily, setting: Setting) -> Engine:
    layer = _layer(family, setting)
    harmful, harmless, lookalike = (
        family.mean_activation(kind, layer) for kind in (*_CONTRAST, "lookalike")
    )
    refusal = refusal_direction(harmful, harmless)
    direction = false_refusal_direction(lookalike, harmless, refusal)
    return _ablated(family, setting, direction)


def _ablated(family: ModelFamily, setting: Setting, direction: Tensor) -> Engine:
    strength = float(setting["strength"] or 0.0)
    model = family.model("aligned")
    return AblatedEngine(model, family.tokenizer, direction, strength, family.chat_format)


_CONTRAST = ("harmful", "harmless")


def _layer(family: ModelFamily, setting: Setting) -> int:
    """The index of the layer at a share of the model's depth."""
    layers = int(family.model("aligned").config.get_text_config().num_hidden_layers)
    return max(1, min(layers - 1, round(float(setting["depth"] or 0.0) * layers)))


def _prompted(name: str) -> Callable[[ModelFamily, Setting], Engine]:
    def build(family: ModelFamily, _setting: Setting) -> Engine:
        transform = {
            "self-reminder": prompting.self_reminder,
            "demonstration": prompting.in_context_demonstration,
        }[name]
        return prompting.PromptedEngine(_transformers(family, "aligned"), transform)

    return build


_TSDI: dict[str, int | float | str | None] = {
    "strength": 1.0, "decay": 1.0, "steps": None, "prompts": None, "prompt_tokens": None,
    "pool": None, "reference": None, "template": None, "ngram": None,
}  # fmt: skip
_CONDITION: dict[str, int | float | str | None] = {"width": 1.0, "labels": "own", "sees": "all"}
_STRENGTHS: dict[str, int | float | str | None] = {"low": 0.0, "high": 1.0, **_CONDITION}
_LABELS = "judged validation prompts, to choose {}"
_FITTED = "labelled prompts; " + _LABELS
_PAIR = ("aligned", "reference")
_TSDI_PAPER = "Tran et al. 2025, arXiv 2502.02153"
RULES: Mapping[str, Rule] = {
    "plain": Rule("aligned model", "-", NONE, _plain("aligned")),
    "reference": Rule(
        "reference (before the safety step)", "-", NONE, _plain("reference"),
        holds=("reference",), of="reference",
    ),
    "sft": Rule("SFT model", "-", NONE, _plain("sft"), holds=("sft",), of="sft"),
    "tsdi": Rule(
        "TSDI", _TSDI_PAPER, "the reference, once; no prompts", _tsdi, _TSDI,
        nothing={"strength": 0.0},
    ),
    "static": Rule(
        "TSDI, step-averaged", "what a static logit_bias can do", "as TSDI", _static,
        {"strength": 1.0, "steps": None}, nothing={"strength": 0.0},
    ),
    "random-shift": Rule(
        "random shift of the bias' norm", "control", "as TSDI", _random,
        {"strength": 1.0, "steps": None}, nothing={"strength": 0.0},
    ),
    "openers": Rule(
        "aligned + constant on refusing openers", "null hypothesis", _LABELS.format("it"),
        _openers("aligned"), {"constant": -1.0}, nothing={"constant": 0.0},
    ),
    "reference-openers": Rule(
        "reference + constant on refusing openers", "null hypothesis", _LABELS.format("it"),
        _openers("reference"), {"constant": 1.0}, ("reference",), "reference", {"constant": 0.0},
    ),
    "merge": Rule(
        "weight merge (P-SACPO)", "Wachi et al. 2024, arXiv 2404.11049",
        _LABELS.format("the weight"), _merge, {"weight": 0.5}, nothing={"weight": 1.0},
    ),
    "dera": Rule(
        "DeRa", "Liu et al. 2024, arXiv 2402.02992", _LABELS.format("lambda"), _dera,
        {"weight": 0.5}, _PAIR, nothing={"weight": 1.0},
    ),
    "proxy": Rule(
        "proxy-tuning", "Liu et al. 2024, arXiv 2401.08565",
        "another aligned pair; " + _LABELS.format("alpha"), _proxy, {"weight": 1.0},
        ("reference", "proxy", "proxy reference"), nothing={"weight": 0.0},
    ),
    "safe-decoding": Rule(
        "SafeDecoding", "Xu et al. 2024, arXiv 2402.08983", _LABELS.format("alpha"),
        _safe_decoding, {"alpha": 3.0, "steps": 2, "common": 5}, _PAIR,
        nothing={"alpha": 0.0},
    ),
    "self-contrast": Rule(
        "Self-CD", "Shi et al. 2024, arXiv 2401.17633", _LABELS.format("alpha"), _self_contrast,
        {"alpha": 2.5}, nothing={"alpha": 1.0}, english=True,
    ),
    "adacd": Rule(
        "AdaCD", "arXiv 2604.17132", NONE, _adacd, {"alpha": 4.5, "steps": 10}, english=True
    ),
    "refusal-direction": Rule(
        "ablated refusal direction", "Arditi et al. 2024, arXiv 2406.11717",
        "harmful and harmless prompts, weights", _refusal_direction,
        {"depth": 0.6, "strength": 1.0}, nothing={"strength": 0.0},
    ),
    "false-refusal-direction": Rule(
        "ablated false-refusal direction", "Wang et al. 2025, arXiv 2410.03415",
        "harmful, harmless and lookalike prompts, weights", _false_refusal_direction,
        {"depth": 0.6, "strength": 1.0}, nothing={"strength": 0.0},
    ),
    "first-order": Rule(
        "TSDI of first order", "ours", "the reference, once; labelled prompts", _tsdi,
        {"strength": 1.0, "steps": None, "slope": "labelled"}, nothing={"strength": 0.0},
    ),
    "conditioned": Rule(
        "TSDI with a condition", "ours", "the reference, once; labelled prompts", _conditioned,
        {"strength": 1.0, "steps": None, "slope": "none", **_STRENGTHS}, nothing={"strength": 0.0},
    ),
    "conditioned-openers": Rule(
        "aligned + constant on refusing openers, with a condition", "control", _FITTED.format("it"),
        _conditioned_openers, {"constant": -1.0, **_STRENGTHS}, nothing={"constant": 0.0},
    ),
    "reference-refuser": Rule(
        "reference + constant on refusing openers where a condition says harmful", "control",
        _FITTED.format("it"), _reference_refuser, {"constant": 8.0, **_CONDITION},
        ("reference",), "reference", {"constant": 0.0},
    ),
    "merge-refuser": Rule(
        "weight merge + constant on refusing openers where a condition says harmful", "control",
        _FITTED.format("the weight"), _merge_refuser,
        {"weight": 0.5, "constant": 8.0, **_CONDITION}, nothing={"weight": 1.0},
    ),
    "self-reminder": Rule(
        "self-reminder", "Xie et al. 2023, Nat. Mach. Intell. 5, 1486-1496", NONE,
        _prompted("self-reminder"), english=True,
    ),
    "demonstration": Rule(
        "in-context demonstration", "Wei et al. 2023, arXiv 2310.06387", NONE,
        _prompted("demonstration"), english=True,
    ),
}  # fmt: skip
"""By the name that a study file uses."""
