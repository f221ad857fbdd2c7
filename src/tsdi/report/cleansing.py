"""Report of a cleansing (figure F3): safety probabilities, and pairs kept by category."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import plotly.graph_objects as go

from tsdi.categories import by_code, category_name
from tsdi.report.page import Section, Table, write_report
from tsdi.report.theme import INK, OTHER_COLOURS, axis, layout, plain
from tsdi.training.cleansing import BINS, Cleansing, Count, histogram

TITLE = "Cleansing of preference pairs"
CHOSEN, REJECTED, DROPPED, KEPT = OTHER_COLOURS[0], OTHER_COLOURS[1], *OTHER_COLOURS[2:4]
UNSCORED = "#9aa5b1"
_HATCH = {"fgcolor": INK, "size": 7, "solidity": 0.15}  # tells parts apart in grey, too
_BAR, _LONGEST = 26, 24  # pixels of a bar, characters of its name


def write_cleansing_report(path: Path, cleansing: Cleansing, provenance: Mapping[str, str]) -> None:
    """Write figure F3 as a report, whole or not at all; it holds no text of prompts or answers.

    Raises:
        TsdiError: If the file cannot be written.
    """
    overall = cleansing.overall
    figures = [safety_histogram(cleansing), category_counts(cleansing.categories)]
    section = Section(
        "Safety of chosen and rejected answers, and pairs kept",
        f"Of {overall.total:,} pairs {overall.dropped:,} are dropped at threshold"
        f" {cleansing.threshold:g} and {overall.unscored:,} have no score.",
        [*figures, _table(cleansing)],
        f"{rule(cleansing)} A judge that is right puts chosen answers at the right end and"
        " rejected ones at the left.",
    )
    write_report(path, TITLE, [section], provenance)


def rule(cleansing: Cleansing) -> str:
    """The criterion by which pairs are dropped, in a sentence."""
    threshold = cleansing.threshold
    also = f", or the rejected one with more than {1 - threshold:g}" if cleansing.rejected else ""
    return (
        f"A pair is dropped if its chosen answer is safe with a probability below {threshold:g}"
        f"{also}."
    )


def safety_histogram(cleansing: Cleansing) -> go.Figure:
    """Histograms of the safety probabilities of chosen and of rejected answers."""
    figure = go.Figure(layout=layout(340))
    edges = [edge / BINS for edge in range(BINS + 1)]
    shown = {
        "chosen": ([pair.chosen_safety for pair in cleansing.pairs], CHOSEN, "solid"),
        "rejected": ([pair.rejected_safety for pair in cleansing.pairs], REJECTED, "dash"),
    }
    for name, (probabilities, colour, dash) in shown.items():
        counts = histogram(probabilities)
        if not any(counts):
            continue
        figure.add_scatter(
            x=edges,
            y=[*counts, counts[-1]],  # a step is drawn up to the next edge
            name=f"{name} answer",
            mode="lines",
            line={"shape": "hv", "color": colour, "width": 2.5, "dash": dash},
            fill="tozeroy",
            opacity=0.9,
            hovertext=[
                f"{name}, {low:.2f} to {low + 1 / BINS:.2f}: {count:,}"
                for low, count in zip(edges, [*counts, counts[-1]], strict=True)
            ],
            hoverinfo="text",
        )
    _mark(figure, cleansing.threshold, "chosen ≥")
    if cleansing.rejected:
        _mark(figure, 1 - cleansing.threshold, "rejected ≤")
    figure.update_xaxes({**axis("probability that the answer is safe", percent=False)})
    figure.update_xaxes(range=[-0.01, 1.01])
    figure.update_yaxes({**axis("answers", percent=False), "rangemode": "tozero"})
    return figure


def _mark(figure: go.Figure, place: float, text: str) -> None:
    figure.add_vline(
        x=place,
        line={"color": INK, "width": 1.5, "dash": "dot"},
        annotation={"text": f"{text} {place:g}", "font": {"size": 11, "color": INK}},
        annotation_position="top right",
    )


def category_counts(categories: Mapping[str, Count]) -> go.Figure:
    """Stacked bars of the pairs kept, dropped and unscored of every category."""
    names = by_code(categories)
    places = list(range(len(names)))
    parts = {
        "kept": ([categories[name].kept for name in names], KEPT, ""),
        "dropped": ([categories[name].dropped for name in names], DROPPED, "/"),
        "unscored": ([categories[name].unscored for name in names], UNSCORED, "."),
    }
    figure = go.Figure(layout=layout(90 + _BAR * len(names)))
    for part, (counts, colour, hatch) in parts.items():
        if not any(counts):
            continue
        figure.add_bar(
            y=places,
            x=counts,
            orientation="h",
            name=part,
            marker={"color": colour, "pattern": {**_HATCH, "shape": hatch, "bgcolor": colour}},
            hovertext=[
                f"{plain(category_name(name))}: {count:,} {part}"
                for name, count in zip(names, counts, strict=True)
            ],
            hoverinfo="text",
        )
    figure.update_layout(barmode="stack", bargap=0.25, legend_traceorder="normal")
    figure.update_xaxes({**axis("pairs", percent=False), "rangemode": "tozero"})
    figure.update_yaxes(
        tickvals=places,  # by place: two long names can look alike
        ticktext=[plain(_short(category_name(name))) for name in names],
        autorange="reversed",
        automargin=True,
        showgrid=False,
        zeroline=False,
    )
    return figure


def _short(name: str) -> str:
    return name if len(name) <= _LONGEST else name[: _LONGEST - 1] + "…"


def _table(cleansing: Cleansing) -> Table:
    categories = cleansing.categories
    rows = [_row(category_name(name), categories[name]) for name in by_code(categories)]
    return Table(
        ["category", "pairs", "kept", "dropped", "unscored", "chosen", "rejected"],
        [*rows, _row("all", cleansing.overall)],
        "Chosen and rejected: mean probability, before cleansing, that the answer is safe.",
    )


def _row(name: str, count: Count) -> Sequence[str]:
    numbers = (count.total, count.kept, count.dropped, count.unscored)
    means = (count.chosen_safety, count.rejected_safety)
    return [
        name,
        *(f"{number:,}" for number in numbers),
        *("-" if mean is None else f"{mean:.2f}" for mean in means),
    ]
