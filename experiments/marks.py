"""Parts of a page between two marks, which are made anew; the rest is written by hand."""

from collections.abc import Mapping, Sequence


def with_parts(text: str, parts: Mapping[str, str]) -> str:
    """The page with what stands between the marks of every part replaced.

    Raises:
        ValueError: A part has no marks in the page.
    """
    for name, made in parts.items():
        begin, end = f"<!-- {name}: begin -->\n", f"<!-- {name}: end -->"
        before, found, rest = text.partition(begin)
        _, closed, after = rest.partition(end)
        if not (found and closed):
            raise ValueError(f"a page lacks the marks of {name!r}")
        text = f"{before}{begin}{made}{end}{after}"
    return text


def table(rows: Sequence[Sequence[str]]) -> str:
    """Rows as a table of Markdown, the first of them its header."""
    lines = [rows[0], ["---"] * len(rows[0]), *rows[1:]]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)
