"""``tsdi merge``: a weighted mean of models."""

from pathlib import Path
from typing import Annotated

import typer

import tsdi
from tsdi.cli import console, options
from tsdi.errors import UsageError


def merge(
    models: Annotated[list[str], typer.Argument(help="Folders of models.")],
    weights: Annotated[str, typer.Option(help="One for each, such as 0.75,0.25.")],
    out: Annotated[Path, typer.Option(help="Folder for the merged model.")],
    json: options.Json = False,
) -> None:
    """Merge models of one architecture into their weighted mean, as P-SACPO does.

    Example: tsdi merge out/safety/beta0.01 out/helpful --weights 0.75,0.25 --out p-sacpo
    """
    try:
        numbers = [float(part) for part in weights.split(",")]
    except ValueError:
        raise UsageError(
            f"--weights {weights!r} is no list of numbers.", "Such as 0.75,0.25."
        ) from None
    if len(numbers) != len(models):
        raise UsageError(f"{len(models)} models and {len(numbers)} weights.", "Give one for each.")
    weighted = list(zip(models, numbers, strict=True))
    tsdi.merge(weighted, out)
    if json:
        parts = {str(model): weight for model, weight in weighted}
        console.show_json({"out": str(out), "weights": parts})
    else:
        console.say(f"Merged {len(models)} models into {out}.")
