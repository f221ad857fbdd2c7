"""``tsdi merge``: a weighted mean of models."""

from pathlib import Path
from typing import Annotated

import typer

from tsdi.cli import console, frame
from tsdi.cli.options import JsonOption
from tsdi.errors import UsageError


def merge(
    models: Annotated[list[Path], typer.Argument(help="Folders of models.")],
    weights: Annotated[str, typer.Option(help="One for each, such as 0.75,0.25.")],
    out: Annotated[Path, typer.Option(help="Folder for the merged model.")],
    json: JsonOption = False,
) -> None:
    """Merge models of one architecture into their weighted mean, as P-SACPO does.

    Example: tsdi merge out/safety/beta0.01 out/helpful --weights 0.75,0.25 --out p-sacpo
    """
    from tsdi.files import working_on
    from tsdi.training.merge import merge_linear

    try:
        numbers = [float(part) for part in weights.split(",")]
    except ValueError:
        raise UsageError(
            f"--weights {weights!r} is no list of numbers.", "Such as 0.75,0.25."
        ) from None
    if len(numbers) != len(models):
        raise UsageError(f"{len(models)} models and {len(numbers)} weights.", "Give one for each.")
    frame.hold(working_on(out))
    merge_linear(list(zip(models, numbers, strict=True)), out)
    if json:
        parts = {str(model): weight for model, weight in zip(models, numbers, strict=True)}
        console.show_json({"out": str(out), "weights": parts})
    else:
        console.say(f"Merged {len(models)} models into {out}.")
