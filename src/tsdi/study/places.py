"""Paths in a study's file, resolved independently of the current folder."""

from collections.abc import Sequence
from pathlib import Path

from tsdi.errors import UsageError
from tsdi.judging.registry import check_judge, is_api
from tsdi.models.fingerprint import fingerprint

POOLS = ("neutral", "tokenizer", "mmlu")  # token pools that are no text files


def find(name: str, base: Path) -> str:
    """The path of a file or folder relative to the base; any other name as it is.

    Raises:
        UsageError: If there is one in the current folder only, which is not meant.
    """
    if not name or (base / name).exists():
        return str(base / name) if name else ""
    if Path(name).exists():
        raise UsageError(
            f"The study's {name!r} is not in {base}, from where paths are seen, but in the current"
            " folder.",
            "Mend the path in the study, or say where paths start: --models DIR.",
        )
    return name


def find_pool(name: str, folders: Sequence[Path]) -> str:
    """A token pool's name for `TokenPool.from_name`; a text file is in the first folder with it."""
    if name in POOLS:
        return name
    paths = [folder / name for folder in folders]
    return str(next((path for path in paths if path.exists()), paths[0]))


def pool_fingerprint(name: str, folders: Sequence[Path]) -> str:
    """The identity of a token pool: its name, or the fingerprint of its file."""
    return name if name in POOLS else fingerprint(find_pool(name, folders))


def find_judge(spec: str, base: Path) -> str:
    """A judge's spec with the path of its model or file resolved."""
    named = []
    for name, model in check_judge(spec):
        found = model if model is None or is_api(name) else find(model, base)
        named.append(name if found is None else f"{name}={found}")
    return "+".join(named)


def judge_fingerprints(spec: str, base: Path) -> list[str]:
    """Fingerprints of a judge's models and files; "" for a judge without one, or an API."""
    parts = check_judge(spec)
    return [fingerprint(find(m, base)) if m and not is_api(name) else "" for name, m in parts]
