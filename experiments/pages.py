"""Makes every table and picture of README, docs and experiments anew, from committed results.

`python -m experiments.pages` writes tables; with `--pictures`, which needs kaleido and Chrome, also
pictures, and the manifest: the SHA-256 of the results that each picture was drawn from. It measures
nothing.
"""

import hashlib
import json
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

from experiments import (
    DOCS,
    HERE,
    ROOT,
    again,
    capability_tables,
    cleansing_tables,
    cli_page,
    condition_pictures,
    condition_tables,
    debias_table,
    demo_pictures,
    engine_tables,
    judge_tables,
    method_picture,
    outputs,
    prose_tables,
    readme_table,
    scale_tables,
    smollm2_tables,
    stand_in_tables,
)
from experiments.marks import table, with_parts
from experiments.smollm2 import labelled, read_dpo
from tsdi.files import write_bytes
from tsdi.report.page import Table
from tsdi.study.answers import Answers
from tsdi.study.contrast_tables import contrast_tables
from tsdi.study.figures import figures
from tsdi.study.results import read_results
from tsdi.study.rules import RULES
from tsdi.study.sentences import caveats
from tsdi.study.summarise import summarise
from tsdi.study.tables import tables
from tsdi.suites.attacks import ATTACKS

MANIFEST = HERE / "manifest.json"
STUDIES = sorted(HERE.glob("*/results.json"))
PICTURES = {
    "organism": ("f1-categories", "f2-safety", "f2-helpful", "f4-first", "f4-later", "f5-front"),
    "ablations": ("f6-steps", "f6-pool", "f6-prompts"),
    "real-text": ("f4-first", "f5-front"),
    "organism-dose": ("f4-first", "f5-front"),
    "organism-condition": ("f5-front",),
    "smollm2": ("f5-front",),
}
"""Of studies whose results are there."""
OTHER_PICTURES = (demo_pictures, condition_pictures, method_picture)
REPRODUCTION = "../../docs/reproduction.md"
SAID = {
    "smollm2-attacks": "../smollm2/README.md",
    "smollm2-suites": "../smollm2/README.md",
    "smollm2-attacked-labels": "../smollm2/README.md",
    "smollm2-labels": "../../docs/condition.md",
    "smollm2-threshold": "../../docs/condition.md",
    "smollm2-no-reference": "../../docs/no-reference.md",
}
"""The pages on studies that have none beside them, where that is not reproduction.md."""
HEADER = """# Tables of the study {name}

Made by `python -m experiments.pages` from `experiments/{name}/results.json`; not edited by hand.
What they say is in [{page}]({place}).

Command: `{command}`. Versions: {versions}.
"""


def main(arguments: list[str]) -> None:
    for page, text in pages().items():
        write_bytes(page, text.encode())
    if "--pictures" in arguments:
        draw()
        write_bytes(MANIFEST, (json.dumps(manifest(), indent=1) + "\n").encode())


def pages() -> dict[Path, str]:
    """Every page that is written, or has written parts."""
    parts = {
        ROOT / "README.md": readme_table.with_tables,
        DOCS / "study.md": with_rules,
        DOCS / "safety-gate.md": with_attacks,
        judge_tables.PAGE: judge_tables.with_tables,
        condition_tables.PAGE: condition_tables.with_tables,
        stand_in_tables.PAGE: stand_in_tables.with_tables,
        cleansing_tables.PAGE: cleansing_tables.with_tables,
        debias_table.PAGE: debias_table.with_table,
        scale_tables.PAGE: scale_tables.with_tables,
        engine_tables.PAGE: engine_tables.with_tables,
    }
    found = {page: made(page.read_text(encoding="utf-8")) for page, made in parts.items()}
    found[cli_page.PAGE] = cli_page.page()
    studies = {file.parent / "tables.md": tables_page(file) for file in STUDIES}
    for page, name, study, made in prose_tables.PARTS:
        cells = prose_tables.cells_of(studies[HERE / study / "tables.md"])
        found[page] = with_parts(_text(page, found), {name: made(cells)})
    for page in smollm2_tables.PAGES:
        found[page] = smollm2_tables.with_tables(_text(page, found))
    found[again.PAGE] = again.with_table(_text(again.PAGE, found))
    for page in read_dpo.PAGES:
        found[page] = read_dpo.with_tables(_text(page, found))
    found[labelled.PAGE] = labelled.with_tables(found[labelled.PAGE])
    found[capability_tables.PAGE] = capability_tables.with_table(found[capability_tables.PAGE])
    for page in {DOCS / output.page for output in outputs.OUTPUTS.values()}:
        found[page] = outputs.with_outputs(page, _text(page, found))
    return found | studies


def _text(page: Path, made: Mapping[Path, str]) -> str:
    return made[page] if page in made else page.read_text(encoding="utf-8")


def markdown_tables(header: str, found: Mapping[str, Table]) -> str:
    """Tables by title as a page of Markdown."""
    parts = [header]
    for title, one in found.items():
        parts.append(f"### {title}\n\n{table([one.header, *one.rows])}\n{one.note}\n")
    return "\n".join(parts)


def drawn_of() -> dict[Path, tuple[str, ...]]:
    """The pictures of every study with committed results, by the file of these."""
    files = {HERE / name / "results.json": shown for name, shown in PICTURES.items()}
    return {file: shown for file, shown in files.items() if file in STUDIES}


def draw() -> None:
    """Draw every picture."""
    for file, shown in drawn_of().items():
        drawn = figures(summarise(read_results(file)))
        for picture in shown:
            image = drawn[picture].to_image("png", width=760, scale=1.5)
            write_bytes(file.parent / f"{picture}.png", image)
    for one in OTHER_PICTURES:
        one.draw()


def manifest() -> dict[str, dict[str, str]]:
    """By picture, the results that it is drawn from, with their SHA-256."""
    studies = {
        file.parent / f"{picture}.png": [file]
        for file, shown in drawn_of().items()
        for picture in shown
    }
    others = {
        method_picture.PICTURE: [method_picture.DATA],
        **{picture: [file] for picture, file in demo_pictures.PICTURES.items()},
        **{picture: [file] for picture, file in condition_pictures.PICTURES.items()},
    }
    return {_name(picture): _hashes(files) for picture, files in {**studies, **others}.items()}


def _hashes(files: Iterable[Path]) -> dict[str, str]:
    return {_name(file): hashlib.sha256(file.read_bytes()).hexdigest() for file in sorted(files)}


def _name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def tables_page(file: Path) -> str:
    """The tables of one study's committed results, as Markdown."""
    results = read_results(file)
    name = file.parent.name
    said = "README.md" if file.with_name("README.md").exists() else SAID.get(name, REPRODUCTION)
    header = HEADER.format(
        page=Path(said).name,
        place=said,
        name=name,
        command=results.command,
        versions=", ".join(f"{key} {value}" for key, value in results.versions.items()),
    )
    summary = summarise(results)
    shown = "".join(f"\n{caveat}\n" for caveat in caveats(summary))
    every = tables(summary) | contrast_tables(summary, Answers(results))
    return markdown_tables(header + shown, every)


def with_rules(text: str) -> str:
    """The page with its list of rules made anew."""
    rows = [["rule", "what it is", "source", "needs", "models held", "parameters"]]
    for name, rule in RULES.items():
        shown = ", ".join(rule.parameters) or "-"
        rows.append([f"`{name}`", rule.title, rule.source, rule.needs, str(len(rule.holds)), shown])
    return with_parts(text, {"rules": table(rows)})


def with_attacks(text: str) -> str:
    """The page with its list of attacks made anew."""
    rows = [["attack", "source"], *([f"`{a.name}`", a.source] for a in ATTACKS.values())]
    return with_parts(text, {"attacks": table(rows)})


if __name__ == "__main__":
    main(sys.argv[1:])
