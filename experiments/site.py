"""The docs as a site: a hook of mkdocs that gathers pages from where they are in the repository.

Every page keeps its place, so that links between pages, pictures and files hold on the site as they
do in the repository. One page is made: the library's reference, from docstrings.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import tsdi
from experiments import DOCS, ROOT

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files

LIBRARY = "docs/reference/library.md"
STYLE = DOCS / "site.css"
PLACES = (
    "*.md",
    *(f"{one}/**/*.md" for one in ("benchmarks", "docs", "experiments", "recipes", "src")),
)
LINK = re.compile(r"\]\(([^)#:]+)(?:#[^)]*)?\)")
IN_ROOMS = (  # functions of commands that `tsdi` has in packages of their own
    "tsdi.audit.audit.audit",
    "tsdi.export.forms.export",
    "tsdi.playground.page.playground",
    "tsdi.serving.server.serve",
    "tsdi.study.run.report",
    "tsdi.study.run.study",
    "tsdi.suites.load.suites",
)


def on_files(files: "Files", config: "MkDocsConfig") -> "Files":
    """Replace mkdocs' own files of `docs` by all pages, what they link to, and the library's."""
    from mkdocs.structure.files import File

    for file in list(files):
        if file.src_dir == config.docs_dir:
            files.remove(file)
    shown = pages()
    for path in sorted({STYLE, *shown, *(path for page in shown for path in linked(page))}):
        place = path.relative_to(ROOT).as_posix()
        files.append(File.generated(config, place, abs_src_path=str(path)))
    files.append(File.generated(config, LIBRARY, content=library()))
    return files


def pages() -> list[Path]:
    """Every page of the repository but those in hidden folders, such as `.venv`."""
    found = {page for place in PLACES for page in ROOT.glob(place)}
    return sorted(page for page in found if not page.relative_to(ROOT).parts[0].startswith("."))


def linked(page: Path) -> Iterator[Path]:
    """The files that a page shows or links to."""
    for link in LINK.findall(page.read_text(encoding="utf-8")):
        path = (page.parent / link).resolve()
        if path.is_file():
            yield path


def library() -> str:
    """The page of the library: every name of `tsdi`, for mkdocstrings to fill from docstrings."""
    homes = [f"{home}.{name}" for name, home in tsdi._HOMES.items()]
    by_name = sorted((*homes, *IN_ROOMS), key=lambda home: home.rpartition(".")[2])
    classes = [home for home in by_name if home.rpartition(".")[2][0].isupper()]
    functions = [home for home in by_name if home not in classes]
    parts = ["# The library\n\nEvery function and class of `tsdi`, from their docstrings."]
    for title, shown in (("Functions", functions), ("Classes", classes)):
        parts += [f"## {title}", *(f"::: {home}" for home in shown)]
    return "\n\n".join(parts) + "\n"
