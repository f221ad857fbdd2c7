"""``tsdi condition``: a condition fitted to labelled prompts."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

import tsdi
from tsdi.categories import category_name
from tsdi.cli import console, frame, options
from tsdi.stats.interval import Estimate, compact_text

if TYPE_CHECKING:  # keeps torch out of the help
    from tsdi.decoding.condition import Condition

_COLUMNS = ("prompts", "labels", "condition", "log-odds", "without it")


def condition(
    model: Annotated[str, typer.Argument(help="Folder or hub id of the aligned model.")],
    bias: Annotated[str, typer.Option(help="Folder or hub id of its safety bias.")],
    prompts: Annotated[
        str,
        typer.Option(
            metavar="WHAT",
            help="Prompts with their kinds, as for tsdi evaluate; lookalikes count as harmless."
            " Prompts with one `group` are never held out apart.",
        ),
    ],
    out: Annotated[Path, typer.Option(help="Folder for the bias with its condition.")],
    attack: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="Read each harmful prompt under this attack too (see tsdi evaluate); may be given"
            " again.",
            rich_help_panel=options.PROMPTS,
        ),
    ] = None,
    low: Annotated[
        float,
        typer.Option(
            help="Strength where a prompt is surely harmful; below 0 adds the bias.",
            rich_help_panel="The condition",
        ),
    ] = 0.0,
    high: Annotated[
        float,
        typer.Option(help="Strength where it is surely harmless.", rich_help_panel="The condition"),
    ] = 1.0,
    phrases: options.Phrases = None,
    dtype: options.Dtype = "auto",
    device_map: options.DeviceMap = None,
    trust_remote_code: options.TrustRemoteCode = False,
    json: options.Json = False,
) -> None:
    """Fit when to subtract: a strength for each prompt, read off the logits of its first token.

    About a hundred labelled prompts of each kind do; harmful ones of every category that matters,
    and lookalikes among the harmless. One forward pass for each, no training.

    Example: tsdi condition acme/aligned --bias my-bias --prompts labelled.jsonl --out conditioned
    --attack role-play
    """
    frame.find(model, bias=bias, prompts=[prompts])
    console.quiet_libraries()
    with console.bar("condition") as update:
        made = tsdi.add_condition(
            model,
            bias,
            prompts,
            out,
            tsdi.Fitting(low=low, high=high),
            labels=tsdi.Labels(attack or (), phrases),
            options=tsdi.LoadOptions(dtype, device_map, trust_remote_code),
            progress=update,
        )
    assert made.condition is not None
    if json:
        console.show_json({"out": str(out), **_numbers(made.condition), **made.condition.evidence})
        return
    _show(made.condition, model, out)


def _numbers(found: "Condition") -> dict[str, Any]:
    return {name: getattr(found, name) for name in ("intercept", "low", "high", "width")}


def _show(found: "Condition", model: str, out: Path) -> None:
    from tsdi.condition.evidence import describe

    console.out.print(_table(found.evidence["categories"]))
    console.say("\n".join(describe(found)))
    if found.evidence["sparse"]["low"] <= 0.5:
        console.say(f"Saved in {out}, and of no use: label more prompts, or take one strength.")
        return
    prompt = console.one_line(f"tsdi generate {model} --bias {out} --prompt '...'", 200)
    console.say(f"Saved in {out}. Next: {prompt}, and tsdi evaluate beside a constant strength.")


def _table(categories: list[dict[str, Any]]) -> Table:
    """Table of the AUC of each category against the other kind, in 80 columns."""
    table = console.table(
        "Area under the ROC curve, held out; without it: fitted to the others", _COLUMNS
    )
    for one in categories:
        name = console.one_line(category_name(one["category"]), 24)
        left = "-" if one["left_out"] is None else _area(one["left_out"])
        table.add_row(
            name, str(one["labels"]), _area(one["condition"]), _area(one["log_odds"]), left
        )
    return table


def _area(figure: dict[str, Any]) -> str:
    return compact_text(Estimate.from_dict(figure))
