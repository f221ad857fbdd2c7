"""``tsdi gather``: shards joined into one run or one estimate."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

import tsdi
from tsdi.cli import console, options

if TYPE_CHECKING:  # keeps torch out of the help
    from tsdi.evaluation.gather import Gathered


def gather(
    shards: Annotated[
        list[Path], typer.Argument(metavar="SHARD...", help="The folders of all shards.")
    ],
    out: Annotated[Path, typer.Option(help="A new folder for the whole.")],
    json: options.Json = False,
) -> None:
    """Join the shards of a run, or of an estimate, that --shard made.

    A run is then as if one machine had made it. An estimate has the sums of all random prompts, of
    which tsdi estimate --resume makes the bias. Shards that are missing, there twice, unfinished or
    made with other settings are refused by name.

    Example: tsdi gather shard-1 shard-2 shard-3 --out whole
    """
    found = tsdi.gather(shards, out)
    if json:
        console.show_json({"out": str(out), **asdict(found)})
    else:
        console.say(
            f"{_said(found)} from {found.shards} shards in {out}. Next: {_next(found, out)}"
        )


def _said(found: "Gathered") -> str:
    if found.what == "estimate":
        return f"The sums of {found.prompts} random prompts"
    judged = f", judged by {' and '.join(found.judges)}," if found.judges else ""
    return f"{found.prompts} answers{judged}"


def _next(found: "Gathered", out: Path) -> str:
    if found.what == "estimate":
        return (
            f"tsdi estimate {' '.join(found.pair)} --out {out} --resume, with the shards' other"
            " options."
        )
    if found.judges:
        return f"tsdi compare {out} OTHER_RUN"
    return f"tsdi evaluate {out}"
