"""Inspect: run folders as its logs, so that `inspect view` shows their answers and scores."""

import logging
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from inspect_ai.log import (
    EvalConfig,
    EvalDataset,
    EvalLog,
    EvalMetric,
    EvalResults,
    EvalSample,
    EvalScore,
    EvalSpec,
    EvalStats,
    read_eval_log,
)
from inspect_ai.model import ModelOutput, StopReason
from inspect_ai.scorer import SampleScore, Score, frequency

from tsdi.errors import TsdiError
from tsdi.evaluation.verdicts import JudgedRun, read_place
from tsdi.harness.inspect_chat import from_message
from tsdi.harness.inspect_scorers import FIGURES, VERDICTS, by_category, share, to_score
from tsdi.judging.base import Response
from tsdi.runs.judge_folders import label, places
from tsdi.runs.responses import (
    answers_sha256,
    read_responses,
    read_run,
    said_of_run,
)
from tsdi.runs.stage import ANSWERS

_LOG = logging.getLogger(__name__)
_OURS = "tsdi_run"  # in the metadata of our logs
Scores = dict[str, dict[str, Score]]
"""Scores by their name, then by the answer's id."""


def is_ours(path: Path) -> bool:
    """Whether a file is a log that was made here."""
    try:
        metadata = read_eval_log(path, header_only=True).eval.metadata
    except Exception:  # whatever Inspect raises for what is no log
        return False
    return _OURS in (metadata or {})


def to_log(folder: Path, kind: str) -> EvalLog:
    """A run folder as a log; `kind` is that of prompts without one, where nobody has judged.

    Raises:
        TsdiError: If the run cannot be read.
    """
    judged = _judged(folder)
    responses = judged[0].responses if judged else read_responses(folder, kind)
    names = [run.judge["name"] for run in judged]
    scores: Scores = {}
    for run in judged:
        judge = run.judge["name"] if names.count(run.judge["name"]) == 1 else label(run.judge)
        for name, found in _scores(run).items():
            scores[f"{name} by {judge}" if len(judged) > 1 else name] = found
    run_json, model = read_run(folder), said_of_run(folder, "model") or "unknown"
    written = (folder / ANSWERS.records).stat().st_mtime
    made = datetime.fromtimestamp(written, UTC).isoformat(timespec="seconds")
    name, sha = folder.resolve().name, answers_sha256(folder)
    spec = EvalSpec(
        created=made,
        task=name,
        task_id=f"{name}-{sha[:16]}",
        run_id=sha[:22],
        eval_id=sha[:22],
        dataset=EvalDataset(name=name, samples=len(responses)),
        model=model,
        config=EvalConfig(),
        packages={"tsdi": version("tsdi")},
        metadata={_OURS: run_json, "judges": [run.judge for run in judged]},
    )
    samples = [_sample(one, model, scores) for one in responses]
    results = EvalResults(
        total_samples=len(samples),
        completed_samples=len(samples),
        scores=[_result(name, found, responses) for name, found in scores.items()],
    )
    stats = EvalStats(started_at=made, completed_at=made)
    return EvalLog(status="success", eval=spec, results=results, stats=stats, samples=samples)


def _judged(folder: Path) -> list[JudgedRun]:
    """The run with the verdicts of each judge that has finished."""
    found = []
    for place in places(folder):
        try:
            found.append(read_place(folder, place.folder))
        except TsdiError as error:
            _LOG.warning("No scores by %s: %s", place.names[0], error.problem)
    return found


def _scores(run: JudgedRun) -> Scores:
    """The scores of one judge, of the figures that it sees."""
    found = {
        name: {
            one.id: to_score(one, float(figure.hit(one)))
            for one in run.judged
            if one.kind in figure.kinds_seen(run.judge)
        }
        for name, figure in FIGURES.items()
    }
    verdicts = {one.id: to_score(one, one.judgement.verdict.value) for one in run.judged}
    return {**{name: scores for name, scores in found.items() if scores}, "verdict": verdicts}


def _sample(one: Response, model: str, scores: Scores) -> EvalSample:
    """An answer as Inspect's sample."""
    chat = [from_message({"role": m["role"], "content": m["content"]}) for m in one.messages]
    stop: StopReason = "stop" if one.finished else "max_tokens"
    if one.missing:
        stop = "content_filter"
    output = ModelOutput.from_content(model, one.text, stop, one.missing or None)
    return EvalSample(
        id=one.id,
        epoch=1,
        input=one.prompt if len(chat) == 1 else chat,
        target="",
        messages=[*chat, output.message],
        output=output,
        scores={name: found[one.id] for name, found in scores.items() if one.id in found},
        metadata={"kind": one.kind, "category": one.category},
    )


def _result(name: str, scores: dict[str, Score], responses: Sequence[Response]) -> EvalScore:
    """A score's metrics, as Inspect computes them of the same scorer."""
    known = [
        SampleScore(
            score=scores[one.id], sample_id=one.id, sample_metadata={"category": one.category}
        )
        for one in responses
        if one.id in scores and scores[one.id].reason is None
    ]
    metrics: dict[str, Any] = {"share": share(), "by_category": by_category()}
    if name.startswith("verdict"):
        metrics = {"frequency": frequency(VERDICTS, normalize=False)}
    found: dict[str, EvalMetric] = {}
    for group, metric in metrics.items():
        for key, value in metric(known).items():
            found[key] = EvalMetric(name=key, group=group, value=value)
    return EvalScore(
        name=name,
        scorer=name,
        scored_samples=len(known),
        unscored_samples=len(scores) - len(known),
        metrics=found,
    )
