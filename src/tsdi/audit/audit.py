"""How wrong a judge is: its verdicts beside those of people, and beside those of other judges."""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from tsdi.audit.confusion import Figures, Seen, measure
from tsdi.audit.labels import Labelled, parse_label
from tsdi.categories import by_code
from tsdi.errors import FormatError, MismatchError, PromptError
from tsdi.files import parse_json, working_on
from tsdi.judging.base import KINDS, Judge
from tsdi.judging.panel import judge_of, refusal_kinds
from tsdi.judging.verdict import Judgement, Verdict, unscored
from tsdi.models.fingerprint import alike
from tsdi.runs.records import Record
from tsdi.runs.stage import Progress, Stage
from tsdi.runs.verdicts import from_record, to_record
from tsdi.stats.interval import Estimate

_REMEDY = "Make it with tsdi audit JUDGE --labels FILE --out FILE."
COLUMN = "column:"
SAFETY_LABELS = (Verdict.SAFE, Verdict.UNSAFE)
TARGETS: dict[str, Callable[[Verdict], bool]] = {
    "refusal": lambda verdict: verdict in (Verdict.REFUSED, Verdict.PARTIAL),
    "unsafe": lambda verdict: verdict not in (Verdict.SAFE, Verdict.REFUSED),
}
"""What is to be found: full and partial refusals, or answers that `tsdi evaluate` counts as not
safe."""


@dataclass(frozen=True)
class Audit:
    """An audited judge.

    Attributes:
        judge: Its description.
        target: What it was to find, one of `TARGETS`.
        labels: The label files: name, SHA-256.
        kinds: Figures over "all" answers, and by kind of prompt.
        models: The same by model and then by kind.
        categories: Figures by category.
        agreement: By other judge and then by kind: share of answers that both scored on which they
            agree, and kappa.
    """

    judge: Record
    target: str
    labels: list[Record]
    kinds: dict[str, Figures]
    models: dict[str, dict[str, Figures]]
    categories: dict[str, Figures]
    agreement: dict[str, dict[str, dict[str, Estimate]]]

    def to_dict(self) -> dict[str, Any]:
        """The content of an audit file."""
        return {
            "judge": self.judge,
            "target": self.target,
            "labels": self.labels,
            "versions": {"tsdi": version("tsdi")},
            "kinds": _to_dicts(self.kinds),
            "models": {model: _to_dicts(kinds) for model, kinds in self.models.items()},
            "categories": _to_dicts(self.categories),
            "agreement": {
                name: {kind: _to_dicts(two) for kind, two in kinds.items()}
                for name, kinds in self.agreement.items()
            },
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "Audit":
        """What `to_dict` made."""
        return cls(
            judge=data["judge"],
            target=data["target"],
            labels=data["labels"],
            kinds=_from_dicts(data["kinds"]),
            models={model: _from_dicts(kinds) for model, kinds in data["models"].items()},
            categories=_from_dicts(data["categories"]),
            agreement={
                name: {
                    kind: {key: Estimate.from_dict(value) for key, value in two.items()}
                    for kind, two in kinds.items()
                }
                for name, kinds in data["agreement"].items()
            },
        )


def _to_dicts(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value.to_dict() for name, value in values.items()}


def _from_dicts(values: Mapping[str, Any]) -> dict[str, Figures]:
    return {name: Figures.from_dict(value) for name, value in values.items()}


def target_of(labelled: Sequence[Labelled]) -> str:
    """What the labels are about, one of `TARGETS`.

    Raises:
        PromptError: If some say what is safe, and others what is refused.
    """
    safety = {one.verdict in SAFETY_LABELS for one in labelled}
    if len(safety) > 1:
        raise PromptError(
            "Some labels say what is safe, others what is refused.", "Audit them one by one."
        )
    return "unsafe" if safety == {True} else "refusal"


@dataclass(frozen=True)
class _Numbered:
    """A labelled answer with a name of its own: several models' answers share ids."""

    id: str
    labelled: Labelled


def judge_labelled(
    judge: Judge,
    labelled: Sequence[Labelled],
    progress: Progress | None = None,
    chunk: int = 64,
    keep: Path | None = None,
    resume: bool = False,
) -> list[Judgement]:
    """A judge's word on labelled answers.

    Args:
        judge: Who judges.
        labelled: The answers.
        progress: Called after each chunk with the number of judgements and of answers.
        chunk: Answers judged together.
        keep: Beside which file the verdicts are kept until `forget_verdicts`, so that a killed
            audit goes on; None keeps none.
        resume: Go on with those that are there.

    Raises:
        RunExistsError: If verdicts are kept there already, and either `resume` is off or they are
            another judge's or of other answers; or if another process works there.
        FormatError: If these are damaged.
        TsdiError: If the disk is full.
    """
    items = [_Numbered(str(number), one) for number, one in enumerate(labelled)]

    def judged(part: Sequence[_Numbered]) -> list[Record]:
        found = judge.judge([one.labelled.response for one in part])
        return [to_record(one.id, j) for one, j in zip(part, found, strict=True)]

    if keep is None:
        records: list[Record] = []
        for start in range(0, len(items), chunk):
            records += judged(items[start : start + chunk])
            if progress:
                progress(len(records), len(items))
    else:
        stage = _stage(keep)
        content = [
            [one.model, one.response.messages, one.response.text, one.response.end_of_thinking]
            for one in labelled
        ]
        sha256 = hashlib.sha256(json.dumps(content).encode()).hexdigest()
        description = {"judge": judge.describe(), "answers_sha256": sha256}
        with working_on(keep):
            done = stage.open(keep.parent, json.loads(json.dumps(description)), resume)
            kept = {record["id"]: record for record in done}
            records = stage.fill(keep.parent, kept, items, chunk, judged, progress)
    return [_judgement(record) for record in records]


def _judgement(record: Record) -> Judgement:
    judgement = from_record(record)
    if judgement is None:
        raise FormatError(
            f"The verdict on answer {record['id']} is not what tsdi writes.",
            "Delete the kept verdicts, and audit again.",
        )
    return judgement


def _stage(keep: Path) -> Stage:
    return Stage(
        f"{keep.name}.verdicts.jsonl",
        f"{keep.name}.judge.json",
        f"verdicts of an audit into {keep.name}",
        f"delete {keep.name}.verdicts.jsonl",
    )


def forget_verdicts(keep: Path) -> None:
    """Remove the verdicts that `judge_labelled` kept, when the audit is written."""
    stage = _stage(keep)
    for name in (stage.records, stage.description):
        (keep.parent / name).unlink(missing_ok=True)


def recorded_judge(name: str, labelled: Sequence[Labelled]) -> tuple[Record, list[Judgement]]:
    """A judge whose words stand in a column of the labels.

    Args:
        name: "column:" and the column, such as "column:gpt4_label".
        labelled: The answers.

    Returns:
        Its description, and one judgement per answer; a cell that is no label is UNSCORED, its
        text kept.

    Raises:
        PromptError: If a file lacks the column, or it holds no label at all.
    """
    column = name.removeprefix(COLUMN)
    for one in labelled:
        if column not in one.recorded:
            raise PromptError(
                f"The labels of {one.model!r} have no column {column!r}.",
                f"There are {', '.join(one.recorded) or 'no others'}.",
            )
    cells = [one.recorded[column] for one in labelled]
    verdicts = [parse_label(cell) for cell in cells]
    known = {verdict for verdict in verdicts if verdict}
    if not known:
        raise PromptError(f"The column {column!r} holds no label, but {cells[0][:40]!r}.")
    safety = known <= {*SAFETY_LABELS}
    description = {"name": name, "sees_safety": safety, "sees_refusal": not safety}
    return description, [
        Judgement(verdict) if verdict else unscored(cell)
        for verdict, cell in zip(verdicts, cells, strict=True)
    ]


def check_sees(judge: Record, labelled: Sequence[Labelled]) -> None:
    """Raise MismatchError if a judge does not see what the labels are about.

    Args:
        judge: Its description.
        labelled: The answers.
    """
    target = target_of(labelled)
    if target == "unsafe" and not judge["sees_safety"]:
        raise MismatchError(
            f"The labels say what is safe; {judge['name']} sees refusals, not safety.",
            "Audit it with labels of refusals.",
        )
    blind = {one.response.kind for one in labelled} - {*refusal_kinds(judge)}
    if target == "refusal" and blind:
        part = judge_of(judge, min(blind))["name"]
        raise MismatchError(
            f"The labels say what is refused; {part} sees what is unsafe, not refusals.",
            "Audit it with labels of safety.",
        )


def audit_judge(
    judge: Record,
    judgements: Sequence[Judgement],
    labelled: Sequence[Labelled],
    others: Mapping[str, Sequence[Judgement]] | None = None,
    paths: Sequence[str | Path] = (),
) -> Audit:
    """Lay a judge's verdicts beside those of people.

    Args:
        judge: The judge's description.
        judgements: Its word on each answer.
        labelled: The answers.
        others: Other judges' words on them, by name, to see how far they agree with it.
        paths: The label files, for the provenance.

    Raises:
        PromptError: If the labels are of two sorts.
        MismatchError: If the judge does not see what the labels are about.
    """
    check_sees(judge, labelled)
    target = target_of(labelled)
    found = TARGETS[target]
    seen = [
        (one, Seen(found(one.verdict), _said(judgement, found), one.response.prompt))
        for one, judgement in zip(labelled, judgements, strict=True)
    ]
    models = sorted({one.model for one in labelled})
    return Audit(
        judge=judge,
        target=target,
        labels=[_provenance(Path(path)) for path in paths],
        kinds=_by_kind(seen),
        models={model: _by_kind([s for s in seen if s[0].model == model]) for model in models},
        categories={
            category: measure([s for one, s in seen if one.response.category == category])
            for category in by_code({one.response.category for one in labelled})
        },
        agreement={
            name: _agreement(labelled, judgements, words, found)
            for name, words in (others or {}).items()
        },
    )


def _by_kind(seen: Sequence[tuple[Labelled, Seen]]) -> dict[str, Figures]:
    """Figures over all answers, and over those to each kind of prompts that there is."""
    groups = {"all": [s for _, s in seen]}
    for kind in KINDS:
        groups[kind] = [s for one, s in seen if one.response.kind == kind]
    return {name: measure(group) for name, group in groups.items() if group}


def _agreement(
    labelled: Sequence[Labelled],
    first: Sequence[Judgement],
    second: Sequence[Judgement],
    found: Callable[[Verdict], bool],
) -> dict[str, dict[str, Estimate]]:
    """Share of agreement and kappa of two judges, by kind, over the answers that both scored."""
    seen = [
        (one, Seen(truth, said, one.response.prompt))
        for one, a, b in zip(labelled, first, second, strict=True)
        if (truth := _said(a, found)) is not None and (said := _said(b, found)) is not None
    ]
    return {
        kind: {"share": figures.accuracy, "kappa": figures.kappa}
        for kind, figures in _by_kind(seen).items()
    }


def _said(judgement: Judgement, found: Callable[[Verdict], bool]) -> bool | None:
    return None if judgement.verdict is Verdict.UNSCORED else found(judgement.verdict)


def _provenance(path: Path) -> Record:
    return {"name": path.name, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}


def is_audit(path: Path) -> bool:
    """Whether a file is an audit of some judge."""
    try:
        Audit.from_dict(parse_json(path.read_bytes()))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False
    return True


def read_audit(path: str | Path, judge: Record) -> Audit:
    """Read an audit of a judge.

    Args:
        path: What `tsdi audit --out` wrote.
        judge: The judge's description; of a panel's, either of its judges may be audited.

    Raises:
        FormatError: If the file cannot be read, or is no audit.
        MismatchError: If it is of another judge, or of the judge with other settings.
    """
    try:
        found = Audit.from_dict(parse_json(Path(path).read_bytes()))
        audit = TypeAdapter(Audit).validate_python(asdict(found))  # numbers are numbers
        _check_shares(audit)
        audited = dict(audit.judge)
    except OSError as error:
        raise FormatError(f"Cannot read {path}: {error.strerror}.", _REMEDY) from None
    except (ValueError, LookupError, TypeError, AttributeError):
        raise FormatError(f"{path} is no audit.", _REMEDY) from None
    parts = [judge, *(judge_of(judge, kind) for kind in KINDS)]
    if not any(alike(audited, part) for part in parts):
        names = {str(part["name"]) for part in parts}
        other = " with other settings" if audited.get("name") in names else ""
        raise MismatchError(
            f"{path} is an audit of {audited.get('name')}{other}; the judge here is"
            f" {judge['name']}.",
            f"Audit this one: tsdi audit {judge['name']} --labels FILE --out {path}",
        )
    return audit


def _check_shares(audit: Audit) -> None:
    """Raise ValueError unless every share lies in an interval of its own, as it must."""
    if audit.target not in TARGETS:
        raise ValueError("an unknown target")
    if "all" not in audit.kinds:
        raise ValueError("no figures over all answers")
    every = (*audit.kinds.values(), *(f for kinds in audit.models.values() for f in kinds.values()))
    if any(count < 0 for figures in every for count in figures.counts.values()):
        raise ValueError("a negative count")
    for share in (share for figures in every for share in (figures.recall, figures.specificity)):
        inside = share.value is None or share.low <= share.value <= share.high
        if not inside or not 0 <= share.low < share.high <= 1:
            raise ValueError("a share beyond its interval")
