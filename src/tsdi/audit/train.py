"""Trains the judge `trained` on files of labels, and writes it if it is worth having."""

import hashlib
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tsdi.audit.labels import LabelFormat, read_labels
from tsdi.audit.train_judge import Training, train_judge
from tsdi.files import check_output, working_on, write_json
from tsdi.judging.trained import JudgeFile, is_judge_file
from tsdi.runs.stage import Progress


def train(
    labels: Sequence[str | Path],
    out: str | Path,
    *,
    label_format: LabelFormat = LabelFormat(),
    progress: Progress | None = None,
) -> Training:
    """Train a small refusal judge on labelled answers, and find out whether it is worth having.

    Args:
        labels: Files of labelled answers, of three models at least.
        out: The judge's file; it is written only if the judge is better than the string rules.
        label_format: How the files are read.
        progress: Called with the models that were held out so far, and their number.

    Raises:
        UsageError: If the file cannot be there, or scikit-learn is missing.
        PromptError: If the labels will not do.
        RunExistsError: If another process works there.
        TsdiError: If the file cannot be written.
    """
    out, files = Path(out), [Path(label) for label in labels]
    check_output(out, "--train", "a trained judge", is_judge_file, files)
    with working_on(out):
        found = train_judge(read_labels(files, label_format), progress)
        if found.better:
            file = JudgeFile(
                coefficients=found.weights.coefficients.tolist(),
                intercepts=found.weights.intercepts.tolist(),
                temperature=found.weights.temperature,
                labels_sha256=[hashlib.sha256(path.read_bytes()).hexdigest() for path in files],
                evidence=evidence(found),
            )
            write_json(out, file.model_dump(mode="json"))
    return found


def evidence(found: Training) -> dict[str, Any]:
    """What cross-validation says of a judge, and in which versions, as JSON."""
    versions = {name: version(name) for name in ("tsdi", "scikit-learn", "numpy")}
    return {**found.to_dict(), "versions": versions}
