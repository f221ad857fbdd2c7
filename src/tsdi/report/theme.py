"""The theme of all figures: colours, layout, and text escaped for plotly."""

import html
import re
import textwrap
from collections.abc import Sequence
from typing import Any

from tsdi.stats.interval import Estimate, interval_text

FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"
INK, FAINT, GRID, ALERT = "#1f2933", "#52606d", "#e4e7eb", "#b42318"
ARM_COLOURS = {  # of Okabe and Ito's palette, which colour-blind people can tell apart
    "reference": "#6b7280",
    "aligned": "#d55e00",
    "debiased": "#0072b2",
}
OTHER_COLOURS = ("#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8a5a2b", "#5b4b9a")
_ARM = re.compile(rf"\b({'|'.join(ARM_COLOURS)})\b")
_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")
_LONGEST, _TITLE_WIDTH = 24, 40


def colours(names: Sequence[str]) -> dict[str, str]:
    """A colour for every name.

    A name that has the word "reference", "aligned" or "debiased" in it gets that arm's colour in
    every figure; the others get the rest of the palette in their order.
    """
    found: dict[str, str] = {}
    others = 0
    for name in dict.fromkeys(names):
        arm = _ARM.search(name)
        found[name] = ARM_COLOURS[arm[1]] if arm else OTHER_COLOURS[others % len(OTHER_COLOURS)]
        others += arm is None
    return found


def plain(text: str) -> str:
    """Text escaped for plotly, which would read tags as markup."""
    shown = _CONTROLS.sub(lambda match: repr(match[0])[1:-1], text)
    return html.escape(shown, quote=False)


def token_text(token: str) -> str:
    """A token for plotly: quoted if white space or nothing would be seen otherwise."""
    quoted = token if token.strip() == token and token.isprintable() and token else repr(token)
    return plain(quoted if len(quoted) <= _LONGEST else quoted[: _LONGEST - 1] + "…")


def show(estimate: Estimate, percent: bool) -> str:
    """Value and interval, such as "93.1 % [91.0, 94.6], n = 640"."""
    if estimate.value is None:
        return "no value, n = 0"
    return f"{interval_text(estimate, 1 if percent else 2, percent=percent)}, n = {estimate.n}"


def layout(height: int) -> dict[str, Any]:
    """The layout that all figures share; the width is the page's."""
    return {
        "template": "none",
        "height": height,
        "font": {"family": FONT, "size": 13, "color": INK},
        "margin": {"l": 8, "r": 12, "t": 8, "b": 8},
        "paper_bgcolor": "white",
        "plot_bgcolor": "white",
        "legend": {
            "orientation": "h",
            "x": 0,
            "y": 1.02,
            "xanchor": "left",
            "yanchor": "bottom",
            "itemsizing": "constant",
        },
        "hoverlabel": {"bgcolor": "white", "font": {"color": INK}, "align": "left"},
        "hovermode": "closest",
        "dragmode": False,  # so that a finger on a figure scrolls the page
    }


def limit_line(text: str) -> dict[str, Any]:
    """A dashed line across a figure, with a label."""
    white = "rgba(255, 255, 255, 0.8)"
    return {
        "line": {"color": FAINT, "width": 1, "dash": "dash"},
        "annotation": {"text": text, "font": {"size": 11, "color": FAINT}, "bgcolor": white},
    }


def axis(title: str, percent: bool) -> dict[str, Any]:
    """A numeric axis; a long title has several lines, for phones."""
    lines = textwrap.wrap(title, _TITLE_WIDTH)
    return {
        "title": {"text": "<br>".join(map(plain, lines)), "standoff": 10, "font": {"size": 13}},
        "tickformat": ",.0%" if percent else "",
        "automargin": True,
        "gridcolor": GRID,
        "linecolor": FAINT,
        "zeroline": False,
        "ticks": "outside",
        "ticklen": 4,
        "tickcolor": GRID,
    }
