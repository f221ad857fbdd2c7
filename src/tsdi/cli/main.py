"""Entry point of the command line."""

from typing import Annotated

import typer

import tsdi
from tsdi.cli import console
from tsdi.cli.audit import audit
from tsdi.cli.cleanse import cleanse
from tsdi.cli.compare import compare
from tsdi.cli.demo import demo
from tsdi.cli.estimate import estimate
from tsdi.cli.evaluate import evaluate
from tsdi.cli.export import export
from tsdi.cli.generate import generate
from tsdi.cli.judges import judges
from tsdi.cli.merge import merge
from tsdi.cli.sample_size import sample_size
from tsdi.cli.serve import serve
from tsdi.cli.show import show
from tsdi.cli.study import report, study
from tsdi.cli.suites import suites
from tsdi.cli.train import train
from tsdi.cli.tune import tune
from tsdi.cli.winrate import winrate

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="Find the refusal bias that safety alignment leaves in a language model, and take it out "
    "while decoding.",
)
for command in (
    demo,
    estimate,
    show,
    generate,
    evaluate,
    compare,
    winrate,
    tune,
    study,
    report,
    export,
    train,
    merge,
    audit,
    cleanse,
    judges,
    suites,
    sample_size,
):
    app.command(cls=console.Command)(console.reports_errors(command))
# What follows -- is the server's.
app.command(cls=console.Command, context_settings={"allow_extra_args": True})(
    console.reports_errors(serve)
)


def _version(asked: bool) -> None:
    if asked:
        print(tsdi.__version__)
        raise typer.Exit


@app.callback()
def options(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of errors.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Options of all commands."""
    console.Debug.on = debug


def run() -> None:
    """Run the command line."""
    console.tolerate_any_encoding()
    app()
