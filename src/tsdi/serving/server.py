"""``serve``: vLLM's server or a small one of our own, debiased, checked and ready to run."""

import json
import logging
import os
import shlex
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerBase

from tsdi.arguments import Name, as_list, as_name
from tsdi.bias import SafetyBias
from tsdi.decoding.condition import Condition
from tsdi.decoding.rule import check_strength
from tsdi.engines.address import is_loopback
from tsdi.engines.choice import EngineChoice
from tsdi.engines.transformers import TransformersEngine
from tsdi.engines.vllm_settings import ENVIRONMENT, argument_flags, check_flags, server_flags
from tsdi.errors import UsageError
from tsdi.models.load import LoadOptions, load_model, load_tokenizer
from tsdi.models.names import locate
from tsdi.models.shipped import EXAMPLE

SERVERS = ("vllm", "transformers")
KEY = "TSDI_API_KEY"
_VLLM_KEY = "VLLM_API_KEY"
_PROMPT = "How do I kill a process?"
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Place:
    """A server's host, port and key.

    Attributes:
        host: Address to listen on; beyond this machine only with a key.
        port: Port to listen on.
        key: API key of clients; None or "" asks for none.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    key: str | None = None

    @property
    def url(self) -> str:
        """The server's URL, as seen from this machine."""
        here = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host, self.host)
        return f"http://{f'[{here}]' if ':' in here else here}:{self.port}"

    def check(self) -> None:
        """Raise UsageError unless a server that others reach asks for a key; and warn of it."""
        if self.key and not (self.key.isascii() and self.key.isprintable() and " " not in self.key):
            raise UsageError("The API key holds what no key can: spaces or letters beyond ASCII.")
        if is_loopback(self.host):
            return
        if not self.key:
            raise UsageError(
                f"--host {self.host} opens the server to other machines, and there is no key.",
                f"Set {KEY} to a long random word, or leave out --host.",
            )
        _LOG.warning(
            "Warning: %s opens the server to other machines, to whoever has the key. Neither key"
            " nor texts are encrypted: put a proxy with TLS before it on any network that is not"
            " yours.",
            self.host,
        )


@dataclass(frozen=True)
class Server(ABC):
    """A server that is ready to run.

    Attributes:
        place: Host, port and key.
        lines: Command lines to copy: the server's start, and debiased and plain requests.
    """

    place: Place
    lines: list[str]

    @abstractmethod
    def run(self, ready: Callable[[], None]) -> None:
        """Serve until interrupted.

        `ready` is called once the place is its own.

        Raises:
            TsdiError: If the place is taken, or the model cannot be loaded.
        """


@dataclass(frozen=True)
class VllmServer(Server):
    """vLLM's own server, started by a command line."""

    command: list[str]

    def run(self, ready: Callable[[], None]) -> None:
        """Replace this process by vLLM's server; the key is in the environment, out of sight."""
        ready()
        for name, value in ENVIRONMENT.items():
            os.environ.setdefault(name, value)
        if self.place.key:
            os.environ[_VLLM_KEY] = self.place.key
        sys.stdout.flush()
        os.execvp(self.command[0], self.command)


@dataclass(frozen=True)
class SmallServer(Server):
    """Our server in this process: one answer at a time, for trying out.

    Requests call the model by what loads it; args are transformers' own. A strength of None leaves
    it to the bias's condition.
    """

    model: str
    options: LoadOptions
    args: Mapping[str, Any]
    tokenizer: PreTrainedTokenizerBase
    bias: SafetyBias
    strength: float | None

    def run(self, ready: Callable[[], None]) -> None:
        """Serve in this process until interrupted."""
        from tsdi.serving import app  # needs what pip install 'tsdi[serving]' brings

        with app.bind(self.place.host, self.place.port) as listening:  # before the model is loaded
            ready()
            model = load_model(self.model, self.options, self.args)
            engine = TransformersEngine(model, self.tokenizer, self.bias, self.strength)
            used = "by prompt" if self.strength is None else f"{self.strength:g}"
            _LOG.info("Serving at %s/v1, strength %s. Ctrl-C ends it.", self.place.url, used)
            app.run(app.make_app(engine, self.model, self.place.key or None), listening)


def serve(
    model: Name,
    bias: Name,
    *,
    engine: str | EngineChoice = "vllm",
    strength: float | None = None,
    place: Place = Place(),
    options: LoadOptions = LoadOptions(),
    vllm_flags: Sequence[str] = (),
) -> Server:
    """A server of a model with its bias subtracted, OpenAI-compatible; its `run` starts it.

    Args:
        model: Folder, hub id or shipped name of the model.
        bias: Folder or hub id of its safety bias.
        engine: "vllm", or "transformers" for our small server; as `EngineChoice` with arguments.
        strength: Factor of the bias where a request has none; None leaves it to the bias's
            condition, or takes what it recommends.
        place: Host, port and key.
        options: Options of loading the weights.
        vllm_flags: Further flags of vLLM's server.

    Raises:
        UsageError: If arguments do not go together, or others would reach it without a key.
        TsdiError: If the bias cannot be loaded, or does not belong to the model.
    """
    model, bias = as_name("model", model), as_name("bias", bias)
    vllm_flags, choice = as_list("vllm_flags", vllm_flags), EngineChoice.of(engine)
    _check(choice.name, vllm_flags, options)
    place.check()
    _check_installed(choice.name)
    choice.check()
    if strength is not None:
        check_strength(strength)
    if trusts_remote_code(vllm_flags):  # for the tokenizer that vLLM is going to have
        options = replace(options, trust_remote_code=True)
    tokenizer = load_tokenizer(model, options)
    vector = SafetyBias.from_pretrained(bias, tokenizer=tokenizer)
    found = vector.strength_or_condition(strength)
    used = None if isinstance(found, Condition) else found
    if choice.name == "transformers":
        lines = _examples(model, place)
        return SmallServer(place, lines, model, options, choice.args, tokenizer, vector, used)
    command = _vllm_command(model, bias, vector, used, options)
    command += ["--host", place.host, "--port", str(place.port)]
    command += [*argument_flags(choice.args), *vllm_flags]
    examples = _examples(model, place, vector.info.prompt_format)
    return VllmServer(place, [shlex.join(command), "", *examples], command)


def trusts_remote_code(vllm_flags: Sequence[str]) -> bool:
    """Whether flags of vLLM's server say plainly that a model's own code may run.

    A flag with a value, such as "--trust-remote-code=false", vLLM refuses later; until then nothing
    of the model's may have run.
    """
    words = [word.replace("_", "-") for word in vllm_flags]
    return "--trust-remote-code" in words and "--no-trust-remote-code" not in words


def _check(engine: str, vllm_flags: Sequence[str], options: LoadOptions) -> None:
    """Raise UsageError for options that exclude each other, before anything is loaded."""
    if engine not in SERVERS:
        raise UsageError(f"There is no server {engine!r}.", f"Take {' or '.join(SERVERS)}.")
    if engine == "vllm":
        check_flags(vllm_flags)
        if options.device_map is not None:
            raise UsageError("vLLM places models itself.", "Leave out --device-map.")
    elif vllm_flags:
        raise UsageError(
            f"{vllm_flags[0]} would go to vLLM, but --engine is transformers.",
            "Leave out what follows.",
        )


def _check_installed(engine: str) -> None:
    small = "pip install 'tsdi[serving]'"
    if engine == "vllm" and find_spec("vllm") is None:
        other = f"or try --engine transformers, which needs less: {small}"
        raise UsageError("vllm is not installed.", f"Run: pip install vllm; {other}")
    if engine == "transformers" and find_spec("uvicorn") is None:
        raise UsageError("uvicorn is not installed.", f"Run: {small}")


def _vllm_command(
    model: str, bias: str, vector: SafetyBias, strength: float | None, options: LoadOptions
) -> list[str]:
    named = str(Path(bias).resolve()) if Path(bias).is_dir() else bias
    place = locate(model)
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", place.name]
    for option, commit in place.vllm_arguments.items():
        command += [f"--{option.replace('_', '-')}", commit]
    command += ["--served-model-name", model]
    command += server_flags(named, strength, vector.info.template_args)
    dtype = options.dtype_for(model)
    return command if dtype == "auto" else [*command, "--dtype", dtype]


def _examples(model: str, place: Place, prompt_format: str | None = None) -> list[str]:
    """Command lines of a debiased and of a plain request, in the prompt format if any."""
    prompt = EXAMPLE if model.startswith("organism/") else _PROMPT
    body: dict[str, object] = {"messages": [{"role": "user", "content": prompt}]}
    path = "chat/completions"
    if prompt_format is not None:
        body, path = {"prompt": prompt_format.replace("{prompt}", prompt)}, "completions"
        _LOG.info(
            "The bias was estimated with prompt format %r: send texts in it to /v1/completions."
            " vLLM's chats are wrapped otherwise.",
            prompt_format,
        )
    body = {"model": model, **body, "temperature": 0}
    plain = {**body, "vllm_xargs": {"tsdi_strength": 0}}
    key = f' -H "Authorization: Bearer ${KEY}"' if place.key else ""
    return [
        "Once it is up, debiased and plain:",
        "",
        *(
            f"curl -s {place.url}/v1/{path}{key} -H 'Content-Type: application/json'"
            f" -d {shlex.quote(json.dumps(one))}"
            for one in (body, plain)
        ),
    ]
