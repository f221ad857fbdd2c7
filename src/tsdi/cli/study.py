"""``tsdi study``: a grid of models, rules and prompts, and its report."""

from pathlib import Path
from typing import Annotated, Any

import typer

import tsdi.study
from tsdi.cli import console, options
from tsdi.errors import UsageError
from tsdi.study import sentences as words
from tsdi.study.config import read_study
from tsdi.study.front_tables import rules_overview
from tsdi.study.page import summary_json
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
    workers: options.Workers = 1,
    ray: options.Ray = None,
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

    Example: tsdi study experiments/organism/study.yaml --out organism-study --workers 2
    """
    if worker_gpus is not None and ray is None:
        raise UsageError("--worker-gpus needs --ray.")
    read_study(file).only(only or [])  # says what is wrong before torch is loaded
    console.quiet_libraries()
    with console.bar("study") as progress:
        summary = tsdi.study.study(
            file,
            out,
            models,
            only=only or [],
            workers=tsdi.Cluster(ray, workers, worker_gpus) if ray else workers,
            smoke=smoke,
            resume=resume,
            progress=progress,
        )
    _show(summary, out, json)


def report(
    results: Annotated[
        Path, typer.Argument(metavar="RESULTS", help="A study's folder, or its results.json.")
    ],
    out: Annotated[Path, typer.Option(help="Folder for report, tables and figures.")],
    images: Annotated[
        str, typer.Option(metavar="FORMAT,...", help="Also write each figure: png, svg, pdf.")
    ] = "",
    json: options.Json = False,
) -> None:
    """Make tables, figures and report of a study again, from its results alone.

    Example: tsdi report organism-study --out paper --images png,svg
    """
    summary = tsdi.study.report(results, out, list(filter(None, images.split(","))))
    _show(summary, out, json)


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
