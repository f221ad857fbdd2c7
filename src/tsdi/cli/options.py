"""What commands that generate share: their options, and the engine that comes of them."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tsdi.cli import console
from tsdi.errors import UsageError
from tsdi.files import parse_json

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from tsdi.bias import SafetyBias
    from tsdi.engines.base import Engine
    from tsdi.models.chat import ChatFormat
    from tsdi.models.load import LoadOptions

PromptsOption = Annotated[
    str | None,
    typer.Option(
        metavar="WHAT",
        help="FILE (.jsonl, .json, .csv, .txt, also .gz); SUITE or SUITE:FILE (see tsdi suites);"
        " hub:ORG/NAME[/CONFIG][@REVISION][:SPLIT]; organism:test or organism:validation.",
    ),
]
ColumnsOption = Annotated[
    str,
    typer.Option(
        metavar="FIELD=COLUMN,...",
        help="Where a file or hub data set holds prompt, category, id and kind, if they have other"
        " names: prompt=Goal,category=Category.",
    ),
]
BiasOption = Annotated[
    str | None, typer.Option(help="Folder or hub id of a safety bias to subtract.")
]
StrengthOption = Annotated[
    float | None, typer.Option(help="How much of it; default: what the bias recommends.")
]
MaxNewTokensOption = Annotated[int, typer.Option(min=1, help="Most tokens in an answer.")]
TemperatureOption = Annotated[float, typer.Option(min=0.0, help="0 is greedy decoding.")]
BatchSizeOption = Annotated[int, typer.Option(min=1, help="Prompts answered together.")]
PromptFormatOption = Annotated[
    str | None, typer.Option(help="Instead of the chat template: '... {prompt} ...'.")
]
TemplateArgOption = Annotated[
    list[str] | None,
    typer.Option(
        metavar="KEY=VALUE",
        help="Argument of the chat template, enable_thinking=false or reasoning_effort=low; may be"
        " given again.",
    ),
]
DtypeOption = Annotated[str, typer.Option(help="auto, float32, bfloat16 or float16.")]
DeviceMapOption = Annotated[str | None, typer.Option(help="As in transformers: auto, cuda:1.")]
TrustRemoteCodeOption = Annotated[
    bool, typer.Option("--trust-remote-code", help="Run code that comes with the model.")
]
JudgeUrlOption = Annotated[
    str | None,
    typer.Option(help="Base URL of a judge's OpenAI-compatible API; default: OPENAI_BASE_URL."),
]
JudgeLabelsOption = Annotated[
    str | None,
    typer.Option(
        metavar="LABEL=VERDICT,...", help="What a classifier's labels mean: toxic=UNSAFE,ok=SAFE."
    ),
]
EndOfThinkingOption = Annotated[
    str,
    typer.Option(
        metavar="MARKER",
        help="How a reasoning model's thoughts end, if not with </think> and the like; judged is"
        " what follows the last one.",
    ),
]
AttackOption = Annotated[
    str | None,
    typer.Option(help="Transform the prompts by a simple public attack (see tsdi suites)."),
]
ENGINES = ("transformers", "vllm", "llama-cpp", "openai")
EngineOption = Annotated[
    str,
    typer.Option(
        help="What answers: transformers, vllm, llama-cpp (MODEL is a GGUF file), openai (a server"
        " that runs; MODEL is its name for the model)."
    ),
]
UrlOption = Annotated[
    str | None,
    typer.Option(help="Base URL of the server, for --engine openai; default: OPENAI_BASE_URL."),
]
TokenizerOption = Annotated[
    str | None,
    typer.Option(help="Tokenizer of the model behind a GGUF file, for --engine llama-cpp."),
]
ResumeOption = Annotated[bool, typer.Option("--resume", help="Go on with a killed run.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


def check_strength(strength: float | None) -> None:
    """Raise UsageError unless a strength is left open or can be one."""
    from tsdi.decoding import rule

    if strength is not None:
        rule.check_strength(strength)


def read_chat_format(prompt_format: str | None, template_arg: Sequence[str] | None) -> "ChatFormat":
    """How chats become text, from the command line; values are JSON, else texts.

    Raises:
        UsageError: If an argument has no name or is given twice, or the format is none.
    """
    from tsdi.models.chat import ChatFormat

    template_args: dict[str, Any] = {}
    for text in template_arg or ():
        name, equals, value = text.partition("=")
        if not name.isidentifier() or not equals or name in template_args:
            raise UsageError(
                f"--template-arg {text!r} is no argument, or a second one of its name.",
                "Write it like enable_thinking=false, each name once.",
            )
        try:
            template_args[name] = parse_json(value)
        except ValueError:
            template_args[name] = value
    return ChatFormat(prompt_format, template_args)


def under_attack(
    engine: "Engine", attack: str | None
) -> "tuple[Engine, dict[str, str | float | None]]":
    """An engine that is asked transformed prompts, and what to add to the provenance.

    Raises:
        UsageError: If there is no such attack.
    """
    from tsdi.baselines.prompting import PromptedEngine
    from tsdi.suites.attacks import find_attack

    if attack is None:
        return engine, {}
    return PromptedEngine(engine, find_attack(attack).transform), {"attack": attack}


@dataclass(frozen=True)
class EngineChoice:
    """Which engine answers.

    Attributes:
        name: One of `ENGINES`.
        url: Base URL of a server, for "openai".
        tokenizer: Folder or hub id of the tokenizer, for "llama-cpp".
    """

    name: str = "transformers"
    url: str | None = None
    tokenizer: str | None = None

    def check(self) -> None:
        """Raise UsageError for an unknown engine, or an option that belongs to another one."""
        if self.name not in ENGINES:
            raise UsageError(f"There is no engine {self.name!r}.", f"Take {', '.join(ENGINES)}.")
        for option, owner in (("url", "openai"), ("tokenizer", "llama-cpp")):
            if getattr(self, option) is not None and self.name != owner:
                raise UsageError(f"--{option} is for --engine {owner}.", "Leave it out.")


def open_engine(
    model: str,
    bias: str | None,
    strength: float | None,
    chat_format: "ChatFormat",
    options: "LoadOptions",
    choice: EngineChoice = EngineChoice(),
) -> "tuple[Engine, dict[str, str | float | None]]":
    """Load a model, and a bias if one is named, into an engine.

    Args:
        model: Folder or hub id of a model or adapter, or the name of a shipped model; a GGUF file
            for llama.cpp; for a server, what it calls the model.
        bias: Folder or hub id of a safety bias.
        strength: How much of it to subtract; None takes what the bias recommends.
        chat_format: How chats become text; a bias brings its own.
        options: How weights are loaded.
        choice: The engine.

    Returns:
        The engine, and what decides its answers, for the provenance.

    Raises:
        UsageError: If options do not fit together.
        TsdiError: If model or bias cannot be loaded, or do not fit.
    """
    from tsdi.models.chat import check_format, describe_format
    from tsdi.models.load import load_tokenizer
    from tsdi.models.shipped import resolve_dtype, resolve_model

    choice.check()
    check_strength(strength)
    console.quiet_libraries()
    if choice.name == "openai":
        return _server(model, bias, strength, chat_format, choice)
    source = resolve_model(model)
    options = replace(options, dtype=resolve_dtype(model, options.dtype))
    tokenizer = load_tokenizer(_tokenizer_of(source, bias, choice), options)
    vector = None
    if bias is not None:
        vector = _read_bias(bias, tokenizer, chat_format)
        chat_format = vector.info.chat_format
        if strength is None:
            strength = vector.strength_or_recommended(None)
            console.note(f"Strength {strength:g}, as the bias recommends.")
    else:
        _check_without_bias(source, strength, choice)
    check_format(tokenizer, chat_format)  # before weights are loaded
    if tokenizer.chat_template is None:
        console.note(f"Prompts are wrapped in {describe_format(tokenizer, chat_format)}.")
    rule = (tokenizer, vector, strength, chat_format)
    engine, loaded = _load(choice.name, source, bias, options, rule)
    if vector is not None and model != vector.info.aligned:
        console.note(f"The bias was estimated for {vector.info.aligned}; this is {model}.")
    used: dict[str, str | float | None] = {
        "model": model,
        **loaded,
        **_fingerprints(source, bias, choice),
        **_describe_bias(bias, vector),
        "strength": strength,
        **_described(chat_format),
    }
    if choice.name != "transformers":
        used["engine"] = choice.name
    return engine, used


def _fingerprints(source: str, bias: str | None, choice: EngineChoice) -> dict[str, str]:
    """What tells other weights in the same folder, once they have been loaded."""
    from tsdi.models.fingerprint import fingerprint

    found = {"fingerprint": fingerprint(source)}
    tokenizer = _tokenizer_of(source, bias, choice)
    if tokenizer != source:
        found["tokenizer_fingerprint"] = fingerprint(tokenizer)
    return found


def _check_without_bias(source: str, strength: float | None, choice: EngineChoice) -> None:
    from tsdi.models.names import check_no_export

    if strength is not None:
        raise UsageError("--strength needs --bias.")
    if choice.name != "llama-cpp":  # whose models are files
        check_no_export(source)


def _describe_bias(bias: str | None, vector: "SafetyBias | None") -> dict[str, str | None]:
    """What of a bias decides answers, and where thoughts end if it says so."""
    if vector is None:
        return {"bias": None, "bias_sha256": None}
    anchor = {"end_of_thinking": vector.info.anchor} if vector.info.anchor else {}
    return {"bias": bias, "bias_sha256": vector.sha256, **anchor}


def _read_bias(
    bias: str, tokenizer: "PreTrainedTokenizerBase", chat_format: "ChatFormat"
) -> "SafetyBias":
    """A bias that belongs to a tokenizer and to a chat format, if one is asked for."""
    from tsdi.bias import SafetyBias
    from tsdi.models.chat import check_format

    check_format(tokenizer, chat_format)  # before the advice to estimate a bias for it
    vector = SafetyBias.from_pretrained(bias, tokenizer=tokenizer)
    own = vector.info.chat_format
    for option, asked, kept in (
        ("prompt-format", chat_format.prompt_format, own.prompt_format),
        ("template-arg", chat_format.template_args, own.template_args),
    ):
        if asked and asked != kept:
            shown = json.dumps(kept) if kept else "none"
            raise UsageError(
                f"The bias was estimated with another --{option}: {shown}.",
                f"Leave out --{option}, or estimate a bias for it.",
            )
    return vector


def _load(
    name: str,
    source: str,
    bias: str | None,
    options: "LoadOptions",
    rule: "tuple[PreTrainedTokenizerBase, SafetyBias | None, float | None, ChatFormat]",
) -> "tuple[Engine, dict[str, str | float | None]]":
    """An engine with its model, and what of the model decides its answers."""
    from tsdi.models.names import locate

    used: dict[str, str | float | None]
    if name == "vllm":
        from tsdi.engines.vllm import VllmEngine, open_llm

        used = {"revision": locate(source).revision, "dtype": options.dtype}
        return VllmEngine(open_llm(source, options, bias, rule[2]), *rule), used
    if name == "llama-cpp":
        from tsdi.engines.llama_cpp import LlamaCppEngine, open_llama

        return LlamaCppEngine(open_llama(source), *rule), {}
    from tsdi.engines.transformers import TransformersEngine
    from tsdi.models.load import load_model

    loaded = load_model(source, options)
    engine = TransformersEngine(loaded, *rule)
    commit = getattr(loaded.config, "_commit_hash", None)
    used = {"revision": locate(source).revision or commit, "dtype": str(loaded.dtype)}
    return engine, used | ({"base_revision": commit} if hasattr(loaded, "peft_config") else {})


def _tokenizer_of(source: str, bias: str | None, choice: EngineChoice) -> str:
    """Where the tokenizer is; a GGUF file has none that we read."""
    from tsdi.models.shipped import resolve_model

    if choice.name != "llama-cpp":
        return source
    if choice.tokenizer is not None:
        return resolve_model(choice.tokenizer)
    if bias is None:
        raise UsageError(
            "llama.cpp needs the tokenizer of the model that the GGUF file was converted from.",
            "Name it: --tokenizer org/model.",
        )
    from tsdi.bias import SafetyBias

    return resolve_model(SafetyBias.from_pretrained(bias).info.aligned)


def _server(
    model: str,
    bias: str | None,
    strength: float | None,
    chat_format: "ChatFormat",
    choice: EngineChoice,
) -> "tuple[Engine, dict[str, str | float | None]]":
    from tsdi.engines.openai import ChatClient
    from tsdi.engines.server import ServerEngine

    if bias is not None:
        raise UsageError(
            "A server has its bias itself.",
            "Start it with tsdi serve MODEL --bias BIAS; --strength asks for another strength.",
        )
    client = ChatClient(model, choice.url)
    used: dict[str, str | float | None] = {
        "model": model,
        "engine": choice.name,
        "url": client.url,
        "strength": strength,
        **_described(chat_format),
    }
    return ServerEngine(client, strength, chat_format), used


def _described(chat_format: "ChatFormat") -> dict[str, str | float | None]:
    described: dict[str, str | float | None] = {"prompt_format": chat_format.prompt_format}
    if chat_format.template_args:
        described["template_args"] = json.dumps(dict(chat_format.template_args), sort_keys=True)
    return described
