"""The files of a study's report: one page, CSV tables, and figures as pictures."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import plotly.graph_objects as go

from tsdi.errors import FormatError, UsageError
from tsdi.files import to_json, write_set
from tsdi.report.page import Alert, Example, Examples, Part, Section, Table, report_page
from tsdi.study import contrast_tables as contrasted
from tsdi.study import sentences as words
from tsdi.study.answers import Answers
from tsdi.study.entries import DiagnosedBias
from tsdi.study.figures import figures, shown_categories
from tsdi.study.front_tables import rules_overview
from tsdi.study.results import StudyResults
from tsdi.study.summarise import summarise
from tsdi.study.summary import Summary
from tsdi.study.tables import categories_title, gates_title, tables, to_csv

IMAGES = ("png", "svg", "pdf")
_WIDTH = 900  # pixels of a picture
_SHOWN = ("reference", "plain", "tsdi", "openers", "dera", "merge")


def write_study(
    out: Path, results: StudyResults, images: Sequence[str] = (), own: bool = False
) -> Summary:
    """Write summary.json, tables/*.csv, report.html, and figures as pictures if asked for.

    What an earlier call wrote there is replaced, and nothing else. `own` says that the folder is a
    study's, so that nobody else writes such files there.

    Returns:
        The summary.

    Raises:
        UsageError: If a format is unknown, or pictures need kaleido, which is not installed.
        FormatError: If the results are damaged.
        RunExistsError: If another file of such a name is there; nothing has been written then.
        TsdiError: If a file cannot be written.
    """
    _check_images(images)
    made = _report(results)
    contents = {"summary.json": made.summary_json, "report.html": made.page}
    for title, table in made.tables.items():
        contents[f"tables/{_file_name(title)}.csv"] = to_csv(table)
    for name, figure in made.figures.items():
        for kind in images:
            data = figure.to_image(kind, width=_WIDTH, scale=2 if kind == "png" else 1)
            contents[f"figures/{_file_name(name)}.{kind}"] = data
    write_set(out, contents, own)
    return made.summary


@dataclass(frozen=True)
class _Report:
    """The content of all files of a report."""

    summary: Summary
    summary_json: bytes
    tables: Mapping[str, Table]
    figures: Mapping[str, go.Figure]
    page: bytes


def _report(results: StudyResults) -> _Report:
    """The content of all files, made before any is written, as results may be damaged.

    Raises:
        FormatError: If they are damaged.
    """
    try:
        summary = summarise(results)
        sheets = tables(summary) | contrasted.contrast_tables(summary, Answers(results))
        drawn = figures(summary)
        sections = _sections(summary, results, sheets, drawn)
        page = report_page(summary.title, sections, _provenance(results))
        return _Report(summary, to_json(summary_json(summary)), sheets, drawn, page)
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError,
            StopIteration, UsageError) as error:  # fmt: skip
        raise FormatError(
            f"The results are damaged ({type(error).__name__}: {error}).", "Run the study again."
        ) from error


def summary_json(summary: Summary) -> dict[str, Any]:
    """The content of summary.json: the statistics, and sentences on them."""
    found = summary.to_dict()
    for row, one in zip(found["ablations"], summary.ablations, strict=True):
        row["sentence"] = words.ablation_sentence(summary, one)
    return found | {
        "caveats": words.caveats(summary),
        "sentences": words.sentences(summary),
        "answer": words.answer(summary),
        "alerts": words.alerts(summary),
    }


def _check_images(images: Sequence[str]) -> None:
    for kind in images:
        if kind not in IMAGES:
            raise UsageError(f"There are no pictures {kind!r}.", f"Take {', '.join(IMAGES)}.")
    if images:
        try:
            import kaleido  # noqa: F401
        except ImportError:
            raise UsageError(
                "Pictures of figures need kaleido, which is not installed, and Chrome.",
                "pip install 'tsdi[figures]'",
            ) from None


def _file_name(title: str) -> str:
    return "-".join("".join(c if c.isalnum() else " " for c in title.lower()).split())


def _sections(
    summary: Summary,
    results: StudyResults,
    sheets: Mapping[str, Table],
    drawn: Mapping[str, go.Figure],
) -> list[Section]:
    fronts = [sheets[title] for title in sheets if title.startswith("Fronts")]
    good, measure = summary.judge.good, summary.judge.measure
    further = "answered safely" if summary.judge.sees_safety else "refused"
    over = "prompts" if len(summary.test_seeds) == 1 else "training seeds"
    return [
        Section(
            "In short",
            "\n".join([*words.caveats(summary), *words.sentences(summary)]),
            [*map(Alert, words.alerts(summary)), rules_overview(summary)],
            f"A front's hypervolume is the area of the plane of {measure} and helpfulness that its"
            " points dominate: 1 is the best there is. Every method has as many points, chosen on"
            " validation prompts. Where the interval of a difference holds zero, none is shown.",
        ),
        Section(
            "Trade-off",
            "Every point is a model of the grid (beta, iterations), or a setting of a rule that"
            f" belongs to none; means over training seeds. Further up more harmful prompts are"
            f" {further}, further right more harmless ones are answered helpfully.",
            [drawn["f5-front"], *(drawn[f"f5-front-{c}"] for c in shown_categories(summary))],
            "The first picture is over all harmful prompts, the others are the three categories in"
            f" which the aligned models' answers are {good} least often. Debiased models (diamonds)"
            " beyond the circles do what no other beta or number of iterations does. Whiskers:"
            f" 95 % intervals over {over}.",
        ),
        Section(
            "Is it better than the front of beta and iterations alone?",
            words.answer(summary),
            fronts,
            "A union of fronts cannot lose, so both sides have equally many points. What is in red"
            " is ahead of TSDI.",
        ),
        *_rule_sections(summary, sheets, drawn),
        Section(
            "Answers",
            f"Test prompts of each kind, spread evenly, answered at {summary.main}. Answers to"
            " harmful prompts are behind a click.",
            _examples(results),
        ),
    ]


def _rule_sections(
    summary: Summary, sheets: Mapping[str, Table], drawn: Mapping[str, go.Figure]
) -> list[Section]:
    """Sections on the safety gate, the findings, and the rules and their cost."""
    measure, alerts = summary.judge.measure, words.alerts(summary)
    return [
        Section(
            f"{measure.capitalize()} by category, and under attack",
            "The safety gate compares every method with the plain aligned model, category by"
            " category, on plain prompts and under simple public attacks. "
            + (" ".join(alerts) or f"No loss of {measure} is shown."),
            [drawn["categories"], sheets[categories_title(summary)], sheets[gates_title(summary)]],
            f"A method that gives back compliance by giving up {measure} in one category is not"
            " seen in an average. The attacks are weak: passing proves little, failing proves"
            " much.",
        ),
        *_finding_sections(summary, sheets, drawn),
        Section(
            "What debiasing gives back, and what it costs",
            "Model by model, against its rivals at the main grid point, and by source of prompts.",
            [sheets[title] for title in contrasted.TITLES if title in sheets],
            "All comparisons are of the same prompts and training seeds.",
        ),
        Section(
            "Methods",
            "What was compared, where it comes from, what it needs and what it costs.",
            [
                sheets["Methods at the main grid point"],
                sheets["Speed and memory"],
                sheets["Baselines"],
            ],
        ),
    ]


def _finding_sections(
    summary: Summary, sheets: Mapping[str, Table], drawn: Mapping[str, go.Figure]
) -> list[Section]:
    found, measure = [], summary.judge.measure
    if "f2-safety" in drawn:
        found.append(
            Section(
                "What alignment does (F1, F2)",
                f"{measure.capitalize()} and helpfulness of the plain aligned models over beta and"
                f" iterations, and {measure} by category over the iterations.",
                [drawn["f2-safety"], drawn["f2-helpful"], drawn["f1-categories"]],
            )
        )
    if summary.biases:
        parts: list[Part] = [drawn["f4-first"], drawn["f4-later"], drawn["f4-steps"]]
        parts += [_tokens(one) for one in summary.biases if isinstance(one, DiagnosedBias)][:1]
        found.append(
            Section(
                "The shift on random prompts (F4)",
                "How far alignment lifts refusing openers over complying ones on prompts that mean"
                " nothing, at the first position and later.",
                parts,
                "There is one training seed: points have no intervals."
                if len(summary.test_seeds) == 1
                else "Faint dots are single training seeds, whiskers 95 % t-intervals over them.",
            )
        )
    for one in summary.ablations:
        title, sentence = f"Ablation: {one.name}", words.ablation_sentence(summary, one)
        found.append(Section(title, sentence, [drawn[f"f6-{one.name}"], sheets[title]]))
    return found


def _tokens(bias: DiagnosedBias) -> Table:
    """Table of the tokens that a bias shifts most, by step."""
    steps = zip(bias.tokens.promoted, bias.tokens.demoted, strict=True)
    rows = [
        [
            f"step {number}",
            *(", ".join(f"{one.token!r} {one.shift:+.1f}" for one in side[:6]) for side in sides),
        ]
        for number, sides in enumerate(steps)
    ]
    return Table(["", "promoted", "demoted"], rows, f"Of {bias.model}, in logits.")


def _examples(results: StudyResults) -> Examples:
    titles = {"lookalike": "lookalike, harmless", "harmless": "harmless", "harmful": "harmful"}
    items = []
    for one in results.examples:
        answers = {name: one.answers[name] for name in _SHOWN if name in one.answers}
        category = f", {one.category}" if one.category else ""
        title = f"{titles[one.kind]}{category}: {one.prompt}"
        items.append(Example(title, answers, hidden=one.kind == "harmful"))
    return Examples(items)


def _provenance(results: StudyResults) -> dict[str, str]:
    return {
        "Command": results.command,
        "Again from results": "tsdi study results.json --out DIR",
        "Versions": ", ".join(f"{name} {number}" for name, number in results.versions.items()),
        "Machine": f"{results.machine.system}, {results.machine.cores} cores",
        "Judge": results.study.judge,
        "Prompts": ", ".join(f"{len(asked)} {split}" for split, asked in results.prompts.items()),
        "Resampled prompts": f"seed {results.study.seed}",
    }
