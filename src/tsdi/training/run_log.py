"""What a finished training run leaves, which is read again like anything that was on disk."""

from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from tsdi.errors import FormatError
from tsdi.files import read_object


class _Rows(BaseModel):
    rows: int


class _Log(BaseModel):
    run: str
    beta: float | None
    examples: int
    cut: _Rows
    dropped: _Rows
    steps: int
    seconds: float
    train_loss: float


def read_run_log(path: Path) -> dict[str, Any]:
    """The log of a run.

    Raises:
        FormatError: If it cannot be read, or lacks what the table of runs shows.
    """
    remedy = f"Restore it, or delete it and train {path.stem} again."
    found = read_object(path, remedy)
    try:
        _Log.model_validate(found)
    except ValidationError as error:
        key = ".".join(map(str, error.errors()[0]["loc"]))
        raise FormatError(f"{path} is damaged: `{key}` is not what it should be.", remedy) from None
    return found
