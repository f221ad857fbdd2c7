"""Engines opened by name of model and bias, for commands and harnesses."""

import json
import logging
from dataclasses import replace

from transformers import PreTrainedTokenizerBase

from tsdi.bias import SafetyBias
from tsdi.decoding.condition import Condition
from tsdi.decoding.rule import check_strength
from tsdi.engines.base import Engine
from tsdi.engines.choice import EngineChoice, Used
from tsdi.engines.llama_cpp import LlamaCppEngine, open_llama
from tsdi.engines.openai import ChatClient
from tsdi.engines.server import ServerEngine
from tsdi.engines.transformers import TransformersEngine
from tsdi.engines.vllm import VllmEngine, dtype_of, open_llm
from tsdi.errors import UsageError
from tsdi.models.chat import OWN_TEMPLATE, ChatFormat, check_format, describe_without_template
from tsdi.models.fingerprint import fingerprint
from tsdi.models.load import LoadOptions, load_model, load_tokenizer
from tsdi.models.names import check_no_export, locate

Rule = tuple[PreTrainedTokenizerBase, SafetyBias | None, float | None, ChatFormat]
"""Tokenizer, bias, strength and chat format of an engine."""

_LOG = logging.getLogger(__name__)


def open_engine(
    model: str,
    bias: str | None = None,
    strength: float | None = None,
    chat: ChatFormat = OWN_TEMPLATE,
    options: LoadOptions = LoadOptions(),
    choice: EngineChoice = EngineChoice(),
) -> tuple[Engine, Used]:
    """Load a model, and a bias if one is named, into an engine.

    Names are as for `tsdi.generate`. A strength of None leaves it to the bias's condition, or takes
    what the bias recommends; a bias brings its own chat format.

    Returns:
        The engine, and what decides its answers, for the provenance.

    Raises:
        UsageError: If options do not fit together.
        TsdiError: If model or bias cannot be loaded, or do not fit.
    """
    choice.check()
    if strength is not None:
        check_strength(strength)
    if choice.name == "openai":
        return _server(model, bias, strength, chat, choice)
    tokenizer_name = tokenizer_of(model, bias, choice)
    tokenizer = load_tokenizer(tokenizer_name, options)
    vector = None
    if bias is None:
        _check_without_bias(model, strength, choice)
    else:
        vector = _read_bias(bias, tokenizer, chat)
        chat, strength = vector.info.chat_format, _named(vector, strength)
    check_format(tokenizer, chat)  # before weights are loaded
    if tokenizer.chat_template is None:
        _LOG.info("Prompts are wrapped in %s.", describe_without_template(chat))
    rule = tokenizer, vector, strength, chat
    engine, loaded = load_engine(model, bias, options, choice, rule)
    if vector is not None:
        vector.note_other(model)
    used: Used = {"model": model, **loaded, "fingerprint": fingerprint(model)}
    if tokenizer_name != model:
        used["tokenizer_fingerprint"] = fingerprint(tokenizer_name)
    used |= {**describe_bias(bias, vector), **_describe_strength(vector, strength)}
    return engine, used | _describe_chat(chat) | choice.describe()


def _check_without_bias(model: str, strength: float | None, choice: EngineChoice) -> None:
    if strength is not None:
        raise UsageError("--strength needs --bias.")
    if choice.name != "llama-cpp":  # whose models are files
        check_no_export(model)


def describe_bias(bias: str | None, vector: SafetyBias | None) -> Used:
    """The provenance of a bias, with its end-of-thinking marker if it has one."""
    if vector is None:
        return {"bias": None, "bias_sha256": None}
    anchor = {"end_of_thinking": vector.info.anchor} if vector.info.anchor else {}
    return {"bias": bias, "bias_sha256": vector.sha256, **anchor}


def _describe_strength(vector: SafetyBias | None, strength: float | None) -> Used:
    if vector is None or vector.condition is None or strength is not None:
        return {"strength": strength}
    return {"strength": None, "condition_sha256": vector.condition.sha256}


def _read_bias(bias: str, tokenizer: PreTrainedTokenizerBase, chat: ChatFormat) -> SafetyBias:
    """Load a bias and check it against tokenizer and chat format."""
    check_format(tokenizer, chat)  # before the advice to estimate a bias for it
    vector = SafetyBias.from_pretrained(bias, tokenizer=tokenizer)
    own = vector.info.chat_format
    for option, asked, kept in (
        ("prompt-format", chat.prompt_format, own.prompt_format),
        ("template-arg", chat.template_args, own.template_args),
    ):
        if asked and asked != kept:
            shown = json.dumps(kept) if kept else "none"
            raise UsageError(
                f"The bias was estimated with another --{option}: {shown}.",
                f"Leave out --{option}, or estimate a bias for it.",
            )
    return vector


def _named(bias: SafetyBias, asked: float | None) -> float | None:
    """The strength for all prompts; None where the bias's condition sets one for each."""
    strength = bias.strength_or_condition(asked)
    if isinstance(strength, Condition):
        _LOG.info(
            "Strength by prompt, %g where it is harmful to %g where it is not, as the bias's"
            " condition says.",
            strength.low,
            strength.high,
        )
        return None
    if asked is None:
        _LOG.info("Strength %g, as the bias recommends.", strength)
    return strength


def load_engine(
    model: str, bias: str | None, options: LoadOptions, choice: EngineChoice, rule: Rule
) -> tuple[Engine, Used]:
    """An engine with its model, and the model's part of the provenance.

    Raises:
        TsdiError: If the model cannot be loaded, or the rule does not fit it.
    """
    if choice.name == "llama-cpp":
        return LlamaCppEngine(open_llama(model, **choice.args), *rule), {}
    revision = locate(model).revision
    if choice.name == "vllm":
        options = replace(options, dtype=dtype_of(model, options))
        engine = VllmEngine(open_llm(model, options, bias, rule[2], **choice.args), *rule)
        return engine, {"revision": revision, "dtype": options.dtype}
    loaded = load_model(model, options, choice.args)
    commit = getattr(loaded.config, "_commit_hash", None)
    used: Used = {"revision": revision or commit, "dtype": str(loaded.dtype)}
    if hasattr(loaded, "peft_config"):
        used["base_revision"] = commit
    return TransformersEngine(loaded, *rule), used


def tokenizer_of(model: str, bias: str | None, choice: EngineChoice) -> str:
    """The name of the tokenizer; a GGUF file needs one, by option or from the bias.

    Raises:
        UsageError: If a GGUF file has neither.
    """
    if choice.name != "llama-cpp":
        return model
    if choice.tokenizer is not None:
        return choice.tokenizer
    if bias is None:
        raise UsageError(
            "llama.cpp needs the tokenizer of the model that the GGUF file was converted from.",
            "Name it: --engine-arg tokenizer=acme/model.",
        )
    return SafetyBias.from_pretrained(bias).info.aligned


def _server(
    model: str, bias: str | None, strength: float | None, chat: ChatFormat, choice: EngineChoice
) -> tuple[Engine, Used]:
    if bias is not None:
        raise UsageError(
            "A server has its bias itself.",
            "Start it with tsdi serve MODEL --bias BIAS; --strength asks for another strength.",
        )
    client = ChatClient(model, choice.url)
    used: Used = {"model": model, "engine": choice.name, "url": client.url, "strength": strength}
    return ServerEngine(client, strength, chat), used | _describe_chat(chat)


def _describe_chat(chat: ChatFormat) -> Used:
    described: Used = {"prompt_format": chat.prompt_format}
    if chat.template_args:
        described["template_args"] = json.dumps(dict(chat.template_args), sort_keys=True)
    return described
