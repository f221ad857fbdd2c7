"""``tsdi serve``: a server that debiases, vLLM's own or our small one."""

from typing import TYPE_CHECKING, Annotated

import typer

import tsdi
from tsdi.cli import console, frame, options

if TYPE_CHECKING:  # keeps torch out of the help
    from tsdi.serving import Server

KEY = "TSDI_API_KEY"


def serve(
    context: typer.Context,
    model: Annotated[str, typer.Argument(help="Folder or hub id of the model.")],
    bias: Annotated[str, typer.Option(help="Folder or hub id of its safety bias.")],
    engine: Annotated[
        str, typer.Option(help="vllm, or transformers: one answer at a time, for trying out.")
    ] = "vllm",
    engine_arg: options.VllmArg = None,
    strength: options.Strength = None,
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
    dtype: options.Dtype = "auto",
    device_map: options.DeviceMap = None,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run", help="Check, show vLLM's command and how to ask it, start nothing."
        ),
    ] = False,
) -> None:
    """Serve a model debiased, OpenAI-compatible: by vLLM's own server, or by a small one.

    A request may ask for its own strength, 0 being off: "vllm_xargs": {"tsdi_strength": 0}. The
    server is for this machine only; another --host needs a key. What follows -- goes to vLLM.

    Example: tsdi serve acme/model --bias my-bias --engine vllm -- --max-model-len 4096
    """
    frame.find(model, engine=engine, bias=bias)
    console.quiet_libraries()
    server = tsdi.serving.serve(
        model,
        bias,
        engine=options.read_engine(engine, engine_arg),
        strength=strength,
        place=tsdi.serving.Place(host, port, api_key),
        options=tsdi.LoadOptions(dtype, device_map),
        vllm_flags=context.args,
    )
    if dry_run:
        show_server(server)
    else:
        server.run(lambda: show_server(server))


def show_server(server: "Server") -> None:
    """Print a server's start, and how to ask it, to be copied."""
    for line in server.lines:
        console.out.print(line, soft_wrap=True)
