"""Files that are written whole or not at all."""

import json
import os
from pathlib import Path
from typing import Any


def write_bytes(path: Path, data: bytes) -> None:
    """Write a file beside its place, then rename it there, so that no reader sees half of it."""
    part = path.with_name(f".{path.name}.part")
    try:
        with part.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def write_json(path: Path, data: Any) -> None:
    """Write an object as indented JSON, whole or not at all."""
    write_bytes(path, (json.dumps(data, indent=2, ensure_ascii=False) + "\n").encode())
