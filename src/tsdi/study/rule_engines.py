"""The engines of a study's decoding rules (`tsdi.study.rules`).

A rule turns a family (an aligned model and what is around it) and a setting into an engine.
"""

from collections.abc import Callable, Mapping

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
from tsdi.study.rules import RULES
from tsdi.study.settings import Setting


def _plain(role: str) -> Callable[[ModelFamily, Setting], Engine]:
    return lambda family, _setting: family.engine(role)


def tsdi_bias(family: ModelFamily, setting: Setting) -> SafetyBias:
    """The bias that `tsdi` subtracts at a setting, with its strength."""
    bias = family.bias(setting)
    decay = setting.get("decay")
    bias = bias if decay in (None, 1.0) else bias.decayed(float(decay or 0.0))
    return bias.scale(float(setting["strength"] or 0.0))


def _tsdi(family: ModelFamily, setting: Setting) -> Engine:
    return family.engine("aligned", tsdi_bias(family, setting))


def _static(family: ModelFamily, setting: Setting) -> Engine:
    bias = static_shift(family.bias(setting)).scale(float(setting["strength"] or 0.0))
    return family.engine("aligned", bias)


def _random(family: ModelFamily, setting: Setting) -> Engine:
    bias = random_shift(family.bias(setting), 0).scale(float(setting["strength"] or 0.0))
    return family.engine("aligned", bias)


def _openers(role: str) -> Callable[[ModelFamily, Setting], Engine]:
    def build(family: ModelFamily, setting: Setting) -> Engine:
        constant = float(setting["constant"] or 0.0)
        return family.engine(role, _constant_shift(family, family.model(role), constant))

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
    conditioned = shift.with_condition(family.conditions.of(name, model, setting))
    if name in family.member.paths:
        return family.engine(name, conditioned)
    return TransformersEngine(model, family.tokenizer, conditioned)  # a merge


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
    states = family.states("aligned"), family.states("reference")
    return dera_engine(*models, family.tokenizer, weight, family.chat_format, states)


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
        states=family.states("aligned"),
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
        return prompting.PromptedEngine(family.engine("aligned"), transform)

    return build


_BUILDERS: Mapping[str, Callable[[ModelFamily, Setting], Engine]] = {
    "plain": _plain("aligned"),
    "reference": _plain("reference"),
    "sft": _plain("sft"),
    "tsdi": _tsdi,
    "static": _static,
    "random-shift": _random,
    "openers": _openers("aligned"),
    "reference-openers": _openers("reference"),
    "merge": _merge,
    "dera": _dera,
    "proxy": _proxy,
    "safe-decoding": _safe_decoding,
    "self-contrast": _self_contrast,
    "adacd": _adacd,
    "refusal-direction": _refusal_direction,
    "false-refusal-direction": _false_refusal_direction,
    "first-order": _tsdi,
    "conditioned": _conditioned,
    "conditioned-openers": _conditioned_openers,
    "reference-refuser": _reference_refuser,
    "merge-refuser": _merge_refuser,
    "self-reminder": _prompted("self-reminder"),
    "demonstration": _prompted("demonstration"),
}


def build(rule: str, family: ModelFamily, setting: Setting) -> Engine:
    """The engine of a rule of `RULES` with a setting."""
    return _BUILDERS[rule](family, setting)
