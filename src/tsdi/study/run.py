"""``study`` and ``report``: the functions behind these commands."""

from collections.abc import Sequence
from pathlib import Path

from tsdi.arguments import as_list
from tsdi.cluster import Cluster
from tsdi.errors import RunExistsError, UsageError
from tsdi.files import is_unused, working_in
from tsdi.runs.command_line import command_line
from tsdi.runs.stage import StageProgress
from tsdi.study.collect import collect
from tsdi.study.config import read_study
from tsdi.study.grid import run_grid
from tsdi.study.page import write_study
from tsdi.study.plan import plan
from tsdi.study.results import is_study, read_results
from tsdi.study.smoke import shrink
from tsdi.study.summary import Summary


def study(
    file: str | Path,
    out: str | Path,
    models: str | Path | None = None,
    *,
    only: Sequence[str] = (),
    cluster: Cluster | None = None,
    smoke: bool = False,
    resume: bool = False,
    progress: StageProgress | None = None,
) -> Summary:
    """Run a study: compare models, decoding rules and baselines, and write one report.

    Args:
        file: The study, a YAML file.
        out: The study's folder; it gets every answer and verdict, results.json, summary.json,
            tables as CSV, and report.html.
        models: Where the study's relative paths start; None takes its own folder.
        only: The only rules beside plain and tsdi, in the report too; none given takes all.
        cluster: Spreads the models over workers, whose machines must see the folders.
        smoke: Try the study out with tiny random models in place of its own, and few prompts.
        resume: Go on in a folder; what is done is not done again.
        progress: Called with what is being done, how much of it is done, and how much there is.

    Raises:
        UsageError: If the file, a rule or a place cannot be.
        RunExistsError: If the folder is in use, by a process or by other files.
        TsdiError: If anything cannot be loaded, or written.
    """
    only = as_list("only", only)
    file, out, told = Path(file), Path(out), progress or _silent
    if models is not None and not Path(models).is_dir():
        raise UsageError(f"There is no folder {models}.", "Mend --models.")
    read, base = read_study(file).only(only), file.parent if models is None else Path(models)
    with working_in(out):
        if not is_unused(out):
            if not resume:
                raise RunExistsError(f"{out} is in use.", "Give another --out, or --resume.")
            if not is_study(out):
                raise RunExistsError(
                    f"{out} holds other files and no study.", "Give another --out."
                )
        if smoke:
            read, base = shrink(read, base, out)
        made = plan(read, base, file.parent, out)
        run_grid(made, cluster, told)
        results = collect(made, command_line(), told)
        told("report", 0, 1)
        return write_study(out, results, own=True)


def report(results: str | Path, out: str | Path, images: Sequence[str] = ()) -> Summary:
    """Write tables, figures and report of a study again, from its results alone.

    Args:
        results: A study's folder, or its results.json.
        out: Folder for report, tables and figures.
        images: Formats in which each figure is written too: png, svg, pdf.

    Raises:
        UsageError: If a format is unknown, or kaleido is missing for it.
        FormatError: If the results are damaged.
        RunExistsError: If another process works there, or another file of such a name is there.
        TsdiError: If a file cannot be written.
    """
    out, images = Path(out), as_list("images", images)
    with working_in(out):
        return write_study(out, read_results(Path(results)), images, is_study(out))


def _silent(_what: str, _done: int, _total: int) -> None:
    """A progress function that does nothing."""
