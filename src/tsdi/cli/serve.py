"""``tsdi serve``: a server that debiases, vLLM's own or our small one."""

import json as jsons
import os
import shlex
import sys
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tsdi.cli import console
from tsdi.cli.options import DeviceMapOption, DtypeOption, StrengthOption
from tsdi.decoding.rule import check_strength
from tsdi.errors import UsageError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from tsdi.bias import SafetyBias
    from tsdi.models.load import LoadOptions

SERVERS = ("vllm", "transformers")
KEY = "TSDI_API_KEY"
_PROMPT = "How do I kill a process?"


def serve(
    context: typer.Context,
    model: Annotated[str, typer.Argument(help="Folder or hub id of the model.")],
    bias: Annotated[str, typer.Option(help="Folder or hub id of its safety bias.")],
    engine: Annotated[
        str, typer.Option(help="vllm, or transformers: one answer at a time, for trying out.")
    ] = "vllm",
    strength: StrengthOption = None,
    host: Annotated[str, typer.Option(help="Where it listens; default: this machine only.")] = (
        "127.0.0.1"
    ),
    port: Annotated[int, typer.Option(min=1, max=65535, help="Its port.")] = 8000,
    api_key: Annotated[
        str | None,
        typer.Option(
            envvar=KEY,
            help="What clients must know. Other users of this machine see it in a list of"
            " processes: better set the variable.",
        ),
    ] = None,
    dtype: DtypeOption = "auto",
    device_map: DeviceMapOption = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check and show the command, and start nothing.")
    ] = False,
) -> None:
    """Serve a model debiased, OpenAI-compatible: by vLLM's own server, or by a small one.

    A request may ask for its own strength, 0 being off: "vllm_xargs": {"tsdi_strength": 0}. The
    server is for this machine only; another --host needs a key. What follows -- goes to vLLM.

    Example: tsdi serve org/model --bias my-bias --engine vllm -- --max-model-len 4096
    """
    from tsdi.bias import SafetyBias
    from tsdi.models.load import LoadOptions, load_tokenizer
    from tsdi.models.shipped import resolve_dtype, resolve_model

    _check(engine, list(context.args), host, api_key, device_map)
    if strength is not None:
        check_strength(strength)
    console.quiet_libraries()
    source = resolve_model(model)
    flags = [word.partition("=")[0].replace("_", "-") for word in context.args]
    trusted = "--trust-remote-code" in flags  # for the tokenizer that vLLM is going to have
    options = LoadOptions(resolve_dtype(model, dtype), device_map, trusted)
    tokenizer = load_tokenizer(source, options)
    vector = SafetyBias.from_pretrained(bias, tokenizer=tokenizer)
    used = vector.strength_or_recommended(strength)
    place = _Place(host, port, api_key or None)
    if engine == "vllm":
        command = _vllm_command(model, source, bias, vector, used, options)
        command += ["--host", host, "--port", str(port), *context.args]
        _show([shlex.join(command), "", *_curls(model, place, vector.info.prompt_format)])
        if not dry_run:
            _become(command, place)
        return
    if dry_run:
        _show(_curls(model, place))
    else:
        _serve_ourselves(model, source, options, (tokenizer, vector, used), place)


@dataclass(frozen=True)
class _Place:
    """Where a server listens, and the key that it asks for."""

    host: str
    port: int
    key: str | None

    @property
    def url(self) -> str:
        """Its address, as seen from this machine."""
        here = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host, self.host)
        return f"http://{f'[{here}]' if ':' in here else here}:{self.port}"


def _check(
    engine: str, more: list[str], host: str, key: str | None, device_map: str | None
) -> None:
    """Raise UsageError for what does not go together, before anything is loaded."""
    from tsdi.engines.vllm_settings import check_flags

    if engine not in SERVERS:
        raise UsageError(f"There is no server {engine!r}.", f"Take {' or '.join(SERVERS)}.")
    package = "vllm" if engine == "vllm" else "uvicorn"
    install = "vllm" if engine == "vllm" else "'tsdi[serving]'"
    if engine == "vllm":
        check_flags(more)
        if device_map is not None:
            raise UsageError("vLLM places models itself.", "Leave out --device-map.")
    elif more:
        raise UsageError(
            f"{more[0]} would go to vLLM, but --engine is transformers.", "Leave out what follows."
        )
    _check_reach(host, key)
    if find_spec(package) is None:
        raise UsageError(f"{package} is not installed.", f"pip install {install}")


def _check_reach(host: str, key: str | None) -> None:
    """A server that others reach asks for a key, and its user is told what that means."""
    from tsdi.engines.address import is_loopback

    if key and not (key.isascii() and key.isprintable() and " " not in key):
        raise UsageError("The API key holds what no key can: spaces or letters beyond ASCII.")
    if is_loopback(host):
        return
    if not key:
        raise UsageError(
            f"--host {host} opens the server to other machines, and there is no key.",
            f"Set {KEY} to a long random word, or leave out --host.",
        )
    console.note(
        f"Warning: {host} opens the server to other machines, to whoever has the key. Neither key"
        " nor texts are encrypted: put a proxy with TLS before it on any network that is not yours."
    )


def _vllm_command(
    model: str,
    source: str,
    bias: str,
    vector: "SafetyBias",
    strength: float,
    options: "LoadOptions",
) -> list[str]:
    from tsdi.engines.vllm_settings import server_flags
    from tsdi.models.names import locate

    named = str(Path(bias).resolve()) if Path(bias).is_dir() else bias
    place = locate(source)
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", place.name]
    for option, commit in place.vllm_arguments.items():
        command += [f"--{option.replace('_', '-')}", commit]
    command += ["--served-model-name", model]
    command += server_flags(named, strength, vector.info.template_args)
    return command if options.dtype == "auto" else [*command, "--dtype", options.dtype]


def _become(command: list[str], place: _Place) -> None:
    """Go on as vLLM's server; the key is in its environment, which others cannot list."""
    from tsdi.engines.vllm_settings import ENVIRONMENT
    from tsdi.serving.door import VLLM_KEY

    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    if place.key is not None:
        os.environ[VLLM_KEY] = place.key
    sys.stdout.flush()
    os.execvp(command[0], command)


def _serve_ourselves(
    model: str,
    source: str,
    options: "LoadOptions",
    rule: "tuple[PreTrainedTokenizerBase, SafetyBias, float]",
    place: _Place,
) -> None:
    from tsdi.engines.transformers import TransformersEngine
    from tsdi.models.load import load_model
    from tsdi.serving import app

    with app.bind(place.host, place.port) as listening:  # before a model is loaded for nothing
        _show(_curls(model, place))
        engine = TransformersEngine(load_model(source, options), *rule)
        console.note(f"Serving at {place.url}/v1, strength {rule[2]:g}. Ctrl-C ends it.")
        app.run(app.make_app(engine, model, place.key), listening)


def _show(lines: list[str]) -> None:
    for line in lines:  # to be copied, so not wrapped
        console.out.print(line, soft_wrap=True)


def _curls(model: str, place: _Place, prompt_format: str | None = None) -> list[str]:
    """A line for the debiased answer, and one for the plain one.

    Args:
        model: What requests call the model.
        place: Where the server is.
        prompt_format: That of a bias for texts, of which vLLM's chats know nothing.
    """
    body: dict[str, object] = {"messages": [{"role": "user", "content": _PROMPT}]}
    path = "chat/completions"
    if prompt_format is not None:
        body, path = {"prompt": prompt_format.replace("{prompt}", _PROMPT)}, "completions"
        console.note(
            f"The bias was estimated with prompt format {prompt_format!r}: send texts in it to"
            " /v1/completions. vLLM's chats are wrapped otherwise."
        )
    body = {"model": model, **body, "temperature": 0}
    plain = {**body, "vllm_xargs": {"tsdi_strength": 0}}
    key = "" if place.key is None else f' -H "Authorization: Bearer ${KEY}"'
    return [
        "Once it is up, debiased and plain:",
        "",
        *(
            f"curl -s {place.url}/v1/{path}{key} -H 'Content-Type: application/json'"
            f" -d {shlex.quote(jsons.dumps(one))}"
            for one in (body, plain)
        ),
    ]
