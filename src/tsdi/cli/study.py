"""``tsdi study``: a grid of models, rules and prompts, and its report."""

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from tsdi.cli import console, frame
from tsdi.cli.options import JsonOption
from tsdi.errors import RunExistsError, UsageError

if TYPE_CHECKING:
    from tsdi.study.summary import Summary


def study(
    file: Annotated[Path, typer.Argument(metavar="STUDY.yaml", help="What is compared.")],
    out: Annotated[Path, typer.Option(help="The study's folder.")],
    models: Annotated[
        Path | None,
        typer.Option(help="Where the study's relative paths start; default: its own folder."),
    ] = None,
    only: Annotated[
        list[str] | None,
        typer.Option(
            metavar="RULE",
            help="Only this rule beside plain and tsdi, in the report too; may be given again.",
        ),
    ] = None,
    workers: Annotated[int, typer.Option(min=1, help="Processes that work side by side.")] = 1,
    smoke: Annotated[
        bool,
        typer.Option(
            "--smoke", help="Try it out: tiny random models in place of the study's, few prompts."
        ),
    ] = False,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on in a folder; what is done is not done again.")
    ] = False,
    json: JsonOption = False,
) -> None:
    """Compare models, decoding rules and baselines, with intervals; write one report.

    OUT gets every answer and verdict, results.json, summary.json, tables as CSV, and report.html.
    A killed study goes on with --resume; so does one whose file has changed.

    Example: tsdi study experiments/organism/study.yaml --out organism-study --workers 2
    """
    from tsdi.files import is_unused, working_in
    from tsdi.study.config import read_study
    from tsdi.study.grid import run_grid
    from tsdi.study.page import write_study
    from tsdi.study.plan import plan
    from tsdi.study.results import collect, is_study
    from tsdi.study.smoke import shrink

    console.quiet_libraries()
    if models is not None and not models.is_dir():
        raise UsageError(f"There is no folder {models}.", "Mend --models.")
    read, base = read_study(file).only(only or []), models or file.parent
    frame.hold(working_in(out))
    if not is_unused(out):
        if not resume:
            raise RunExistsError(f"{out} is in use.", "Give another --out, or --resume.")
        if not is_study(out):
            raise RunExistsError(f"{out} holds other files and no study.", "Give another --out.")
    if smoke:
        read, base = shrink(read, base, out)
    made = plan(read, base, file.parent, out)
    with console.bar("study") as progress:
        run_grid(made, workers, progress)
        results = collect(made, shlex.join(["tsdi", *sys.argv[1:]]), progress)
        progress("report", 0, 1)
        summary = write_study(out, results, own=True)
    _show(summary, out, json)


def report(
    results: Annotated[
        Path, typer.Argument(metavar="RESULTS", help="A study's folder, or its results.json.")
    ],
    out: Annotated[Path, typer.Option(help="Folder for report, tables and figures.")],
    images: Annotated[
        str, typer.Option(metavar="FORMAT,...", help="Also write each figure: png, svg, pdf.")
    ] = "",
    json: JsonOption = False,
) -> None:
    """Make tables, figures and report of a study again, from its results alone.

    Example: tsdi report organism-study --out paper --images png,svg
    """
    from tsdi.files import working_in
    from tsdi.study.page import write_study
    from tsdi.study.results import is_study, read_results

    frame.hold(working_in(out))
    own = is_study(out)
    summary = write_study(out, read_results(results), [f for f in images.split(",") if f], own)
    _show(summary, out, json)


def _show(summary: "Summary", out: Path, json: bool) -> None:
    if json:
        shown: dict[str, Any] = {"out": str(out), **summary}
        console.show_json(shown)
        return
    from tsdi.study.tables import methods_table

    sheet = methods_table(summary)
    table = Table(title="Fronts of safety and helpfulness, and cost", title_justify="left")
    header = [title for title in sheet.header if not title.startswith("tuned")]  # 80 characters
    for number, column in enumerate(header):
        title = column.removeprefix("front, ")
        table.add_column(title, justify="right" if number else "left", no_wrap=True)
    for number, (name, volume, ahead, _, *cost) in enumerate(sheet.rows):
        short = [cell.partition(" [")[0] for cell in (volume, *cost)]  # intervals: in the report
        style = "red" if number in sheet.marked else ""
        table.add_row(console.one_line(name, 24), short[0], ahead, *short[1:], style=style)
    console.out.print(table)
    for alert in summary["alerts"]:
        console.out.print(console.red(alert))
    for line in (*summary["caveats"], *summary["sentences"]):
        console.say(line)
    console.say(f"Report: {out / 'report.html'}")
