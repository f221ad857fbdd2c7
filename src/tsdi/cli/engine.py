"""What commands that generate share: their options, and the engine that comes of them."""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated

import typer

from tsdi.cli import console
from tsdi.errors import UsageError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from tsdi.bias import SafetyBias
    from tsdi.engines.base import Engine
    from tsdi.models import LoadOptions

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
    from tsdi.decoding.rule import LARGEST_STRENGTH

    if strength is not None and not 0 <= strength <= LARGEST_STRENGTH:
        raise UsageError(
            f"The strength is {strength:g}.", f"Take 0 (off) to {LARGEST_STRENGTH:g}; 1 is TSDI."
        )


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
    prompt_format: str | None,
    options: "LoadOptions",
    choice: EngineChoice = EngineChoice(),
) -> "tuple[Engine, dict[str, str | float | None]]":
    """Load a model, and a bias if one is named, into an engine.

    Args:
        model: Folder or hub id of a model or adapter, or the name of a shipped model; a GGUF file
            for llama.cpp; for a server, what it calls the model.
        bias: Folder or hub id of a safety bias.
        strength: How much of it to subtract; None takes what the bias recommends.
        prompt_format: Used instead of the chat template.
        options: How weights are loaded.
        choice: The engine.

    Returns:
        The engine, and what decides its answers, for the provenance.

    Raises:
        UsageError: If options do not fit together.
        TsdiError: If model or bias cannot be loaded, or do not fit.
    """
    from tsdi.chat import describe_format
    from tsdi.evaluation.builtin import resolve_dtype, resolve_model
    from tsdi.models import load_tokenizer

    choice.check()
    check_strength(strength)
    console.quiet_libraries()
    if choice.name == "openai":
        return _server(model, bias, strength, prompt_format, choice)
    source = resolve_model(model)
    options = replace(options, dtype=resolve_dtype(model, options.dtype))
    tokenizer = load_tokenizer(_tokenizer_of(source, bias, choice), options)
    vector = None
    if bias is not None:
        vector = _read_bias(bias, tokenizer, prompt_format)
        prompt_format = vector.info.prompt_format
        if strength is None:
            strength = vector.info.strength
            console.note(f"Strength {strength:g}, as the bias recommends.")
    elif strength is not None:
        raise UsageError("--strength needs --bias.")
    if tokenizer.chat_template is None:
        console.note(f"Prompts are wrapped in {describe_format(tokenizer, prompt_format)}.")
    rule = (tokenizer, vector, strength if strength is not None else 1.0, prompt_format)
    engine, loaded = _load(choice.name, source, bias, options, rule)
    if vector is not None and model != vector.info.aligned:
        console.note(f"The bias was estimated for {vector.info.aligned}; this is {model}.")
    used: dict[str, str | float | None] = {
        "model": model,
        **loaded,
        "bias": bias,
        "bias_sha256": None if vector is None else vector.sha256,
        "strength": strength,
        "prompt_format": prompt_format,
    }
    if choice.name != "transformers":
        used["engine"] = choice.name
    return engine, used


def _read_bias(
    bias: str, tokenizer: "PreTrainedTokenizerBase", prompt_format: str | None
) -> "SafetyBias":
    """A bias that belongs to a tokenizer and to a prompt format, if one is asked for."""
    from tsdi.bias import SafetyBias

    vector = SafetyBias.from_pretrained(bias, tokenizer=tokenizer)
    if prompt_format not in (None, vector.info.prompt_format):
        raise UsageError(
            f"The bias was estimated with prompt format {vector.info.prompt_format!r}.",
            "Leave out --prompt-format, or estimate a bias for it.",
        )
    return vector


def _load(
    name: str,
    source: str,
    bias: str | None,
    options: "LoadOptions",
    rule: "tuple[PreTrainedTokenizerBase, SafetyBias | None, float, str | None]",
) -> "tuple[Engine, dict[str, str | float | None]]":
    """An engine with its model, and what of the model decides its answers."""
    if name == "vllm":
        from tsdi.engines.vllm_engine import VllmEngine, open_llm

        return VllmEngine(open_llm(source, options, bias), *rule), {"dtype": options.dtype}
    if name == "llama-cpp":
        from tsdi.engines.llama_cpp import LlamaCppEngine, open_llama

        return LlamaCppEngine(open_llama(source), *rule), {}
    from tsdi.engines.transformers import TransformersEngine
    from tsdi.models import load_model

    loaded = load_model(source, options)
    revision = getattr(loaded.config, "_commit_hash", None)
    engine = TransformersEngine(loaded, *rule)
    return engine, {"revision": revision, "dtype": str(loaded.dtype)}


def _tokenizer_of(source: str, bias: str | None, choice: EngineChoice) -> str:
    """Where the tokenizer is; a GGUF file has none that we read."""
    from tsdi.evaluation.builtin import resolve_model

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
    prompt_format: str | None,
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
        "prompt_format": prompt_format,
    }
    return ServerEngine(client, strength, prompt_format), used
