"""``tsdi serve``: starts a stock server that debiases."""

import json as jsons
import os
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tsdi.cli import console
from tsdi.cli.engine import StrengthOption, check_strength
from tsdi.errors import UsageError

if TYPE_CHECKING:
    from tsdi.bias import SafetyBias

SERVERS = ("vllm", "transformers")
_ABBREVIATED = len("--log")  # servers take the beginning of an option for it
_PROMPT = "How do I kill a process?"
# What would drop the bias, by server, with the reason.
_DROPPED = {
    "vllm": {
        "--speculative-config": "its V1 engine shows processors no drafted tokens",
        "--logits-processors": "the last list of processors is the one that counts",
        "--config": "what it says of processors would count instead of ours",
    },
    "transformers": {"--continuous-batching": "it calls no generate, where the bias is subtracted"},
}


def serve(
    context: typer.Context,
    model: Annotated[str, typer.Argument(help="Folder or hub id of the model.")],
    bias: Annotated[str, typer.Option(help="Folder or hub id of its safety bias.")],
    engine: Annotated[str, typer.Option(help="vllm or transformers.")] = "vllm",
    strength: StrengthOption = None,
    host: Annotated[str, typer.Option(help="Where it listens; default: this machine only.")] = (
        "127.0.0.1"
    ),
    port: Annotated[int, typer.Option(min=1, max=65535, help="Its port.")] = 8000,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check and show the command, and start nothing.")
    ] = False,
) -> None:
    """Serve a model debiased, through vLLM's or transformers' own OpenAI-compatible server.

    What follows -- goes to the server. In vLLM a request may ask for its own strength, 0 being off:
    "vllm_xargs": {"tsdi_strength": 0}.

    Example: tsdi serve org/model --bias my-bias --engine vllm -- --max-model-len 4096
    """
    if engine not in SERVERS:
        raise UsageError(f"There is no server {engine!r}.", f"Take {' or '.join(SERVERS)}.")
    more = list(context.args)
    given = [word.partition("=")[0].replace("_", "-") for word in more if word.startswith("--")]
    for option, reason in _DROPPED[engine].items():
        if any(option.startswith(word) and len(word) >= _ABBREVIATED for word in given):
            raise UsageError(f"{option} would drop the bias: {reason}.", "Leave it out.")
    check_strength(strength)
    from tsdi.bias import SafetyBias
    from tsdi.evaluation.builtin import resolve_model
    from tsdi.models import LoadOptions, load_tokenizer

    console.quiet_libraries()
    source = resolve_model(model)
    trusted = LoadOptions(trust_remote_code="--trust-remote-code" in given)
    vector = SafetyBias.from_pretrained(bias, tokenizer=load_tokenizer(source, trusted))
    used = vector.strength_or_recommended(strength)
    command, environment = (
        _vllm(model, source, bias, used)
        if engine == "vllm"
        else _transformers(model, source, vector, used)
    )
    command += ["--host", host, "--port", str(port), *more]
    lines = [shlex.join([*(f"{k}={v}" for k, v in environment.items()), *command])]
    both = engine == "vllm"  # transformers' server takes no strength
    lines += ["", f"Once it is up, debiased{' and plain' if both else ''}:", ""]
    lines += _curls(engine, model, "127.0.0.1" if host == "0.0.0.0" else host, port, command)
    for line in lines:  # to be copied, so not wrapped
        console.out.print(line, markup=False, highlight=False, soft_wrap=True)
    if dry_run:
        return
    sys.stdout.flush()
    os.environ |= environment
    os.execvp(command[0], command)


def _vllm(model: str, source: str, bias: str, strength: float) -> tuple[list[str], dict[str, str]]:
    from importlib.util import find_spec

    from tsdi.engines.vllm_engine import ENVIRONMENT, PROCESSOR

    if find_spec("vllm") is None:
        raise UsageError("vLLM is not installed.", "pip install vllm")
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", source]
    command += ["--served-model-name", model, "--logits-processors", PROCESSOR]
    place = str(Path(bias).resolve()) if Path(bias).is_dir() else bias
    defaults = {name: value for name, value in ENVIRONMENT.items() if name not in os.environ}
    return command, {"TSDI_BIAS": place, "TSDI_STRENGTH": f"{strength:g}", **defaults}


def _transformers(
    model: str, source: str, vector: "SafetyBias", strength: float
) -> tuple[list[str], dict[str, str]]:
    import hashlib
    import shutil

    from tsdi.export.checkpoint import write_checkpoint

    if shutil.which("transformers") is None and not (_beside("transformers")).exists():
        raise UsageError(
            "transformers' server is not installed.", "pip install 'transformers[serving]'"
        )
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "tsdi"
    key = hashlib.sha256(f"{Path(source).resolve()} {vector.sha256} {strength}".encode())
    place = cache / f"serve-{key.hexdigest()[:12]}"
    shutil.rmtree(place, ignore_errors=True)  # the model may have changed since
    write_checkpoint(vector, strength, source, place, model, link=True)
    program = _beside("transformers")
    return [
        str(program) if program.exists() else "transformers", "serve", str(place),
        "--trust-remote-code",
    ], {}  # fmt: skip


def _beside(program: str) -> Path:
    return Path(sys.executable).with_name(program)


def _curls(engine: str, model: str, host: str, port: int, command: list[str]) -> list[str]:
    """A line for the debiased answer, and one for the plain one where the server can give it."""
    name = model if engine == "vllm" else command[2]
    body = {"model": name, "messages": [{"role": "user", "content": _PROMPT}], "temperature": 0}
    bodies = [body]
    if engine == "vllm":
        bodies.append({**body, "vllm_xargs": {"tsdi_strength": 0}})
    url = f"http://{host}:{port}/v1/chat/completions"
    return [
        f"curl -s {url} -H 'Content-Type: application/json' -d {shlex.quote(jsons.dumps(one))}"
        for one in bodies
    ]
