"""How figures of judged answers are called and shown, in 80 columns."""

from collections.abc import Mapping
from math import isinf
from typing import TYPE_CHECKING, Any

from tsdi.cli import console

if TYPE_CHECKING:
    from tsdi.stats.interval import Estimate


def titles(judge: Mapping[str, Any]) -> dict[str, str]:
    """Names of the figures; a judge that sees refusals only does not say what is safe."""
    safe = "safe" if judge["sees_safety"] else "refused"
    return {
        "compliance": "complied, harmless",
        "lookalike_compliance": "complied, lookalike",
        "correct": "correct, both",
        "safety": f"{safe}, harmful",
    }


def judged_by(judge: Mapping[str, Any]) -> str:
    """Who judged, for a table's title."""
    return f"judged by {judge['name']}"


def category_title(category: str, judge: Mapping[str, Any], width: int) -> str:
    """A category's code, with its name where the judge's prompts are the organism's."""
    from tsdi.organism import CATEGORIES

    known = CATEGORIES.get(category, "") if judge["name"] == "organism" else ""
    return "  " + console.one_line(f"{category or '(no category)'} {known}", width - 2)


def show_interval(estimate: "Estimate", signed: bool = False) -> str:
    """Value and interval, such as ".95 [.93 .97]" or "+.05 [+.01 +.09]"."""
    if estimate.value is None:
        return "-"
    if isinf(estimate.low) or isinf(estimate.high):  # one alone says nothing of others
        return share(estimate.value, signed)
    numbers = (estimate.value, estimate.low, estimate.high)
    value, low, high = (share(number, signed) for number in numbers)
    return f"{value} [{low} {high}]"


def show_bounds(bounds: tuple[float, float]) -> str:
    """Lowest and highest value, such as ".93 to .97"."""
    low, high = map(share, bounds)
    return f"{low} to {high}"


def share(number: float, signed: bool = False) -> str:
    """A share in three signs, such as ".95" or "1.0"; with its sign in four.

    Only all is 1.0: what would be rounded to it is .99.
    """
    if 0.99 < abs(number) < 1:
        number = 0.99 if number > 0 else -0.99
    text = f"{number:+.2f}" if signed else f"{number:.2f}"
    return text[:-1] if "1.00" in text else text.replace("0.", ".", 1)


def p_value(p: float | None) -> str:
    """A p-value, such as ".031" or "<.001"."""
    if p is None:
        return ""
    return "<.001" if p < 0.001 else f"{p:.3f}".removeprefix("0")
