"""``tsdi export``: a bias in a form that other servers take."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

import tsdi
from tsdi.cli import console, frame, options
from tsdi.stats.interval import interval_text

if TYPE_CHECKING:  # keeps torch out of the help
    from tsdi.export import Exported
    from tsdi.export.static import Divergence

_SHOWN = 12  # steps in the table


def export(
    bias: Annotated[str, typer.Argument(help="Folder or hub id of the bias.")],
    model: Annotated[str, typer.Argument(help="Folder or hub id of the model it is for.")],
    out: Annotated[Path, typer.Argument(help="A new folder; with --to logit-bias a JSON file.")],
    to: Annotated[str, typer.Option(help="transformers, logit-bias or checkpoint.")],
    strength: options.Strength = None,
    top: Annotated[
        int,
        typer.Option(min=1, help="Most tokens in a logit_bias; OpenAI takes 300."),
    ] = 300,
    prompts: options.Prompts = None,
    dtype: options.Dtype = "auto",
    device_map: options.DeviceMap = None,
    json: options.Json = False,
) -> None:
    """Write a bias in a form that runs without tsdi.

    transformers: a copy of the model whose own code subtracts the bias at every step, for
    from_pretrained(..., trust_remote_code=True); to serve a model, take tsdi serve.
    logit-bias: one shift for all steps, for a request to an OpenAI-compatible API. checkpoint: a
    plain model with another head, for any engine. Both say on --prompts how far they are from the
    real rule.

    Example: tsdi export my-bias acme/model out --to transformers
    """
    frame.find(model, bias=bias, prompts=[prompts] if prompts else ())
    console.quiet_libraries()
    static = None
    if prompts is not None:
        static = tsdi.export.StaticForm(prompts, top)
    weights = tsdi.LoadOptions(dtype, device_map)
    written = tsdi.export.export(
        bias, model, out, to, strength=strength, static=static, options=weights
    )
    _show(written, json)


def _show(written: "Exported", json: bool) -> None:
    if json:
        console.show_json(written.to_dict())
        return
    if written.divergence is not None:
        console.out.print(_table(written.divergence))
    console.say(f"Saved in {written.out}, strength {written.strength:g}.")
    if written.to == "transformers":
        console.say(
            f"Next: from_pretrained({str(written.out)!r}, trust_remote_code=True); without the flag"
            " it decodes plainly, and does not say so. To serve the model, take tsdi serve: with"
            " that flag transformers' server runs the code of any model it is asked for."
        )


def _table(found: "Divergence") -> Table:
    columns = ("response token", "KL [95 %]", "answers")
    table = console.table("KL from the real rule, nats", columns)
    for step, one in enumerate(found.by_step[:_SHOWN]):
        table.add_row(str(step), interval_text(one, 4), str(one.n))
    table.add_row("all", interval_text(found.total, 4), str(found.total.n))
    return table
