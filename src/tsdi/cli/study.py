"""``tsdi study``: a grid of models, rules and prompts, and its report."""

from pathlib import Path
from typing import Annotated, Any

import typer

import tsdi.study
from tsdi.cli import console, frame, options
from tsdi.errors import UsageError
from tsdi.study import sentences as words
from tsdi.study.config import read_study
from tsdi.study.front_tables import rules_overview
from tsdi.study.page import summary_json
from tsdi.study.summary import Summary


def study(
    context: typer.Context,
    file: Annotated[
        Path,
        typer.Argument(
            metavar="STUDY.yaml|FOLDER",
            help="What is compared; or the folder of a study that has run, or its results.json, of"
            " which tables and report are made again.",
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option(help="The study's folder; of one that has run, another one for its report."),
    ] = None,
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
    workers: options.Workers = "1",
    worker_gpus: options.WorkerGpus = None,
    smoke: Annotated[
        bool,
        typer.Option(
            "--smoke", help="Try it out: tiny random models in place of the study's, few prompts."
        ),
    ] = False,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on in a folder; what is done is not done again.")
    ] = False,
    json: options.Json = False,
) -> None:
    """Compare models, decoding rules and baselines, with intervals; write one report.

    OUT gets every answer and verdict, results.json, summary.json, tables as CSV, and report.html.
    A killed study goes on with --resume; so does one whose file has changed.

    Example, with a study that is in tsdi's repository:
    tsdi study experiments/organism/study.yaml --out organism-study --workers 2
    """
    if ran := file.is_dir() or file.suffix == ".json":
        out = out or (file if file.is_dir() else None)
    if out is None:
        raise UsageError("--out is missing.", "Name a folder for the study, or for its report.")
    if ran:
        _refuse_running(context)
        _show(tsdi.study.report(file, out), out, json)
        return
    cluster = options.read_cluster(workers, worker_gpus)
    read_study(file).only(only or [])  # says what is wrong before torch is loaded
    console.quiet_libraries()
    with console.bar("study") as progress:
        summary = tsdi.study.study(
            file,
            out,
            models,
            only=only or [],
            cluster=cluster,
            smoke=smoke,
            resume=resume,
            progress=progress,
        )
    _show(summary, out, json)


def _refuse_running(context: typer.Context) -> None:
    """Refuse options that a study takes which has yet to run."""
    for option in frame.given(context, but={"file", "out", "json"}):
        raise UsageError(f"{option} is for a study that runs.", "Leave it out, or name its file.")


def _show(summary: Summary, out: Path, json: bool) -> None:
    if json:
        shown: dict[str, Any] = {"out": str(out), **summary_json(summary)}
        console.show_json(shown)
        return
    sheet = rules_overview(summary)
    header = [title for title in sheet.header if not title.startswith("tuned")]  # 80 characters
    columns = [title.removeprefix("front, ").replace("tokens/s", "speed") for title in header]
    table = console.table("Fronts of safety and helpfulness, and cost", columns)
    for number, (name, volume, ahead, _, *cost) in enumerate(sheet.rows):
        short = [cell.partition(" [")[0] for cell in (volume, *cost)]  # intervals: in the report
        style = "red" if number in sheet.marked else ""
        table.add_row(console.one_line(name, 24), short[0], ahead, *short[1:], style=style)
    console.out.print(table)
    for alert in words.alerts(summary):
        console.out.print(console.red(alert))
    for line in (*words.caveats(summary), *words.sentences(summary)):
        console.say(line)
    console.say(f"Report: {out / 'report.html'}")
