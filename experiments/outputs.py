"""Runs the commands that pages show, and keeps what they print, for the pages to show.

`python -m experiments.outputs` runs all of them; with names, these alone, in `--folder DIR`, where
earlier ones left what they need. Nothing is fetched, and no GPU is used. `python -m
experiments.pages` then puts what was printed into the pages.
"""

import argparse
import json
import os
import re
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import chdir
from dataclasses import dataclass
from pathlib import Path

from typer.testing import CliRunner

from experiments import DOCS, HERE, ROOT
from experiments.marks import with_parts
from tsdi.cli.main import app
from tsdi.files import write_bytes

FILE = HERE / "outputs.json"
WIDTH = 80
END = r"\Z."  # of an output: matches no line


@dataclass(frozen=True)
class Output:
    """An output that a page shows between marks, below the lines that made it.

    Attributes:
        page: The page in `docs`.
        cuts: Lines that are not shown: from the first that matches, to before the next that does.
        first: Lines of the page that run before, since the output rests on what they write.
    """

    page: str
    cuts: tuple[tuple[str, str], ...] = ()
    first: tuple[str, ...] = ()


ATTACKED = (
    "tsdi evaluate organism/aligned --prompts organism:test --max-new-tokens 24"
    " --attack organism-prefix --out plain-prefix",
    "tsdi evaluate organism/aligned --bias bias --prompts organism:test --max-new-tokens 24"
    " --attack organism-prefix --out debiased-prefix",
)
ANSWERS = "tsdi generate organism/aligned --prompts organism:test --max-new-tokens 24 --out answers"
OUTPUTS = {  # in the order in which one rests on another
    "estimate": Output("estimate.md", (("│    1 │", "└"),)),
    "measure": Output("measure.md", (("│ +O2 ", "│ +O16 "),)),
    "gate": Output(
        "safety-gate.md",
        (("^Changes", "│ safe, harmful"), ("│ +O1 ", "lost in all"), ("lost in O5", END)),
        ATTACKED,
    ),
    "judges": Output("judges.md", (("│ +O2 ", "│ +O16 "),), (ANSWERS,)),
    "suites": Output("suites.md", (("^project", "┃ category"), ("real_group", "└"))),
    "condition": Output("condition.md", (("│ O1 ", "│ O2 "), ("│ O4 ", "│ harmless"))),
    "harnesses": Output("harnesses.md", (("^", r"^\|  Tasks"),)),
    "tuning": Output("tuning.md"),
}


def main() -> None:
    made = argparse.ArgumentParser(description=__doc__)
    made.add_argument("names", nargs="*", metavar="NAME", help="of an output; without: all")
    made.add_argument("--folder", type=Path, help="where to run (default: a temporary folder)")
    arguments = made.parse_args()
    os.environ |= {"COLUMNS": str(WIDTH), "OMP_NUM_THREADS": "1"}
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.folder or Path(temporary)
        folder.mkdir(exist_ok=True)
        for name in arguments.names or OUTPUTS:
            record(name, folder)


def record(name: str, folder: Path) -> None:
    """Run the lines of one output in a folder and keep them and what the last one prints."""
    output = OUTPUTS[name]
    page = (DOCS / output.page).read_text(encoding="utf-8")
    for one in ("recipes", "experiments"):
        if not (folder / one).exists():
            (folder / one).symlink_to(ROOT / one)
    if name == "harnesses":
        _write_task(folder, page)
    lines = lines_of(name, page)
    with chdir(folder):
        shown = [run(line) for line in lines][-1]
    kept = json.loads(FILE.read_bytes()) if FILE.exists() else {}
    kept[name] = {"lines": lines, "text": [line.rstrip() for line in shown.strip("\n").split("\n")]}
    kept = {one: kept[one] for one in OUTPUTS if one in kept}
    write_bytes(FILE, (json.dumps(kept, indent=1, ensure_ascii=False) + "\n").encode())


def run(line: str) -> str:
    """What a line prints on standard output; notes and progress go elsewhere."""
    print(f"== {line}", file=sys.stderr, flush=True)
    words = shlex.split(line)
    if words[0] == "tsdi":
        result = CliRunner().invoke(app, words[1:])
        text, code = result.stdout, result.exit_code
    else:
        done = subprocess.run(
            [sys.executable, *words[1:]], check=False, capture_output=True, text=True
        )
        text, code = done.stdout, done.returncode
    if code and not (code == 1 and "--gate" in words):
        raise RuntimeError(f"{line}: exit code {code}: {text}")
    return text


def lines_of(name: str, page: str) -> list[str]:
    """The lines that make an output: those it rests on, and those right above its marks."""
    above = page.partition(_mark(name))[0].rstrip("\n").split("\n")
    block: list[str] = []
    while above and above[-1].startswith("    "):
        block.insert(0, above.pop())
    joined = "\n".join(block).replace("\\\n", " ").split("\n")
    lines = [" ".join(line.split()) for line in joined]
    return [*OUTPUTS[name].first, *(line for line in lines if re.match("tsdi |python ", line))]


def with_outputs(page: Path, text: str) -> str:
    """A page with its outputs as they were kept."""
    kept = json.loads(FILE.read_bytes())
    shown = {
        f"output {name}": "```text\n" + "\n".join(cut(kept[name]["text"], output.cuts)) + "\n```\n"
        for name, output in OUTPUTS.items()
        if DOCS / output.page == page
    }
    return with_parts(text, shown)


def cut(lines: Sequence[str], cuts: Sequence[tuple[str, str]]) -> list[str]:
    """Lines of which some are replaced by an ellipsis, in a table by a row of it.

    Raises:
        ValueError: No line matches where a cut begins or ends.
    """
    shown = list(lines)
    for begin, end in cuts:
        first = _place(shown, begin, 0)
        last = _place(shown, end, first + 1)
        dots = "…"
        if shown[first].startswith("│") and last < len(shown) and shown[last][0] in "│└├":
            dots = re.sub("^│  ", "│ …", re.sub("[^│]", " ", shown[first]))
        shown[first:last] = [dots]
    return shown


def _place(lines: Sequence[str], pattern: str, start: int) -> int:
    for place in range(start, len(lines)):
        if re.search(pattern, lines[place]):
            return place
    if pattern == END:
        return len(lines)
    raise ValueError(f"no line of an output matches {pattern!r}")


def _mark(name: str) -> str:
    return f"<!-- output {name}: begin -->"


def _write_task(folder: Path, page: str) -> None:
    """The task of the page on harnesses: its YAML, and lookalikes, one a line."""
    from tsdi.suites.load import load_prompts

    tasks = folder / "tasks"
    tasks.mkdir(exist_ok=True)
    found = re.search(r"```yaml\n(task: .*?)```", page, re.S)
    assert found
    (tasks / "lookalikes.yaml").write_text(found[1], encoding="utf-8")
    prompts = load_prompts("organism:test", seed=0).prompts
    asked = [one.messages[-1]["content"] for one in prompts if one.kind == "lookalike"]
    lines = [json.dumps({"question": question}) for question in asked]
    (tasks / "lookalikes.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
