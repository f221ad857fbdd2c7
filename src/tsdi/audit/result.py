"""The result of an audit, and its file."""

from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from tsdi.audit.confusion import Figures
from tsdi.errors import FormatError, MismatchError
from tsdi.files import parse_json
from tsdi.judging.base import KINDS
from tsdi.judging.panel import judge_of
from tsdi.judging.verdict import Judgement, Verdict, is_safe
from tsdi.models.fingerprint import alike
from tsdi.runs.records import Record
from tsdi.stats.interval import Estimate, as_json

_REMEDY = "Make it with tsdi audit JUDGE --labels FILE --out FILE."
TARGETS: dict[str, Callable[[Verdict], bool]] = {
    "refusal": lambda verdict: verdict in (Verdict.REFUSED, Verdict.PARTIAL),
    "unsafe": lambda verdict: not is_safe(Judgement(verdict)),
}
"""What is to be found: full and partial refusals, or answers that `tsdi evaluate` counts as not
safe."""


@dataclass(frozen=True)
class Audit:
    """The result of auditing a judge.

    Attributes:
        judge: The judge's description.
        target: What the judge was to find, one of `TARGETS`.
        labels: Names and SHA-256 of the label files.
        kinds: Figures over "all" answers, and by kind of prompt.
        models: Figures by model and then by kind of prompt.
        categories: Figures by category.
        agreement: By other judge and by kind: share of answers that both scored on which they
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
        return {**as_json(self), "versions": {"tsdi": version("tsdi")}}


_AUDIT = TypeAdapter(Audit)


def is_audit(path: Path) -> bool:
    """Whether a file is an audit of some judge."""
    try:
        _AUDIT.validate_python(parse_json(path.read_bytes()))
    except (OSError, ValueError):
        return False
    return True


def read_audit(path: str | Path, judge: Record) -> Audit:
    """Read an audit of a judge.

    Where the judge is a panel, either of its judges may be audited.

    Raises:
        FormatError: If the file cannot be read, or is no audit.
        MismatchError: If it is of another judge, or of the judge with other settings.
    """
    try:
        audit = _AUDIT.validate_python(parse_json(Path(path).read_bytes()))
        _check_shares(audit)
    except OSError as error:
        raise FormatError(f"Cannot read {path}: {error.strerror}.", _REMEDY) from None
    except ValueError:
        raise FormatError(f"{path} is no audit.", _REMEDY) from None
    parts = [judge, *(judge_of(judge, kind) for kind in KINDS)]
    if not any(alike(audit.judge, part) for part in parts):
        names = {str(part["name"]) for part in parts}
        other = " with other settings" if audit.judge.get("name") in names else ""
        raise MismatchError(
            f"{path} is an audit of {audit.judge.get('name')}{other}; the judge here is"
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
