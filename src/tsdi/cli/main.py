"""Entry point of the command line: a table of commands, loaded when asked for."""

from importlib import import_module
from typing import Annotated, Any, NamedTuple

import typer
from typer.core import TyperCommand, TyperGroup

import tsdi
from tsdi.cli import frame


class Entry(NamedTuple):
    """A command in the table, before its module is loaded.

    Attributes:
        panel: Heading under which the help lists it.
        module: Module of its function, which has the command's name.
        summary: One line of help.
    """

    panel: str
    module: str
    summary: str


COMMANDS = {
    "demo": Entry("Start", "demo", "The method on SmolLM2-135M, fetched, or on an organism."),
    "estimate": Entry("Start", "estimate", "Estimate the safety bias of a pair of models."),
    "show": Entry("Start", "show", "Show the tokens of a bias, step by step, and its diagnosis."),
    "reproduce": Entry("Start", "reproduce", "Estimate a bias again from its own record."),
    "debias": Entry("Start", "debias", "All at once: estimate, condition, tune, gate, report."),
    "condition": Entry("Start", "condition", "Fit when to subtract a bias, prompt by prompt."),
    "generate": Entry("Start", "generate", "Answer prompts, with a bias subtracted or without."),
    "playground": Entry("Start", "playground", "Plain and debiased side by side, in a browser."),
    "chat": Entry("Start", "playground", "Plain and debiased side by side, in the terminal."),
    "evaluate": Entry("Measure", "evaluate", "Answer prompts, judge the answers, count verdicts."),
    "compare": Entry("Measure", "compare", "Compare two judged runs, or gate a change by safety."),
    "view": Entry("Measure", "view", "Write runs as logs for Inspect's viewer."),
    "gather": Entry("Measure", "gather", "Join the shards of a run or of an estimate."),
    "winrate": Entry("Measure", "winrate", "Ask a model behind an API which answers help more."),
    "sample-size": Entry("Measure", "sample_size", "How many prompts it takes to see a change."),
    "tune": Entry("Measure", "tune", "Search strength, steps and decay under floors of safety."),
    "label": Entry("Measure", "label", "Label answers of a run yourself, drawn by chance."),
    "audit": Entry("Measure", "audit", "Measure how wrong a judge is, on answers people labelled."),
    "list": Entry("Measure", "listing", "List the judges and the public prompt sets."),
    "serve": Entry("Serve", "serve", "Serve a model debiased, OpenAI-compatible."),
    "export": Entry("Serve", "export", "Write a bias in a form that runs without tsdi."),
    "train": Entry("Train", "train", "Train the models of a recipe: SFT, DPO, KTO, merges."),
    "merge": Entry("Train", "merge", "Merge models into their weighted mean."),
    "cleanse": Entry("Train", "cleanse", "Drop preference pairs whose chosen answer is unsafe."),
    "study": Entry("Study", "study", "Compare models, decoding rules and baselines."),
}

HELP = ["-h", "--help"]
_WIDTH = max(map(len, COMMANDS))  # one width of the names' column in all panels


class Commands(TyperGroup):
    """The commands of `COMMANDS`, each loaded when it is asked for."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        for name in COMMANDS:
            self.add_command(TyperCommand(name))

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """A command with its options, or None if there is none of the name."""
        return load(cmd_name) if cmd_name in COMMANDS else None

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write the table of commands, panel by panel."""
        for panel in dict.fromkeys(entry.panel for entry in COMMANDS.values()):
            rows = [(f"{n:{_WIDTH}}", e.summary) for n, e in COMMANDS.items() if e.panel == panel]
            with formatter.section(panel):
                formatter.write_dl(rows)


def load(name: str) -> Any:
    """The click command of a name in `COMMANDS`."""
    module = import_module(f"tsdi.cli.{COMMANDS[name].module}")
    alone = typer.Typer(add_completion=False, rich_markup_mode=None)
    settings: dict[str, Any] = {"help_option_names": HELP}
    if name == "serve":
        settings["allow_extra_args"] = True  # what follows -- is the server's
    function = getattr(module, name.replace("-", "_"))
    alone.command(name, cls=frame.Command, context_settings=settings)(
        frame.reports_errors(function)
    )
    return typer.main.get_command(alone)


app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    context_settings={"help_option_names": HELP},
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="Find the refusal bias that safety alignment leaves in a language model, and take it out "
    "while decoding.",
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
    frame.Debug.on = debug


def run() -> None:
    """Run the command line."""
    frame.tolerate_any_encoding()
    app()
