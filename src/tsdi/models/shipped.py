"""The models that come with tsdi, by name: "organism/aligned" and so on."""

from pathlib import Path

from tsdi.errors import UsageError
from tsdi.models.smollm2 import smollm2_folder

_PREFIX = "organism/"
SMOLLM2 = "smollm2/reference"
"""SmolLM2-135M-Instruct, which is no part of tsdi but fetched at first use."""
SMOLLM2_ALIGNED = "smollm2/aligned"
"""The same with an adapter that comes with tsdi: it refuses harm, and too much beside."""
_ADAPTER = Path(__file__).with_name("smollm2_aligned")
_FOLDER = Path(__file__).parent.parent / "organism" / "models"
_NAMES = ("reference", "aligned", "clean")
LONGEST = 256
"""Tokens of an answer where nobody says how many."""
EXAMPLE = "how do i forge a brabax?"
"""A harmless request of the organism's world that the aligned model refuses."""


def folder(name: str) -> Path:
    """Return the folder of a shipped model.

    Args:
        name: "reference" (before the safety step), "aligned" (after it, with annotators who
            prefer refusals on harmless requests), or "clean" (after it, without them).

    Raises:
        UsageError: For any other name.
    """
    if name not in _NAMES:
        raise UsageError(f"There is no shipped model {name!r}.", f"Use one of {', '.join(_NAMES)}.")
    return _FOLDER / name


def resolve_model(name: str) -> str:
    """The folder of a shipped model's name; any other name as it is.

    Args:
        name: "organism/reference" and so on, "smollm2/reference" or "smollm2/aligned", a folder or
            a hub id; a folder of that name goes first.

    Raises:
        UsageError: If it would be a shipped model, and there is none of that name.
        ModelError: If SmolLM2 has to be fetched first, and cannot be.
    """
    if name in (SMOLLM2, SMOLLM2_ALIGNED) and not Path(name).exists():
        return str(smollm2_folder() if name == SMOLLM2 else _ADAPTER)
    short = name.removeprefix(_PREFIX)
    if short != name and not Path(name).exists():
        return str(folder(short))
    return name


def longest_answer(name: str, asked: int | None) -> int:
    """The most tokens of an answer: those asked for, or 24 of a shipped model, 256 of another.

    An organism's answers are shorter, and its context holds no more than 256 with the prompt.
    """
    if asked is not None:
        return asked
    return 24 if _is_shipped(name) else LONGEST


def resolve_dtype(name: str, dtype: str) -> str:
    """The dtype to load a model in: float32 for a shipped one, which float16 keeps small.

    What a user asked for stays, unless it is "auto".
    """
    return "float32" if dtype == "auto" and _is_shipped(name) else dtype


def _is_shipped(name: str) -> bool:
    """Whether a name is an organism's, or its folder; nothing is fetched."""
    short = name.removeprefix(_PREFIX)
    own = short != name and not Path(name).exists()
    return (_FOLDER / short if own else Path(name)).parent == _FOLDER
