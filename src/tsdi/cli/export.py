"""``tsdi export``: a bias in a form that other servers take."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from tsdi.cli import console, frame
from tsdi.cli.options import (
    BatchSizeOption,
    ColumnsOption,
    DeviceMapOption,
    DtypeOption,
    JsonOption,
    PromptsOption,
    StrengthOption,
)
from tsdi.decoding.rule import check_strength
from tsdi.errors import UsageError
from tsdi.files import working_on

if TYPE_CHECKING:
    from tsdi.bias import SafetyBias
    from tsdi.export.static import Divergence

FORMS = ("transformers", "logit-bias", "checkpoint")
_SHOWN = 12  # steps in the table


def export(
    bias: Annotated[str, typer.Argument(help="Folder or hub id of the bias.")],
    model: Annotated[str, typer.Argument(help="Folder or hub id of the model it is for.")],
    out: Annotated[Path, typer.Argument(help="A new folder; with --to logit-bias a JSON file.")],
    to: Annotated[str, typer.Option(help="transformers, logit-bias or checkpoint.")],
    strength: StrengthOption = None,
    top: Annotated[
        int, typer.Option(min=1, help="Most tokens in a logit_bias; OpenAI takes 300.")
    ] = 300,
    limit: Annotated[
        float, typer.Option(min=0.0, help="Largest shift in a logit_bias, up or down.")
    ] = 100.0,
    prompts: PromptsOption = None,
    columns: ColumnsOption = "",
    max_new_tokens: Annotated[
        int, typer.Option(min=1, help="Tokens of an answer that are compared.")
    ] = 32,
    batch_size: BatchSizeOption = 16,
    dtype: DtypeOption = "auto",
    device_map: DeviceMapOption = None,
    json: JsonOption = False,
) -> None:
    """Write a bias in a form that runs without tsdi.

    transformers: a copy of the model whose own code subtracts the bias at every step, for
    from_pretrained(..., trust_remote_code=True); to serve a model, take tsdi serve.
    logit-bias: one shift for all steps, for a request to an OpenAI-compatible API. checkpoint: the
    same in the bias of the model's head. Both say on --prompts how far they are from the real rule.

    Example: tsdi export my-bias org/model out --to transformers
    """
    if to not in FORMS:
        raise UsageError(f"There is no form {to!r}.", f"Take {', '.join(FORMS)}.")
    if (prompts is None) != (to == "transformers"):
        raise UsageError(
            "--prompts goes with --to logit-bias and --to checkpoint, which are compared with the"
            " real rule.",
            "Leave it out, or name some.",
        )
    if out.exists() or not out.absolute().parent.is_dir():
        wrong = "exists" if out.exists() else "is in no folder that there is"
        raise UsageError(f"{out} {wrong}.", "Name a new one.")
    if strength is not None:
        check_strength(strength)
    frame.hold(working_on(out))
    from tsdi.bias import SafetyBias
    from tsdi.export.checkpoint import write_checkpoint
    from tsdi.models.load import LoadOptions, load_tokenizer
    from tsdi.models.shipped import resolve_dtype, resolve_model

    console.quiet_libraries()
    source = resolve_model(model)
    options = LoadOptions(resolve_dtype(model, dtype), device_map)
    tokenizer = load_tokenizer(source, options)
    vector = SafetyBias.from_pretrained(bias, tokenizer=tokenizer)
    vector.check_no_anchor()
    used = vector.strength_or_recommended(strength)
    if to == "transformers":
        write_checkpoint(vector, used, source, out, model)
        _show(json, {"out": str(out), "to": to, "strength": used}, None)
        return
    assert prompts is not None
    written, found = _static(
        vector, used, source, options, out, to, (top, limit), (prompts, columns),
        (max_new_tokens, batch_size),
    )  # fmt: skip
    result = {"out": str(out), "to": to, "strength": used, **written}
    result |= {
        "kl_by_step": [one.to_dict() for one in found.by_step],
        "kl_total": found.total.to_dict(),
    }
    _show(json, result, found)


def _static(
    vector: "SafetyBias",
    strength: float,
    source: str,
    options: Any,
    out: Path,
    to: str,
    range_: tuple[int, float],
    asked: tuple[str, str],
    answers: tuple[int, int],
) -> "tuple[dict[str, Any], Divergence]":
    """Write a static form; what was written, and how far it is from the rule."""
    from tsdi.engines.base import Request
    from tsdi.export import static
    from tsdi.files import write_folder
    from tsdi.models.chat import fix_arguments
    from tsdi.models.load import load_model, load_tokenizer
    from tsdi.suites.load import PromptSource, load_prompts

    tokenizer = load_tokenizer(source, options)
    requests = [Request(p.messages) for p in load_prompts(PromptSource(*asked), 0).prompts]
    model = load_model(source, options)
    vector.check(tokenizer, model)
    added = static.static_vector(vector, strength)
    written: dict[str, Any] = {}
    if to == "logit-bias":
        shifts = static.logit_bias(added, *range_)
        added, written = static.as_vector(shifts, len(added)), {"tokens": len(shifts)}
    else:
        changed = static.shifted_head(model, added)
    found = static.divergence(model, tokenizer, vector, strength, added, requests, *answers)
    if to == "logit-bias":
        static.write_logit_bias(out, shifts, vector.info.template_args)
        return written, found
    with write_folder(out) as made:
        changed.save_pretrained(made)
        fix_arguments(tokenizer, vector.info.template_args)
        tokenizer.save_pretrained(made)
    return written, found


def _show(json: bool, result: dict[str, Any], found: "Divergence | None") -> None:
    if json:
        console.show_json(result)
        return
    if found is not None:
        table = Table(title="KL from the real rule, nats", title_justify="left")
        for column in ("response token", "KL", "95 %", "answers"):
            table.add_column(column, justify="right", no_wrap=True)
        for step, one in enumerate(found.by_step[:_SHOWN]):
            table.add_row(str(step), f"{one.value:.4f}", _range(one), str(one.n))
        table.add_row("all", f"{found.total.value:.4f}", _range(found.total), str(found.total.n))
        console.out.print(table)
    console.say(f"Saved in {result['out']}, strength {result['strength']:g}.")
    if result["to"] == "transformers":
        console.say(
            f"Next: from_pretrained({result['out']!r}, trust_remote_code=True); without the flag it"
            " decodes plainly, and does not say so. To serve the model, take tsdi serve: with that"
            " flag transformers' server runs the code of any model it is asked for."
        )


def _range(one: Any) -> str:
    return f"{one.low:.4f} to {one.high:.4f}" if one.n > 1 else "-"
