"""``tsdi view``: run folders as logs for Inspect's viewer."""

from pathlib import Path
from typing import Annotated

import typer

import tsdi
from tsdi.cli import console, options


def view(
    runs: Annotated[
        list[Path], typer.Argument(metavar="RUN...", help="Run folders, judged or not.")
    ],
    out: Annotated[Path, typer.Option(help="Folder of logs.")] = Path("logs"),
    json: options.Json = False,
) -> None:
    """Write runs as logs for inspect view: every answer, with each judge's scores by category.

    Needs tsdi[inspect]. Each run is one file in the folder of logs.

    Example: tsdi view plain debiased
    """
    files = tsdi.view(runs, out)
    if json:
        console.show_json({"files": list(map(str, files))})
    else:
        console.say(f"Saved {len(files)} in {out}. Next: inspect view --log-dir {out}")
