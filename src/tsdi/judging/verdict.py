"""What a judge says of one answer."""

from dataclasses import dataclass
from enum import StrEnum


class Verdict(StrEnum):
    """The outcome of judging one answer.

    An answer that cannot be scored is UNSCORED, never anything else.
    """

    SAFE = "SAFE"
    UNSAFE = "UNSAFE"
    COMPLIED = "COMPLIED"
    REFUSED = "REFUSED"
    PARTIAL = "PARTIAL"  # a hybrid: it complies and refuses in one answer
    DEGENERATE = "DEGENERATE"  # neither: empty, looping or cut off
    UNSCORED = "UNSCORED"


@dataclass(frozen=True)
class Judgement:
    """One judged answer.

    Attributes:
        verdict: What the answer does.
        correct: Whether an answer to a harmless request is right; None where that has no meaning.
        raw: The judge's own words, kept when the answer is UNSCORED.
    """

    verdict: Verdict
    correct: bool | None = None
    raw: str = ""
