"""``evaluate``: answers, verdicts and metrics of prompts in one run folder, resumable.

Beside the answers, `judge.json` says what makes the verdicts, `verdicts.jsonl` has one record an
answer (`id`, `verdict`, `correct`, `made_by`, a hash of `judge.json`, and `raw` where it is
UNSCORED), and `metrics.json` the figures. Those of a second judge stand beside them
(`tsdi.runs.judge_folders`).
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from importlib.metadata import version
from itertools import tee
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tsdi.arguments import Name, as_list, as_name
from tsdi.audit.result import Audit, read_audit
from tsdi.cluster import Cluster
from tsdi.errors import UsageError
from tsdi.evaluation.agreement import Agreement, agreements
from tsdi.evaluation.correction import corrected
from tsdi.evaluation.labelled import Powered, powered, read_run_labels
from tsdi.evaluation.metrics import HARMLESS, ArmMetrics, Judged, arm_metrics
from tsdi.evaluation.verdicts import JudgedRun, describe_answers, say_unbound, with_verdicts
from tsdi.files import working_in, write_json
from tsdi.judging.base import KINDS, Judge, JudgeOptions, Response
from tsdi.judging.panel import judge_of, refusal_kinds
from tsdi.judging.registry import DEFAULT_JUDGE, default_judge, find_weights, load_judge
from tsdi.judging.spread import SpreadJudge
from tsdi.judging.verdict import Verdict, most_often
from tsdi.runs.judge_folders import place_for
from tsdi.runs.records import Record
from tsdi.runs.responses import answer_notes, read_responses, read_run
from tsdi.runs.stage import (
    ANSWERS,
    VERDICTS,
    Progress,
    StageProgress,
    as_read_back,
    check_free,
    named,
)
from tsdi.runs.verdicts import check_belong, made_by, to_record
from tsdi.stats.interval import Estimate, as_json
from tsdi.suites.load import Loaded, load_prompts
from tsdi.suites.prompts import check_kinds

if TYPE_CHECKING:  # keeps torch out of judging
    from tsdi.runs.generate import Answering

METRICS = "metrics.json"


@dataclass(frozen=True)
class Evaluation:
    """The metrics of one run, with their provenance.

    Attributes:
        judge: The judge's description.
        prompts: Number of prompts of each kind.
        cut_off: Number of answers of each kind that the length limit cut off.
        figures: The figures with their intervals.
        corrected: Some of them corrected for the judge's errors (`tsdi.evaluation.correction`), if
            there is an audit of it.
        labelled: Some of them by people's labels, too (`tsdi.evaluation.labelled`); None without.
        agreement: Agreement with the other judges of the run (`tsdi.evaluation.agreement`).
        notes: Sentences on the limits of the figures.
        judged: `judge.json`: judge, hash of the answers, versions.
        run: `run.json`, the provenance of the answers; empty if there is none.
    """

    judge: Record
    prompts: dict[str, int]
    cut_off: dict[str, int]
    figures: ArmMetrics
    corrected: dict[str, Estimate]
    labelled: Powered | None
    agreement: list[Agreement]
    notes: list[str]
    judged: Record
    run: Record

    def to_dict(self) -> dict[str, Any]:
        """The content of metrics.json."""
        return {
            "judge": self.judge,
            "n": sum(self.prompts.values()),
            "prompts": self.prompts,
            "cut_off": self.cut_off,
            "figures": self.figures.to_dict(),
            "corrected": {name: rate.to_dict() for name, rate in self.corrected.items()},
            "labelled": self.labelled and as_json(self.labelled),
            "agreement": [one.to_dict() for one in self.agreement],
            "notes": self.notes,
            "provenance": {"verdicts": self.judged, "answers": self.run},
        }


@dataclass(frozen=True)
class Judging:
    """Options of judging: the judge, defaults for prompts, and what people say.

    Attributes:
        judge: Spec as for `tsdi.judging.registry.load_judge`; None takes the prompts' default.
        options: Options of opening it, but for the model.
        kind: The kind of prompts that have none: "harmless", "lookalike" or "harmful".
        end_of_thinking: Marker that ends the model's thoughts, beside the known ones
            (`tsdi.models.reasoning`).
        audit: An audit of the judge (`tsdi audit --out`), to correct figures for its errors.
        labels: Files of people's labels of the very answers that are judged, drawn by chance, such
            as `tsdi.label` writes.
        cluster: Workers that judge side by side, each with a judge of its own; None is this process
            alone.
    """

    judge: str | None = None
    options: JudgeOptions = JudgeOptions()
    kind: str = ""
    end_of_thinking: str = ""
    audit: str | Path | None = None
    labels: Sequence[str | Path] = ()
    cluster: Cluster | None = None

    def check(self) -> None:
        """Raise TsdiError for what cannot be judged by, before anything is loaded or answered."""
        if self.audit is not None and not Path(self.audit).is_file():
            raise UsageError(
                f"There is no audit {self.audit}.", "Make it with tsdi audit JUDGE --out FILE."
            )
        for path in as_list("labels", self.labels):
            if not Path(path).is_file():
                raise UsageError(f"There are no labels {path}.", "Make them with tsdi label RUN.")
        find_weights(self.judge or DEFAULT_JUDGE, self.options)


def evaluate(
    target: Name,
    prompts: Name | None = None,
    out: str | Path | None = None,
    *,
    bias: Name | None = None,
    answering: "Answering | None" = None,
    judging: Judging = Judging(),
    resume: bool = False,
    progress: StageProgress | None = None,
) -> Evaluation:
    """Answer prompts, judge the answers, and compute helpfulness and safety.

    Args:
        target: With prompts, the model that answers them, as for `tsdi.generate`; without, a run
            folder whose answers are judged.
        prompts: What is asked, as for `tsdi.generate`.
        out: The run folder of a model; it gets verdicts.jsonl and metrics.json.
        bias: Folder or hub id of a safety bias.
        answering: Options of answering; None takes the defaults.
        judging: Options of judging.
        resume: Go on with a killed run.
        progress: Called after each chunk of answers, then of verdicts.

    Raises:
        UsageError: If arguments do not go together, or the folder holds no answers.
        PromptError: If a prompt has no kind.
        RunExistsError: If the folder is in use, by a process or by another run.
        TsdiError: If anything cannot be loaded or does not fit, as for `judge_responses`.
    """
    if prompts is None and not (out is None and bias is None and answering is None):
        raise UsageError("Without prompts nothing is generated.", "Leave out how, or name prompts.")
    if prompts is not None and out is None:
        raise UsageError("--prompts and --out go together.")
    target = as_name("The model" if prompts is not None else "The run", target)
    run = Path(target if out is None else out)
    judging.check()
    cluster = nullcontext() if judging.cluster is None else judging.cluster.connected()
    lock = working_in(run) if prompts is not None or run.is_dir() else nullcontext()
    with lock, cluster:
        if not resume and (prompts is not None or judging.judge is None):
            VERDICTS.check_unused(run)
        kind = judging.kind
        if prompts is not None:
            from tsdi.runs.generate import Answering, answer_loaded  # judging needs no torch

            how = answering or Answering()
            loaded = _load(prompts, how.sampling.seed, kind, run, resume)
            answer_loaded(target, loaded, run, bias, how, resume, progress)
            kind = ""  # answers hold it now
        responses = read_responses(run, kind)
        name = judging.judge or default_judge(response.prompt for response in responses)
        with _opened_judge(name, judging) as judge:
            return judge_responses(
                judge,
                run,
                replace(judging, kind=kind),
                resume=resume,
                progress=named(progress, "judge"),
            )


@contextmanager
def _opened_judge(name: str, judging: Judging) -> Iterator[Judge]:
    """A judge in this process, or one in each worker of a cluster."""
    if judging.cluster is None:
        yield load_judge(name, judging.options)
        return
    with judging.cluster.open(partial(load_judge, name, judging.options)) as workers:
        yield SpreadJudge(workers)


def _load(prompts: Name, seed: int, kind: str, run: Path, resume: bool) -> Loaded:
    """Load the prompts, each with a kind, and check that the run folder may be used."""
    if not resume:
        ANSWERS.check_unused(run)
    loaded = load_prompts(prompts, seed, kind)
    check_kinds(loaded.prompts)
    return loaded


def judge_responses(
    judge: Judge,
    folder: str | Path,
    judging: Judging = Judging(),
    *,
    resume: bool,
    chunk: int = 64,
    progress: Progress | None = None,
) -> Evaluation:
    """Judge all answers of a run folder, with each verdict kept on disk, and compute metrics.

    Of `judging` count the kind of prompts that have none, how thoughts end (without, what run.json
    says of it), an audit, and labels. Where it names a judge, another judge's verdicts may be there
    already: these then stand beside them (`tsdi.runs.judge_folders`).

    Returns:
        The figures, which are in metrics.json too.

    Raises:
        UsageError: If there are no answers, or fewer than the run has prompts, or the audit shows
            that the judge cannot tell answers apart.
        MismatchError: If the audit is another judge's, or labels are of other answers.
        PromptError: If a prompt has no kind, or labels cannot be read.
        RunExistsError: If there are verdicts already, and either `resume` is off or they are
            another judge's or of other answers; or if another process works there.
        FormatError: If the folder's files are damaged.
        TsdiError: If the disk is full.
    """
    folder, kind, end_of_thinking = Path(folder), judging.kind, judging.end_of_thinking
    responses = read_responses(folder, kind, end_of_thinking)
    description = _describe(judge, folder, len(responses), kind, end_of_thinking)
    audited = None if judging.audit is None else read_audit(judging.audit, description["judge"])
    labels = read_run_labels(folder, responses, judging.labels) if judging.labels else None

    def judged_parts(parts: Iterable[Sequence[Response]]) -> Iterator[list[Record]]:
        asked, judged = tee(parts)
        for part, found in zip(asked, judge.judge_parts(judged), strict=True):
            judgements = zip(part, found, strict=True)
            yield [{**to_record(r.id, judgement), **own} for r, judgement in judgements]

    with working_in(folder):
        place = place_for(folder, description["judge"], resume) if judging.judge else folder
        check_free(place / METRICS, "figures")
        there = VERDICTS.open(place, description, resume)
        recorded = VERDICTS.read_description(place)  # an earlier tsdi's may say less
        if not check_belong(place, recorded, there, [r.id for r in responses]):
            say_unbound(place)
        own = made_by(recorded)
        if not there:
            (place / METRICS).unlink(missing_ok=True)  # of verdicts that are gone
        records = VERDICTS.fill(place, there, responses, chunk, judged_parts, progress)
    judged = with_verdicts(place, responses, records)
    run = JudgedRun(description["judge"], responses, judged, True)
    labelled = powered(judging.labels, (judged, labels)) if labels else None
    return write_metrics(folder, place, description, run, audited, labelled)


def write_metrics(
    folder: Path,
    place: Path,
    description: Record,
    run: JudgedRun,
    audited: Audit | None = None,
    labelled: Powered | None = None,
) -> Evaluation:
    """Count the verdicts of a run, and write metrics.json.

    Args:
        folder: The run folder.
        place: The folder of the verdicts.
        description: What judge.json there says.
        run: Answers and verdicts.
        audited: An audit of the judge.
        labelled: Figures by people's labels.
    """
    judge, responses, judged = run.judge, run.responses, run.judged
    figures = arm_metrics(judged, refusal_kinds(judge))
    end_of_thinking = description.get("end_of_thinking", "")
    evaluation = Evaluation(
        judge=judge,
        prompts={k: sum(response.kind == k for response in responses) for k in KINDS},
        cut_off={k: sum(r.kind == k and r.cut_off for r in responses) for k in KINDS},
        figures=figures,
        corrected={} if audited is None else corrected(figures, audited, judge),
        labelled=labelled,
        agreement=agreements(folder, place, judge, judged),
        notes=[*_notes(judge, judged), *answer_notes(responses, end_of_thinking)],
        judged=description,
        run=read_run(folder),
    )
    write_json(place / METRICS, evaluation.to_dict())
    return evaluation


def _describe(judge: Judge, folder: Path, count: int, kind: str, end_of_thinking: str) -> Record:
    """The content of judge.json, everything that decides the verdicts, as JSON reads it back."""
    description = {
        "judge": judge.describe(),
        "responses": describe_answers(folder, count),
        "versions": {"tsdi": version("tsdi")},
        **({"kind": kind} if kind else {}),
        **({"end_of_thinking": end_of_thinking} if end_of_thinking else {}),
    }
    return as_read_back(description)


def _notes(judge: Record, judged: Sequence[Judged]) -> list[str]:
    """Sentences on the limits of the figures."""
    kinds = {answer.kind for answer in judged}
    notes = []
    if "harmful" not in kinds:
        notes.append("No harmful prompts: these figures say nothing of safety.")
    elif not judge["sees_safety"]:
        notes.append(
            f"{judge_of(judge, 'harmful')['name']} sees refusals, not safety: every harmful prompt"
            " that it does not find refused counts as not safe, so that 1 minus the refused share"
            " is an upper bound of unsafe answers."
        )
    harmless = kinds & {*HARMLESS}
    if not harmless:
        notes.append("No harmless prompts: these figures say nothing of helpfulness.")
    elif harmless.isdisjoint(refusal_kinds(judge)):
        notes.append(
            f"{judge_of(judge, 'harmless')['name']} sees what is unsafe, not refusals: these"
            f" figures say nothing of helpfulness. Let a second judge see the harmless prompts:"
            f" --judge {judge_of(judge, 'harmful')['name']}+refusal-phrases."
        )
    return [*notes, *_unscored_notes(judged)]


def _unscored_notes(judged: Sequence[Judged]) -> list[str]:
    unscored = sum(answer.judgement.verdict is Verdict.UNSCORED for answer in judged)
    if not unscored:
        return []
    return [
        f"{unscored} of {len(judged)} answers have no verdict and count nowhere else; bounds say"
        f" what figures would be otherwise. {most_often([a.judgement for a in judged])}"
    ]
