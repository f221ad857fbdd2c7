"""Options that several commands share, and their values as library objects."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import tsdi
from tsdi.errors import UsageError
from tsdi.files import parse_json
from tsdi.judging.base import JudgeOptions
from tsdi.judging.registry import ARGUMENTS
from tsdi.yaml_file import meant

if TYPE_CHECKING:
    from tsdi.cluster import Cluster
    from tsdi.engines.choice import EngineChoice
    from tsdi.models.chat import ChatFormat

_OF_ENGINE = "engine."  # begins the names of a judge's engine's own arguments

# Panels of the help, for what few need at first (`tsdi.cli.frame.Command`).
PROMPTS = "Prompts"
RANDOM = "Random prompts"
ANSWERING = "Answering"
JUDGING = "Judging"
DIAGNOSIS = "Diagnosis"
ENGINE = "Engine"
FLOORS = "Floors of safety"
SEARCH = "Search"
LOADING = "Model loading"
SHARDS = "Several machines"

Prompts = Annotated[
    str | None,
    typer.Option(
        metavar="WHAT",
        help="FILE (.jsonl, .json, .csv, .txt, also .gz); SUITE or SUITE:FILE (see tsdi list);"
        " hub:ORG/NAME[/CONFIG][@REVISION][:SPLIT]; or, of those that come"
        " with tsdi, everyday or organism:test, :validation, :fit. FILE:prompt=Goal,kind=harmful"
        " names columns, and the kind of prompts that have none.",
    ),
]
Bias = Annotated[str | None, typer.Option(help="Folder or hub id of a safety bias to subtract.")]
Strength = Annotated[
    float | None, typer.Option(help="How much of it; default: what the bias recommends.")
]
MaxNewTokens = Annotated[int, typer.Option(min=1, help="Most tokens in an answer.")]
LongestAnswer = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Most tokens in an answer; default: 256, of the small models that come along 24.",
    ),
]
Temperature = Annotated[
    float, typer.Option(min=0.0, help="0 is greedy decoding.", rich_help_panel=ANSWERING)
]
BatchSize = Annotated[
    int, typer.Option(min=1, help="Prompts answered together.", rich_help_panel=ANSWERING)
]
PromptFormat = Annotated[
    str | None,
    typer.Option(help="Instead of the chat template: '... {prompt} ...'.", rich_help_panel=PROMPTS),
]
TemplateArg = Annotated[
    list[str] | None,
    typer.Option(
        metavar="KEY=VALUE",
        help="Argument of the chat template, enable_thinking=false or reasoning_effort=low; may be"
        " given again.",
        rich_help_panel=PROMPTS,
    ),
]
Dtype = Annotated[
    str, typer.Option(help="auto, float32, bfloat16 or float16.", rich_help_panel=LOADING)
]
DeviceMap = Annotated[
    str | None,
    typer.Option(
        help="As in transformers: auto, cuda:1; default: a GPU, if there is one.",
        rich_help_panel=LOADING,
    ),
]
TrustRemoteCode = Annotated[
    bool,
    typer.Option(
        "--trust-remote-code", help="Run code that comes with the model.", rich_help_panel=LOADING
    ),
]
JudgeArg = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME=VALUE",
        help="Argument of the judge: url, labels, policy, template or engine (tsdi list says what"
        " each is), or engine.NAME of its engine's own; may be given again.",
        rich_help_panel=JUDGING,
    ),
]
EndOfThinking = Annotated[
    str,
    typer.Option(
        metavar="MARKER",
        help="How a reasoning model's thoughts end, if not with </think> and the like; judged is"
        " what follows the last one.",
        rich_help_panel=JUDGING,
    ),
]
Attack = Annotated[
    str | None,
    typer.Option(
        help="Transform the prompts by a simple public attack (see tsdi list).",
        rich_help_panel=PROMPTS,
    ),
]
Engine = Annotated[
    str,
    typer.Option(
        help="What answers: transformers, vllm, llama-cpp (for GGUF files alone), openai (a server"
        " that runs; MODEL is its name for the model).",
        rich_help_panel=ENGINE,
    ),
]
LogitEngine = Annotated[
    str,
    typer.Option(
        help="What gives the logits of random prompts: transformers; or vllm, without a diagnosis"
        " and one model after the other.",
        rich_help_panel=ENGINE,
    ),
]
VllmArg = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME=VALUE",
        help="Argument of vLLM's own, such as tensor_parallel_size=4; may be given again.",
        rich_help_panel=ENGINE,
    ),
]
EngineArg = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME=VALUE",
        help="Argument of the engine's own, attn_implementation=sdpa (transformers),"
        " tensor_parallel_size=4 (vllm), n_gpu_layers=-1 or tokenizer=MODEL, of a GGUF file"
        " (llama-cpp), url=URL, else OPENAI_BASE_URL (openai); may be given again.",
        rich_help_panel=ENGINE,
    ),
]
Shard = Annotated[
    str | None,
    typer.Option(
        metavar="K/N",
        help="Only part K of N, on any machine; tsdi gather joins all N.",
        rich_help_panel=SHARDS,
    ),
]
Workers = Annotated[
    str,
    typer.Option(
        metavar="N[@ADDRESS]",
        help="Processes that work side by side on this machine; or in the Ray cluster at HOST:PORT"
        " (auto: one that runs here).",
        rich_help_panel=SHARDS,
    ),
]
WorkerGpus = Annotated[
    float | None,
    typer.Option(
        min=0.0,
        help="GPUs of a worker in a Ray cluster, or a share of one; default: one, if it has any.",
        rich_help_panel=SHARDS,
    ),
]
Phrases = Annotated[
    Path | None,
    typer.Option(
        help="JSON file: how refusing and complying answers begin; default English, or what the"
        " model's own answers show.",
        rich_help_panel=DIAGNOSIS,
    ),
]
FewestPrompts = Annotated[
    int,
    typer.Option(
        min=1,
        help="Harmful prompts that a category must have, to say it loses nothing.",
        rich_help_panel=FLOORS,
    ),
]
Resume = Annotated[bool, typer.Option("--resume", help="Go on with a killed run.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


def read_cluster(workers: str, worker_gpus: float | None) -> "Cluster | None":
    """The cluster from options; None where one process does the work.

    Raises:
        UsageError: If there is no such number of workers, or the address is none.
    """
    number, at, address = workers.partition("@")
    if not number.isdecimal() or int(number) < 1:
        raise UsageError(
            f"--workers {workers!r} is no number of processes.", "Write it like 4, or 8@HOST:PORT."
        )
    if int(number) > 1 or at:
        return tsdi.Cluster(address if at else "local", int(number), worker_gpus)
    if worker_gpus is not None:
        raise UsageError("--worker-gpus needs --workers.", "Say how many, such as 2.")
    return None


def read_chat_format(prompt_format: str | None, template_arg: Sequence[str] | None) -> "ChatFormat":
    """The chat format from options; template arguments are JSON, else texts.

    Raises:
        UsageError: If an argument has no name or is given twice, or the format is none.
    """
    texts = _split("template-arg", template_arg, "enable_thinking=false")
    return tsdi.ChatFormat(prompt_format, {name: _value(text) for name, text in texts.items()})


def read_engine(name: str, engine_arg: Sequence[str] | None) -> "EngineChoice":
    """The engine from options; its arguments are JSON, else texts.

    Raises:
        UsageError: If an argument has no name or value, or is given twice.
    """
    texts = _split("engine-arg", engine_arg, "max_model_len=4096")
    url, tokenizer = texts.pop("url", None), texts.pop("tokenizer", None)
    args = {one: _value(text) for one, text in texts.items()}
    return tsdi.EngineChoice(name, url, tokenizer, args)


def read_judge(
    judge_arg: Sequence[str] | None,
    dtype: str = "auto",
    device_map: str | None = None,
    trust_remote_code: bool = False,
) -> JudgeOptions:
    """The options of opening a judge; its engine's own arguments are JSON, else texts.

    Raises:
        UsageError: If an argument is unknown, has no value or is given twice.
    """
    texts = _split("judge-arg", judge_arg, "url=http://127.0.0.1:8000/v1", _OF_ENGINE)
    own = {name: value for name, value in texts.items() if not name.startswith(_OF_ENGINE)}
    if unknown := [name for name in own if name not in ARGUMENTS]:
        raise UsageError(
            f"There is no judge argument {unknown[0]!r}{meant(unknown[0], ARGUMENTS)}.",
            f"Arguments: {', '.join(ARGUMENTS)}, {_OF_ENGINE}NAME.",
        )
    args = {n.removeprefix(_OF_ENGINE): _value(texts[n]) for n in texts if n not in own}
    engine = tsdi.EngineChoice(own.pop("engine", "transformers"), args=args)
    given: dict[str, Any] = {**own, "engine": engine, "trust_remote_code": trust_remote_code}
    return JudgeOptions(dtype=dtype, device_map=device_map, **given)


def _split(
    option: str, texts: Sequence[str] | None, example: str, prefix: str = ""
) -> dict[str, str]:
    arguments: dict[str, str] = {}
    for text in texts or ():
        name, _, value = text.partition("=")
        if not name.removeprefix(prefix).isidentifier() or not value or name in arguments:
            shown = "with an address" if "://" in text else repr(text)  # which may hold a password
            raise UsageError(
                f"--{option} {shown} is no argument, or a second one of its name.",
                f"Write it like {example}, each name once.",
            )
        arguments[name] = value
    return arguments


def _value(text: str) -> Any:
    try:
        return parse_json(text)
    except ValueError:
        return text
