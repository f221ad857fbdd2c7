"""``tsdi reproduce``: a bias estimated again from its own record."""

from typing import Annotated

import typer

import tsdi
from tsdi.cli import console, frame, options


def reproduce(
    bias: Annotated[str, typer.Argument(help="Folder or hub id of a safety bias.")],
    aligned: Annotated[
        str | None, typer.Argument(help="The aligned model, if it is elsewhere now.")
    ] = None,
    reference: Annotated[
        str | None, typer.Argument(help="The reference, if it is elsewhere now.")
    ] = None,
    pool: Annotated[
        str | None, typer.Option(metavar="FILE", help="The token pool, where it was a file.")
    ] = None,
    dtype: options.Dtype = "auto",
    device_map: options.DeviceMap = None,
    trust_remote_code: options.TrustRemoteCode = False,
    engine: options.LogitEngine = "transformers",
    engine_arg: options.VllmArg = None,
    json: options.Json = False,
) -> None:
    """Estimate a bias again from its own record, and say whether it is the same.

    equal, or within tolerance: at every step the difference is at most a tenth of the standard
    error, as other hardware makes it. Else it is different, and the exit code 1.

    Example: tsdi reproduce my-bias
    """
    frame.find(aligned, reference, bias=bias)
    console.quiet_libraries()
    weights = tsdi.LoadOptions(dtype, device_map, trust_remote_code)
    chosen = options.read_engine(engine, engine_arg)
    loading = tsdi.Loading(weights, engine=chosen)
    with console.bar("reproduce") as update:
        found = tsdi.reproduce(bias, aligned, reference, pool, loading=loading, progress=update)
    if json:
        console.show_json({"bias": bias, **found.to_dict()})
    else:
        step = max(range(len(found.differences)), key=found.differences.__getitem__)
        console.say(
            f"{found.verdict}: the largest difference, at step {step}, is"
            f" {found.differences[step]:.2g} logits; the standard error there is"
            f" {found.errors[step]:.2g}."
        )
        for name, (before, now) in found.versions.items():
            console.say(f"{name} was {before}, and is {now}.")
    if found.verdict == "different":
        raise typer.Exit(1)
