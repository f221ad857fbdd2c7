"""``demo``, ``study`` and ``report``: the functions behind these commands."""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch

from tsdi.arguments import as_list, check_whole
from tsdi.errors import RunExistsError, UsageError
from tsdi.files import check_output, is_unused, working_in
from tsdi.report.page import is_report
from tsdi.runs.command_line import command_line
from tsdi.runs.stage import StageProgress
from tsdi.study.collect import collect
from tsdi.study.config import read_study
from tsdi.study.demo import DemoResult, run_demo
from tsdi.study.demo_page import write_demo_report
from tsdi.study.everyday import EverydayResult, run_everyday, why_not
from tsdi.study.everyday_page import write_everyday_report
from tsdi.study.grid import run_grid
from tsdi.study.page import write_study
from tsdi.study.plan import plan
from tsdi.study.results import is_study, read_results
from tsdi.study.smoke import shrink
from tsdi.study.summary import Summary

REPORT = "report.html"
DEMOS = ("smollm2", "organism")
_LOG = logging.getLogger(__name__)


def demo(
    out: str | Path = "tsdi-demo",
    seed: int = 0,
    progress: StageProgress | None = None,
    model: str = "smollm2",
) -> EverydayResult | DemoResult:
    """Run the demo: estimate, debias and compare on a model that tsdi brings along.

    Args:
        out: Folder for the report, report.html, and for "smollm2" of all results: the bias
            and a run folder of each arm, which a later call with the same seed takes over.
        seed: Decides random prompts, and the organism's test prompts.
        progress: Called with what is being done, how much of it is done, and how much there is.
        model: "smollm2", a real language model that is fetched at first use; or "organism", a tiny
            one in an invented world where every right answer is known. Where SmolLM2 cannot be had
            it is the organism, and a log line says so.

    Raises:
        UsageError: If there is no such demo, the report cannot be there, or something else is.
        RunExistsError: If another process works there, or the folder holds other runs.
        TsdiError: If it cannot be written.
    """
    check_whole("seed", seed, 0)
    if model not in DEMOS:
        raise UsageError(f"There is no demo {model!r}.", f"Choose from {', '.join(DEMOS)}.")
    out = Path(out)
    with working_in(out):
        check_output(out / REPORT, "--out", "a report of tsdi's", is_report)
        if model == "smollm2" and (reason := why_not()):
            _LOG.warning("%s The organism takes SmolLM2's place.", reason)
            model = "organism"
        if model == "smollm2":
            found = run_everyday(out, seed, progress)
            write_everyday_report(out / REPORT, found)
            return found
        with _one_thread():
            result = run_demo(seed, progress or _silent)
            write_demo_report(out / REPORT, result)
            return result


@contextmanager
def _one_thread() -> Iterator[None]:
    """Let torch work with one thread: tiny models are several times slower on more."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def study(
    file: str | Path,
    out: str | Path,
    models: str | Path | None = None,
    *,
    only: Sequence[str] = (),
    workers: int = 1,
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
        workers: Processes that work side by side.
        smoke: Try the study out with tiny random models in place of its own, and few prompts.
        resume: Go on in a folder; what is done is not done again.
        progress: Called with what is being done, how much of it is done, and how much there is.

    Raises:
        UsageError: If the file, a rule or a place cannot be.
        RunExistsError: If the folder is in use, by a process or by other files.
        TsdiError: If anything cannot be loaded, or written.
    """
    check_whole("workers", workers)
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
        run_grid(made, workers, told)
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
