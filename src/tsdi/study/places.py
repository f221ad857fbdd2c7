"""Where the names in a study's file lead: the same wherever the study is started from."""

from pathlib import Path

from tsdi.errors import UsageError
from tsdi.judging.registry import check_judge, is_api
from tsdi.models.fingerprint import fingerprint

POOLS = ("neutral", "tokenizer", "mmlu")  # token pools that are no text files


def find(name: str, base: Path) -> str:
    """The path of a file or folder that is seen from the base; any other name as it is.

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


def find_pool(name: str, home: Path) -> str:
    """A token pool's name as `TokenPool.from_name` takes it; text files are seen from home."""
    return name if name in POOLS else str(home / name)


def pool_fingerprint(name: str, home: Path) -> str:
    """What tells a token pool from another."""
    return name if name in POOLS else fingerprint(find_pool(name, home))


def find_judge(spec: str, base: Path) -> str:
    """A judge's name, with the path of the model or file that it is made of."""
    named = []
    for name, model in check_judge(spec):
        found = model if model is None or is_api(name) else find(model, base)
        named.append(name if found is None else f"{name}={found}")
    return "+".join(named)


def judge_fingerprints(spec: str, base: Path) -> list[str]:
    """What tells a judge's models and files from others; "" of one that has none or an API's."""
    parts = check_judge(spec)
    return [fingerprint(find(m, base)) if m and not is_api(name) else "" for name, m in parts]
