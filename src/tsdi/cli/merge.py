"""``tsdi merge``: a weighted mean of models."""

from pathlib import Path
from typing import Annotated

import typer

import tsdi
from tsdi.cli import console, options
from tsdi.errors import UsageError


def merge(
    models: Annotated[
        list[str], typer.Argument(metavar="MODEL=WEIGHT...", help="Folders of models.")
    ],
    out: Annotated[Path, typer.Option(help="Folder for the merged model.")],
    json: options.Json = False,
) -> None:
    """Merge models of one architecture into their weighted mean, as P-SACPO does.

    Example: tsdi merge out/safety/beta0.01=0.75 out/helpful=0.25 --out p-sacpo
    """
    weighted = [_weighted(text) for text in models]
    tsdi.merge(weighted, out)
    if json:
        parts = {str(model): weight for model, weight in weighted}
        console.show_json({"out": str(out), "weights": parts})
    else:
        console.say(f"Merged {len(models)} models into {out}.")


def _weighted(text: str) -> tuple[str, float]:
    model, _, weight = text.rpartition("=")
    try:
        return model or text, float(weight)
    except ValueError:
        raise UsageError(f"{text!r} has no weight.", f"Write it like {text}=0.75.") from None
