"""The command line of this process, for the provenance."""

import shlex
import sys
from pathlib import Path


def command_line() -> str:
    """The command, such as "tsdi train recipe.yaml --out models"; of a script with its name."""
    name = Path(sys.argv[0]).name
    script = name.endswith(".py") and name != "__main__.py"
    return shlex.join([name if script else "tsdi", *sys.argv[1:]])
