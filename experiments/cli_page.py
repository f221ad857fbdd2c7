"""``docs/reference/cli.md``: the help of every command, as the command line itself prints it."""

from typer.testing import CliRunner

from experiments import DOCS
from tsdi.cli.main import COMMANDS, app

PAGE = DOCS / "reference" / "cli.md"
HEADER = """# The command line

You get every command with all its options, as `tsdi COMMAND --help` prints them. Guides by task are
in [the index](../index.md).

Made by `python -m experiments.pages` from the real help; not edited by hand.

"""


def page() -> str:
    """The page as Markdown."""
    parts = [HEADER, _text([])]
    for panel in dict.fromkeys(entry.panel for entry in COMMANDS.values()):
        parts.append(f"\n## {panel}\n")
        for name, entry in COMMANDS.items():
            if entry.panel == panel:
                parts += [f"\n### tsdi {name}\n\n", _text([name])]
    return "".join(parts)


def _text(command: list[str]) -> str:
    shown = CliRunner().invoke(
        app, [*command, "--help"], prog_name="tsdi", env={"COLUMNS": "80"}, catch_exceptions=False
    )
    lines = (line.rstrip() for line in shown.stdout.strip().splitlines())
    return "```text\n" + "\n".join(lines) + "\n```\n"
