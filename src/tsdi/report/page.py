"""A report as one HTML file without external parts, readable offline."""

import base64
import gzip
import hashlib
import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeAlias

import plotly.graph_objects as go
from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from tsdi.errors import UsageError
from tsdi.files import write_bytes
from tsdi.report.theme import colours

_TEMPLATE = Path(__file__).with_name("page.html")
# plotly.js 4.1.1 (npm: plotly.js-cartesian-dist-min): what our figures need, a third of the whole.
_PLOTLY = Path(__file__).with_name("plotly") / "plotly-cartesian.min.js.gz"
_GENERATOR = b'<meta name="generator" content="tsdi">'
_HEAD = 4096  # bytes in which it stands
_PHONE = 50  # characters of a table's row on a screen of 375 px
_INTERVAL = re.compile(r"\S+ \[[-+.\d%]+,? [-+.\d%]+\]")
_DRAW = """
const mouse = matchMedia("(hover: hover)").matches;
const config = {responsive: true, displaylogo: false, displayModeBar: mouse && "hover",
  modeBarButtonsToRemove: ["lasso2d", "select2d", "autoScale2d"]};
const draw = async () => {
  const packed = Uint8Array.from(atob(PLOTLY), one => one.charCodeAt(0));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
  const script = document.createElement("script");
  script.textContent = await new Response(stream).text();
  document.head.append(script);
  FIGURES.forEach((figure, number) =>
    Plotly.newPlot("figure-" + number, figure.data, figure.layout, config));
};
draw().catch(error => document.querySelectorAll(".figure").forEach(one => {
  one.textContent = "This browser cannot draw the figure: " + error;
}));
"""
_CHOOSE = """
document.querySelectorAll(".examples").forEach(box => {
  const choose = box.querySelector(".choose");
  if (!choose) return;
  const search = choose.querySelector("input"), facets = [...choose.querySelectorAll("select")];
  const items = [...box.querySelectorAll(".example")];
  const texts = items.map(item => item.textContent.toLowerCase());
  const show = () => {
    const wanted = search.value.toLowerCase();
    let count = 0;
    items.forEach((item, place) => {
      const values = JSON.parse(item.dataset.facets);
      item.hidden = !texts[place].includes(wanted) ||
        facets.some((facet, number) => facet.value && facet.value !== values[number]);
      count += !item.hidden;
    });
    choose.querySelector("output").textContent = `${count} of ${items.length} shown`;
  };
  choose.addEventListener("input", show);
  show();
});
"""


@dataclass(frozen=True)
class Table:
    """A table of a report.

    Attributes:
        header: One title per column.
        rows: Cells as they are shown; the first column is text, the others are set as numbers.
        note: Text below the table.
        marked: Indices of the rows that are shown in red.
    """

    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str = ""
    marked: Collection[int] = ()


@dataclass(frozen=True)
class Example:
    """A prompt with the answers of several arms.

    Attributes:
        title: Its title, such as the prompt.
        answers: Answers by arm.
        notes: What is said beside an arm's name, by arm.
        hidden: Whether the answers are behind a click.
        facets: What readers may choose by, value by name; all examples of a collection have the
            same names, or none.
    """

    title: str
    answers: Mapping[str, str]
    notes: Mapping[str, str] = field(default_factory=dict)
    hidden: bool = False
    facets: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Examples:
    """Answers of several arms side by side, prompt by prompt.

    Where the items have facets, readers may choose by them and search the texts.
    """

    items: Sequence[Example]


@dataclass(frozen=True)
class Alert:
    """A sentence in red."""

    text: str


Part: TypeAlias = go.Figure | Table | Examples | Alert


@dataclass(frozen=True)
class Section:
    """One section of a report: heading, finding, figures or tables, and how to read them.

    Attributes:
        heading: Heading, in the list of contents too.
        lead: The finding, in a sentence or two; each line is a paragraph.
        body: One figure, table, collection of examples or alert, or several.
        reading: How to read it, in plain words.
    """

    heading: str
    lead: str
    body: Part | Sequence[Part]
    reading: str = ""


def write_report(
    path: Path, title: str, sections: Sequence[Section], provenance: Mapping[str, str]
) -> None:
    """Write a report, whole or not at all: see `report_page`.

    Raises:
        UsageError: If there is no section, or a table's rows and header differ in length.
        TsdiError: If the file cannot be written.
    """
    write_bytes(path, report_page(title, sections, provenance))


def is_report(path: Path) -> bool:
    """Whether a file is a page that `write_report` wrote."""
    with path.open("rb") as file:
        return _GENERATOR in file.read(_HEAD)


def report_page(title: str, sections: Sequence[Section], provenance: Mapping[str, str]) -> bytes:
    """A report as one HTML page.

    All text is escaped, and the page's own policy lets no script run but those that are written
    here, and no request leave.

    Raises:
        UsageError: If there is no section, or a table's rows and header differ in length.
    """
    if not sections:
        raise UsageError("A report needs at least one section.")
    figures: list[go.Figure] = []
    shown = [
        {
            "heading": section.heading,
            "lead": section.lead,
            "parts": [_part(part, figures) for part in _parts(section.body)],
            "reading": section.reading,
        }
        for section in sections
    ]
    parts = [part for section in sections for part in _parts(section.body)]
    chosen = any(isinstance(part, Examples) and _facets(part.items) for part in parts)
    packed = _PLOTLY.read_bytes() if figures else b""
    scripts = [*_scripts(figures, packed), *([_CHOOSE] if chosen else [])]
    environment = Environment(autoescape=True, undefined=StrictUndefined)
    page = environment.from_string(_TEMPLATE.read_text(encoding="utf-8")).render(
        title=title,
        policy=_policy([*scripts, *([gzip.decompress(packed).decode()] if packed else [])]),
        sections=shown,
        provenance=provenance,
        scripts=[Markup(script) for script in scripts],
    )
    return page.encode("utf-8", "xmlcharrefreplace")  # half of a surrogate pair is text


def _parts(body: Part | Sequence[Part]) -> Sequence[Part]:
    return [body] if isinstance(body, go.Figure | Table | Examples | Alert) else body


def _part(part: Part, figures: list[go.Figure]) -> dict[str, Any]:
    """A part of a section as data for the template; a figure is added to the list."""
    if isinstance(part, Table):
        uneven = [len(row) for row in part.rows if len(row) != len(part.header)]
        if uneven:
            raise UsageError(
                f"A table has {len(part.header)} columns and a row of {uneven[0]} cells."
            )
        rows = [[_INTERVAL.sub(_unbroken, cell) for cell in row] for row in part.rows]
        shown = replace(part, rows=rows)
        return {"kind": "table", "table": shown, "phone": _on_a_phone(shown)}
    if isinstance(part, Examples):
        arms = [arm for one in part.items for arm in one.answers]
        examples = {"examples": part, "colours": colours(arms), "facets": _facets(part.items)}
        return {"kind": "examples", **examples}
    if isinstance(part, Alert):
        return {"kind": "alert", "alert": part}
    figures.append(part)
    return {"kind": "figure", "number": len(figures) - 1, "height": part.layout.height or 450}


def _facets(items: Sequence[Example]) -> dict[str, dict[str, int]]:
    """How many items have each value of each facet, values in their order."""
    names = dict.fromkeys(name for one in items for name in one.facets)
    return {
        name: dict(sorted(Counter(one.facets[name] for one in items).items())) for name in names
    }


def _on_a_phone(table: Table) -> str:
    """How a table is laid out there: as it is, numbers below their row's title, or line by line."""
    many = len(table.header) > 3
    columns = list(zip(table.header, *table.rows, strict=True))[int(many) :]
    # What is not broken: an interval has no-break spaces.
    widths = (max(len(word) for cell in one for word in cell.split(" ")) for one in columns)
    if sum(width + 1 for width in widths) > _PHONE:
        return "lines"
    return "many" if many else ""


def _unbroken(interval: re.Match[str]) -> str:
    """A figure and its interval joined by no-break spaces."""
    return interval[0].replace(" ", "\u00a0")


def _scripts(figures: Sequence[go.Figure], plotly: bytes) -> list[str]:
    """The script of the figures, with plotly.js packed; no text in it can end the script."""
    if not figures:
        return []
    data = ",".join(figure.to_json(engine="json").replace("<", "\\u003c") for figure in figures)
    packed = base64.b64encode(plotly).decode()
    return [f'const PLOTLY = "{packed}";\nconst FIGURES = [{data}];{_DRAW}']


def _policy(scripts: Sequence[str]) -> str:
    """The page's content security policy, which allows these scripts only."""
    hashes = (hashlib.sha256(script.encode()).digest() for script in scripts)
    allowed = " ".join(f"'sha256-{base64.b64encode(sha).decode()}'" for sha in hashes) or "'none'"
    return (
        f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; "
        "img-src data: blob:; form-action 'none'; base-uri 'none'"
    )
