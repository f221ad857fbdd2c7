"""``demo``: the main job on a model that tsdi brings along, and its page."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from tsdi.arguments import check_whole
from tsdi.demos.organism import DemoResult, run_demo
from tsdi.demos.organism_page import write_demo_report
from tsdi.demos.smollm2 import EverydayResult, run_everyday, why_not
from tsdi.demos.smollm2_page import write_everyday_report
from tsdi.errors import UsageError
from tsdi.files import check_output, working_in
from tsdi.report.page import is_report
from tsdi.runs.stage import StageProgress

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


def _silent(_what: str, _done: int, _total: int) -> None:
    """A progress function that does nothing."""
