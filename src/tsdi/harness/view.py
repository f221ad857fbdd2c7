"""``view``: run folders in Inspect's viewer."""

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from tsdi.arguments import as_list, as_name
from tsdi.errors import UsageError
from tsdi.files import check_output
from tsdi.runs.responses import check_is_there


def view(runs: Sequence[str | Path], out: str | Path = "logs", *, kind: str = "") -> list[Path]:
    """Write run folders as logs of Inspect's, one file each, with the scores of all judges.

    Scores are called as those of tsdi's tasks in Inspect, such as complied_lookalike; where several
    judges have judged, "complied_lookalike by qwen3guard". Judges that have not finished are passed
    over, and the log of this library says so.

    Args:
        runs: Run folders, judged or not.
        out: Folder of logs; it is made if need be.
        kind: Kind of prompts that have none, where nobody has judged.

    Returns:
        The files, NAME.eval for a run folder NAME. Earlier ones of tsdi's are written over.

    Raises:
        UsageError: If Inspect is not installed, a folder is no run, two have one name, or another
            file is in the way.
        TsdiError: If a run cannot be read.
    """
    if find_spec("inspect_ai") is None:
        raise UsageError("Logs of Inspect's need inspect_ai.", "Run: pip install 'tsdi[inspect]'.")
    from inspect_ai.log import write_eval_log

    from tsdi.harness.inspect_log import is_ours, to_log

    folders = [Path(as_name("A run", run)) for run in as_list("The runs", runs)]
    paths = [Path(out) / f"{folder.resolve().name}.eval" for folder in folders]
    if len({*paths}) < len(paths):
        raise UsageError("Two runs have the same name.", "Write them to two folders: --out DIR.")
    for folder in folders:
        check_is_there(folder)
    logs = [to_log(folder, kind) for folder in folders]
    try:
        Path(out).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(
            f"Cannot make the folder {out}: {error.strerror}.", "Name another --out."
        ) from None
    for path in paths:
        check_output(path, "--out", "a log of tsdi's", is_ours)
    for path, log in zip(paths, logs, strict=True):
        write_eval_log(log, path)
    return paths
