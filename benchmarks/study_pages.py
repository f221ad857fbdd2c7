"""The pages of the studies, written from their committed results; measures nothing.

`docs/results/STUDY-tables.md` for every file of `benchmarks/results/studies`, the figures of the
reproduction page, and the lists of rules and attacks in the docs. `--pictures` needs kaleido.
"""

import sys
from pathlib import Path

from benchmarks.common import RESULTS
from tsdi.files import write_bytes
from tsdi.study.figures import figures
from tsdi.study.organism_tables import markdown_tables
from tsdi.study.results import read_results
from tsdi.study.rules import RULES
from tsdi.study.summary import summarise
from tsdi.study.tables import tables
from tsdi.suites.attacks import ATTACKS

DOCS = Path(__file__).parent.parent / "docs"
STUDIES = RESULTS / "studies"
PICTURES = {
    "organism": ("f1-categories", "f2-safety", "f2-helpful", "f4-first", "f4-later", "f5-front"),
    "ablations": ("f6-steps", "f6-pool", "f6-prompts"),
    "real-text": ("f4-first", "f5-front"),
}
HEADER = """# Tables of the study {name}

Made by `python -m benchmarks.study_pages` from `benchmarks/results/studies/{name}.json`; not edited
by hand. What they say is in [reproduction.md](../reproduction.md).

Command: `{command}`. Versions: {versions}.
"""


def main(arguments: list[str]) -> None:
    for page, made in (("study.md", with_rules), ("safety-gate.md", with_attacks)):
        text = (DOCS / page).read_text(encoding="utf-8")
        write_bytes(DOCS / page, made(text).encode())
    for file in sorted(STUDIES.glob("*.json")):
        page = tables_page(file)
        write_bytes(DOCS / "results" / f"{file.stem}-study-tables.md", page.encode())
        if "--pictures" in arguments:
            drawn = figures(summarise(read_results(file)))
            for name in PICTURES.get(file.stem, ()):
                image = drawn[name].to_image("png", width=760, scale=1.5)
                write_bytes(DOCS / "results" / f"{file.stem}-{name}.png", image)


def tables_page(file: Path) -> str:
    """The tables of one study's committed results, as Markdown."""
    results = read_results(file)
    versions = results["versions"]
    assert isinstance(versions, dict)
    header = HEADER.format(
        name=file.stem,
        command=results["command"],
        versions=", ".join(f"{key} {value}" for key, value in versions.items()),
    )
    summary = summarise(results)
    caveats = "".join(f"\n{caveat}\n" for caveat in summary["caveats"])
    return markdown_tables(header + caveats, tables(summary))


def with_rules(text: str) -> str:
    """The page with its list of rules made anew."""
    rows = [["rule", "what it is", "source", "needs", "models held", "parameters"]]
    for name, rule in RULES.items():
        shown = ", ".join(rule.parameters) or "-"
        rows.append([f"`{name}`", rule.title, rule.source, rule.needs, str(len(rule.holds)), shown])
    return _between(text, "rules", rows)


def with_attacks(text: str) -> str:
    """The page with its list of attacks made anew."""
    rows = [["attack", "source"], *([f"`{a.name}`", a.source] for a in ATTACKS.values())]
    return _between(text, "attacks", rows)


def _between(text: str, name: str, rows: list[list[str]]) -> str:
    begin, end = f"<!-- {name}: begin -->\n", f"<!-- {name}: end -->"
    before, _, rest = text.partition(begin)
    _, _, after = rest.partition(end)
    head, *lines = [f"| {' | '.join(row)} |" for row in rows]
    table = "\n".join([head, "|" + "---|" * len(rows[0]), *lines])
    return f"{before}{begin}{table}\n{end}{after}"


if __name__ == "__main__":
    main(sys.argv[1:])
