"""A page of two judged runs side by side: what changed, in figures and answer by answer."""

from collections import Counter
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from pathlib import Path

from tsdi.categories import category_name
from tsdi.evaluation.compare import LABELLED_HEADER, Change, Comparison, labelled_rows
from tsdi.evaluation.gate import Gated
from tsdi.evaluation.labelled import Powered
from tsdi.evaluation.metrics import PAIRED, Judged, titles
from tsdi.evaluation.verdicts import JudgedRun, read_judged
from tsdi.judging.base import Response
from tsdi.judging.verdict import Verdict
from tsdi.report.page import Alert, Example, Examples, Part, Section, Table, write_report
from tsdi.stats.interval import compact_share, compact_text, p_text

WORSE, BETTER, UNSCORED, WORDS, EQUAL = "worse", "better", "no verdict", "other words", "the same"
_ORDER = (WORSE, BETTER, UNSCORED, WORDS, EQUAL)
_FIGURES = {"harmless": "compliance", "lookalike": "lookalike_compliance", "harmful": "safety"}


def write_comparison(
    path: Path, before: str | Path, after: str | Path, gated: Gated, judge: str = ""
) -> None:
    """Write a page of two runs that `tsdi.compare` compared, whole or not at all.

    It holds every prompt and both answers; those to harmful prompts are behind a click.

    Args:
        path: The HTML file.
        before: The first run folder.
        after: The second one.
        gated: What `tsdi.compare` found of the two.
        judge: Whose verdicts, as for `tsdi.compare`.

    Raises:
        TsdiError: If a run cannot be read, or the file cannot be written.
    """
    runs = [read_judged(Path(folder), judge) for folder in (before, after)]
    names = [Path(folder).resolve().name for folder in (before, after)]
    if names[0] == names[1]:
        names = [str(before), str(after)]
    sections = [_changes(gated, names), _answers(runs, names)]
    provenance = {
        "Before": str(before),
        "After": str(after),
        "Judge": str(runs[0].judge["name"]),
        "Versions": f"tsdi {version('tsdi')}",
    }
    write_report(path, f"{names[0]} and {names[1]}", sections, provenance)


def _changes(gated: Gated, names: Sequence[str]) -> Section:
    found = gated.comparison
    lead = "No safety is lost beyond the interval." if gated.opens else "The safety gate is shut."
    body: list[Part] = [Alert(text) for text in gated.why_shut()]
    body.append(_table(found, names))
    if found.labelled:
        body.append(_labelled_table(found, found.labelled))
    return Section(
        "What changed",
        lead,
        body,
        "Shares of answers and their paired changes, with 95 % intervals, over the prompts with a"
        f" verdict in both runs, judged by {found.judge['name']}. p: exact McNemar tests; Holm:"
        " those of the categories adjusted together. Categories in red have lost safety beyond"
        " their interval.",
    )


def _table(found: Comparison, names: Sequence[str]) -> Table:
    """The changes of all figures, then of safety by category."""
    shown: list[tuple[str, Change]] = [
        (titles(found.judge)[name], change) for name, change in found.overall.items()
    ]
    shown += [(category_name(name), change) for name, change in found.categories.items()]
    rows = [
        [
            title,
            *(compact_share(one.value or 0.0) for one in (change.before, change.after)),
            compact_text(change.change, signed=True),
            p_text(change.p),
            p_text(change.p_holm),
        ]
        for title, change in shown
        if change.change.value is not None
    ]
    red = {category_name(name) for name in (*found.lost, *found.maybe_lost)}
    marked = [number for number, row in enumerate(rows) if row[0] in red]
    return Table(["", *names, "change", "p", "Holm"], rows, marked=marked)


def _labelled_table(found: Comparison, labelled: Powered) -> Table:
    figures, categories = labelled_rows(found, labelled)
    rows = [*figures, *([category_name(title), *cells] for title, *cells in categories)]
    number = sum(labelled.labels.values())
    note = (
        f"The changes by the judge's words alone, and with people's labels of {number}"
        f" pair{'s' if number != 1 else ''} of answers beside the judge's words on all"
        " (prediction-powered)."
    )
    return Table(LABELLED_HEADER, rows, note)


def _answers(runs: Sequence[JudgedRun], names: Sequence[str]) -> Section:
    items = sorted(_examples(runs, names), key=lambda one: _ORDER.index(one.facets["change"]))
    counts = Counter(one.facets["change"] for one in items)
    shown = ", ".join(f"{way} {counts[way]}" for way in _ORDER if counts[way])
    return Section(
        "Answers side by side",
        f"Pairs of answers, as to whether harmless prompts are complied with and harmful ones"
        f" answered safely: {shown}.",
        Examples(items),
    )


def _examples(runs: Sequence[JudgedRun], names: Sequence[str]) -> Iterator[Example]:
    """The answers to every prompt, with what the judge says of both."""
    others = {one.id: one for one in runs[1].responses}
    verdicts = [{one.id: one for one in run.judged} for run in runs]
    for one in runs[0].responses:
        pair = (one, others[one.id])
        judged = [found[one.id] for found in verdicts]
        words = [found.judgement.verdict.value.lower() for found in judged]
        yield Example(
            title="\n".join(_said(one)),
            answers=dict(zip(names, map(_text, pair), strict=True)),
            notes=dict(zip(names, words, strict=True)),
            hidden=one.kind == "harmful",
            facets={
                "change": _way(pair, judged),
                "verdicts": " → ".join(words),
                "kind": one.kind,
                "category": category_name(one.category),
            },
        )


def _said(response: Response) -> Iterator[str]:
    """The chat that was answered; of a single question that alone."""
    if len(response.messages) == 1:
        yield response.prompt
        return
    for message in response.messages:
        yield f"{message['role']}: {message['content']}"


def _text(response: Response) -> str:
    return response.text or response.missing or "(nothing)"


def _way(pair: Sequence[Response], judged: Sequence[Judged]) -> str:
    """Which way an answer changed, as to the figure of its kind of prompt."""
    if any(one.judgement.verdict is Verdict.UNSCORED for one in judged):
        return UNSCORED
    hit = PAIRED[_FIGURES[pair[0].kind]][1]
    first, second = map(hit, judged)
    if first != second:
        return BETTER if second else WORSE
    return EQUAL if pair[0].text == pair[1].text else WORDS
