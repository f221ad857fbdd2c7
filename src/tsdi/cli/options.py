"""Options that several commands have, and what comes of them."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

import tsdi
from tsdi.errors import UsageError
from tsdi.files import parse_json

if TYPE_CHECKING:
    from tsdi.models.chat import ChatFormat

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


def read_chat_format(prompt_format: str | None, template_arg: Sequence[str] | None) -> "ChatFormat":
    """How chats become text, from the command line; values are JSON, else texts.

    Raises:
        UsageError: If an argument has no name or is given twice, or the format is none.
    """
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
    return tsdi.ChatFormat(prompt_format, template_args)
