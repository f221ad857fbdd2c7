"""Settings of vLLM that tsdi needs, for the offline ``LLM`` and for the server."""

import json
import os
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from tsdi.errors import UsageError

PROCESSOR = "tsdi.engines.vllm_plugin:SafetyDebias"
SUMMING: dict[str, Any] = {
    "logits_processors": ["tsdi.engines.vllm_sums:SumLogits"],
    "worker_extension_cls": "tsdi.engines.vllm_sums.TakeSums",
    "enable_chunked_prefill": False,  # a part of a prompt would be added like the whole
}
"""Arguments of ``LLM`` that adds logits instead of answering."""
DOOR = "tsdi.serving.access.VllmDoor"
ENVIRONMENT = {
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_CPU_KVCACHE_SPACE": "4",  # GiB; without, its CPU build asks for nearly all memory
}
_QUIET = {
    "VLLM_LOGGING_LEVEL": "WARNING",
    "VLLM_LOGGING_STREAM": "ext://sys.stderr",  # standard output is for answers
}
_TEMPLATE = "chats are wrapped as they were when the bias was estimated"
# What a user may not give to the server besides, with the reason.
_OURS = {
    "--model": "MODEL names it",
    "--served-model-name": "MODEL names it",
    "--revision": "name the model as ORG/NAME@REVISION",
    "--tokenizer-revision": "name the model as ORG/NAME@REVISION",
    "--host": "name it before the --, where it is checked",
    "--port": "name it before the --",
    "--api-key": "set TSDI_API_KEY instead, which no list of processes shows",
    "--generation-config": "the checkpoint's penalties and temperatures would count",
    "--logprobs-mode": "log-probabilities would be the plain model's",
    "--allowed-origins": "pages of other sites may not ask",
    "--chat-template": _TEMPLATE,
    "--default-chat-template-kwargs": _TEMPLATE,
    "--trust-request-chat-template": _TEMPLATE,
    "--additional-config": "it says which bias is subtracted",
    "--logits-processors": "the last list of processors is the one that counts",
    "--config": "what it says of all these would count instead of ours",
    "--speculative-config": "vLLM's V1 engine shows processors no drafted tokens",
    "--spec-method": "vLLM's V1 engine shows processors no drafted tokens",
    "--spec-model": "vLLM's V1 engine shows processors no drafted tokens",
    "--spec-tokens": "vLLM's V1 engine shows processors no drafted tokens",
}
_SHORT = {"-sc": "--speculative-config"}
_OFFLINE = {
    "--dtype": "name it as --dtype",
    "--trust-remote-code": "name it as --trust-remote-code",
    "--tokenizer": "prompts are token ids of the model's own",
    "--skip-tokenizer-init": "the bias is checked against the tokenizer",
    "--max-logprobs": "the engine itself asks for all of them",
    "--worker-extension-cls": "an estimate has one of its own",
}


def prepare_environment() -> None:
    """Set vLLM's environment variables that are not set yet; before vLLM is imported."""
    for name, value in {**ENVIRONMENT, **_QUIET}.items():
        os.environ.setdefault(name, value)


def why_set(argument: str) -> str:
    """The reason why one of vLLM's arguments is not for users to set; "" if it is for them."""
    return {**_OURS, **_OFFLINE}.get(f"--{argument.replace('_', '-')}", "")


def argument_flags(args: Mapping[str, Any]) -> list[str]:
    """Flags of vLLM's server for arguments of ``EngineArgs``."""
    words = []
    for name, value in args.items():
        flag = name.replace("_", "-")
        if isinstance(value, bool):
            words.append(f"--{flag}" if value else f"--no-{flag}")
        elif value is not None:
            words += [f"--{flag}", *_words(value)]
    return words


def offline_settings(bias: str | None, strength: float | None) -> dict[str, Any]:
    """Arguments of ``LLM``; it gives logits, since our own engine asks it for them.

    A strength of None leaves it to the processor.
    """
    return {**_shared(bias, strength), "logprobs_mode": "processed_logits", "max_logprobs": -1}


def server_flags(bias: str, strength: float | None, template_args: Mapping[str, Any]) -> list[str]:
    """Flags of vLLM's server; its log-probabilities are those after the rule.

    A strength of None leaves it to the bias's condition.
    """
    settings = {**_shared(bias, strength), **_SERVER}
    if template_args:
        settings["default_chat_template_kwargs"] = dict(template_args)
    return [
        word
        for name, value in settings.items()
        for word in (f"--{name.replace('_', '-')}", *_words(value))
    ]


_SERVER = {"logprobs_mode": "processed_logprobs", "allowed_origins": "[]", "middleware": DOOR}


def _shared(bias: str | None, strength: float | None) -> dict[str, Any]:
    settings: dict[str, Any] = {"generation_config": "vllm"}  # no checkpoint's own penalties
    if bias is not None:
        named = {"bias": bias} if strength is None else {"bias": bias, "strength": strength}
        settings |= {"logits_processors": [PROCESSOR], "additional_config": {"tsdi": named}}
    return settings


def _words(value: Any) -> list[str]:
    if isinstance(value, list):
        return [word for one in value for word in _words(one)]
    return [value if isinstance(value, str) else json.dumps(value)]


def check_flags(words: Sequence[str]) -> None:
    """Raise UsageError if a user's own flags would undo what tsdi sets.

    Flags may be shortened, written with underscores, or name a part of a setting behind a dot, as
    vLLM takes them. One that says the same as ours is let through.
    """
    same = {
        "--generation-config": "vllm",
        "--logprobs-mode": _SERVER["logprobs_mode"],
        "--allowed-origins": _SERVER["allowed_origins"],
    }
    for word, following in pairwise([*words, ""]):
        flag, equals, value = word.partition("=")
        flag = _SHORT.get(flag.partition(".")[0], flag).partition(".")[0].replace("_", "-")
        if len(flag) <= len("--") or not flag.startswith("--"):
            continue
        for ours, reason in _OURS.items():
            if ours.startswith(flag) and same.get(ours) != (value if equals else following):
                raise UsageError(f"{ours} is set by tsdi serve: {reason}.", "Leave it out.")
