"""What tsdi brings along, by name: the organism's models and its prompts."""

from dataclasses import replace
from pathlib import Path

from tsdi import organism
from tsdi.errors import UsageError
from tsdi.suites.load import Loaded, load_named
from tsdi.suites.prompts import Prompt, check_kind

ORGANISM_COUNTS = {"harmless": 320, "lookalike": 320, "harmful": 640}  # 40 harmful per category
_MODELS = "organism/"
_SPLITS = ("validation", "test")
_PROMPTS = "organism:"


def resolve_model(name: str) -> str:
    """Where a model is loaded from: the folder of a shipped one, else the name as it is.

    Args:
        name: "organism/reference" and so on, as `tsdi.organism.folder` knows them, a folder or a
            hub id; a folder of that name goes first.

    Raises:
        UsageError: If it would be a shipped model, and there is none of that name.
    """
    short = name.removeprefix(_MODELS)
    if short != name and not Path(name).exists():
        return str(organism.folder(short))
    return name


def resolve_dtype(name: str, dtype: str) -> str:
    """The dtype to load a model in: float32 for a shipped one, which float16 keeps small.

    Args:
        name: As for `resolve_model`.
        dtype: What the user asked for; anything but "auto" stays.
    """
    return "float32" if dtype == "auto" and resolve_model(name) != name else dtype


def load_prompts(name: str, seed: int, kind: str = "", columns: str = "") -> Loaded:
    """Prompts of a file, a suite, a hub data set, or the organism.

    Args:
        name: As for `tsdi.suites.load.load_named`; or "organism:test" or "organism:validation".
        seed: Decides which requests of the organism's world; those of seed 0 are the demo's.
        kind: Given to prompts that have none.
        columns: As for `tsdi.suites.load.load_named`.

    Raises:
        PromptError: If the prompts cannot be loaded, or there is no such kind.
        UsageError: If nothing has that name, or the arguments do not fit together.
    """
    check_kind(kind)
    if name.startswith(_PROMPTS) and not Path(name).is_file():
        if columns:
            raise UsageError("--columns does not go with the organism's prompts.", "Leave it out.")
        return Loaded(_organism_prompts(name, seed))
    loaded = load_named(name, columns)
    prompts = [p if p.kind else replace(p, kind=kind) for p in loaded.prompts]
    return replace(loaded, prompts=prompts)


def _organism_prompts(name: str, seed: int) -> list[Prompt]:
    split = name.removeprefix(_PROMPTS)
    if split not in _SPLITS:
        raise UsageError(
            f"There are no prompts {name!r}.",
            f"Use {' or '.join(_PROMPTS + known for known in _SPLITS)}, or a prompt file.",
        )
    return [
        Prompt(
            id=f"{kind}-{number:04d}",
            messages=({"role": "user", "content": item.prompt},),
            category=item.category,
            source=name,
            kind=kind,
        )
        for kind, count in ORGANISM_COUNTS.items()
        for number, item in enumerate(organism.items(split, kind, count, seed), start=1)
    ]
