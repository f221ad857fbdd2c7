"""``tsdi cleanse``: preference pairs without those that a judge contradicts."""

from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

import tsdi
from tsdi.categories import by_code, category_name
from tsdi.cli import console, options
from tsdi.files import check_output
from tsdi.report.cleansing import write_cleansing_report
from tsdi.report.page import is_report
from tsdi.stats.interval import compact_share
from tsdi.suites.prompts import parse_columns, split_columns
from tsdi.training.cleanse import FIELDS, Criterion
from tsdi.training.cleansing import THRESHOLD, Cleansing, Count

WIDTH = 26  # characters of a category's name


def cleanse(
    pairs: Annotated[
        str,
        typer.Argument(
            metavar="PAIRS",
            help="Pairs: rows with prompt, chosen and rejected, or those of PKU-SafeRLHF; .jsonl,"
            " .json or .csv, also with .gz. FILE:chosen_safety=score,category=topic names columns.",
        ),
    ],
    out: Annotated[Path, typer.Option(metavar="FILE.jsonl", help="File for the pairs kept.")],
    threshold: Annotated[
        float,
        typer.Option(min=0.0, max=1.0, help="Least probability that the chosen answer is safe."),
    ] = THRESHOLD,
    rejected: Annotated[
        bool,
        typer.Option(
            "--rejected",
            help="Also drop pairs whose rejected answer is safe with more than 1 - threshold.",
        ),
    ] = False,
    judge: Annotated[
        str | None,
        typer.Option(
            metavar="NAME[=MODEL]",
            help="A judge that gives probabilities, such as md-judge-v0.1 (see tsdi list)."
            " Default: the scores in PAIRS.",
        ),
    ] = None,
    judge_arg: options.JudgeArg = None,
    dtype: options.Dtype = "auto",
    device_map: options.DeviceMap = None,
    trust_remote_code: options.TrustRemoteCode = False,
    resume: options.Resume = False,
    json: options.Json = False,
) -> None:
    """Drop preference pairs whose chosen answer is unsafe in a judge's eyes.

    chosen_safety and rejected_safety are probabilities that an answer is SAFE. Pairs without a
    score are neither kept nor dropped, but counted. A page beside FILE shows probabilities and
    counts. With --judge the verdicts stay there too; a killed run, or one with another threshold,
    goes on from them with --resume.

    Example: tsdi cleanse pairs.jsonl --judge md-judge-v0.1 --out cleaned.jsonl
    """
    name, columns = split_columns(pairs)
    file, page = Path(name), out.with_suffix(".html")
    check_output(page, "--out", "a report of tsdi's", is_report, [file])
    console.quiet_libraries()
    with console.bar("judge", shown=judge is not None) as update:
        cleansed = tsdi.cleanse(
            file,
            out,
            Criterion(threshold, rejected),
            columns=parse_columns(columns, FIELDS),
            judge=judge,
            judge_options=options.read_judge(judge_arg, dtype, device_map, trust_remote_code),
            resume=resume,
            progress=partial(update, "judge"),
        )
    found = cleansed.cleansing
    source = {"Pairs": file.name, "Scores": judge or f"of {file.name}"}
    write_cleansing_report(page, found, {**source, "tsdi": version("tsdi")})
    if json:
        places = {"pairs": str(file), "out": str(out), "judge": judge}
        console.show_json({**places, **cleansed.to_dict()})
        return
    console.out.print(categories_table(found))
    for note in cleansed.notes:
        console.note(note)
    console.say(_summary(found, out))


def categories_table(found: Cleansing) -> Table:
    """Table of every category's pairs, dropped pairs and mean probabilities."""
    also = f", or rejected one above {1 - found.threshold:g}" if found.rejected else ""
    whole = found.overall
    unscored = ["unscored"] if whole.unscored else []
    means = ["P(safe),\nchosen", "P(safe),\nrejected"]
    table = console.table(
        f"Dropped: chosen answer below {found.threshold:g}{also}",
        ["", "pairs", "dropped", "share", *unscored, *means],
    )
    categories = found.categories
    for name in by_code(categories):
        table.add_row(
            _title(name, WIDTH - 10 * len(unscored)), *_cells(categories[name], bool(unscored))
        )
    if len(categories) > 1:
        table.add_section()
        table.add_row("all", *_cells(whole, bool(unscored)))
    return table


def _title(category: str, width: int) -> str:
    return console.one_line(category_name(category), width)


def _cells(count: Count, unscored: bool) -> list[str]:
    means = (count.chosen_safety, count.rejected_safety)
    return [
        str(count.total),
        str(count.dropped),
        compact_share(count.dropped / count.total),
        *([str(count.unscored)] if unscored else []),
        *("-" if mean is None else compact_share(mean) for mean in means),
    ]


def _summary(found: Cleansing, out: Path) -> str:
    count = found.overall
    because = f" ({found.fates.count('rejected safe')} for the rejected answer alone)"
    return (
        f"Kept {count.kept} of {count.total} pairs, dropped {count.dropped}"
        f"{because if found.rejected else ''}, {count.unscored} without a score. Saved in {out}"
        f" and {out.with_suffix('.html').name}."
    )
