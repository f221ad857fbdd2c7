"""What commands that generate share: their options, and the engine that comes of them."""

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer

from tsdi.cli import console
from tsdi.errors import UsageError

if TYPE_CHECKING:
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
ResumeOption = Annotated[bool, typer.Option("--resume", help="Go on with a killed run.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


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


def open_engine(
    model: str,
    bias: str | None,
    strength: float | None,
    prompt_format: str | None,
    options: "LoadOptions",
) -> "tuple[Engine, dict[str, str | float | None]]":
    """Load a model, and a bias if one is named, into an engine.

    Args:
        model: Folder or hub id of a model or adapter, or the name of a shipped model.
        bias: Folder or hub id of a safety bias.
        strength: How much of it to subtract; None takes what the bias recommends.
        prompt_format: Used instead of the chat template.
        options: How weights are loaded.

    Returns:
        The engine, and what decides its answers, for the provenance.

    Raises:
        UsageError: If options do not fit together.
        TsdiError: If model or bias cannot be loaded, or do not fit.
    """
    from tsdi.bias import SafetyBias
    from tsdi.chat import describe_format
    from tsdi.engines.transformers import TransformersEngine
    from tsdi.evaluation.builtin import resolve_dtype, resolve_model
    from tsdi.models import load_model, load_tokenizer

    console.quiet_libraries()
    source = resolve_model(model)
    options = replace(options, dtype=resolve_dtype(model, options.dtype))
    tokenizer = load_tokenizer(source, options)
    vector = None if bias is None else SafetyBias.from_pretrained(bias, tokenizer=tokenizer)
    if vector is not None and prompt_format not in (None, vector.info.prompt_format):
        raise UsageError(
            f"The bias was estimated with prompt format {vector.info.prompt_format!r}.",
            "Leave out --prompt-format, or estimate a bias for it.",
        )
    if vector is not None:
        prompt_format = vector.info.prompt_format
        if strength is None:
            strength = vector.info.strength
            console.note(f"Strength {strength:g}, as the bias recommends.")
    elif strength is not None:
        raise UsageError("--strength needs --bias.")
    if tokenizer.chat_template is None:
        console.note(f"Prompts are wrapped in {describe_format(tokenizer, prompt_format)}.")
    loaded = load_model(source, options)
    engine = TransformersEngine(
        loaded, tokenizer, vector, strength if strength is not None else 1.0, prompt_format
    )
    if vector is not None and model != vector.info.aligned:
        console.note(f"The bias was estimated for {vector.info.aligned}; this is {model}.")
    used: dict[str, str | float | None] = {
        "model": model,
        "revision": getattr(loaded.config, "_commit_hash", None),
        "dtype": str(loaded.dtype),
        "bias": bias,
        "bias_sha256": None if vector is None else vector.sha256,
        "strength": strength,
        "prompt_format": prompt_format,
    }
    return engine, used
