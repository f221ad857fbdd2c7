"""What decides a run of debiasing, kept in its folder, so that no other run goes on with it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tsdi.errors import RunExistsError
from tsdi.files import is_unused, read_object, write_json

PLAN = "debias.json"


def check_goes_on(out: Path, decides: dict[str, Any]) -> bool:
    """Record what is done in the folder, or refuse one that holds another run.

    Returns:
        Whether it is the same run by other names: models, prompts or a pool that have moved.
    """
    plan = out / PLAN
    if not plan.exists():
        if not is_unused(out):
            raise RunExistsError(f"{out} holds other files.", "Give another --out.")
        write_json(plan, decides)
        return False
    named = read_object(plan, "Restore it, or give another --out.")
    known = _with_names_of(named, decides)
    for key in dict.fromkeys([*decides, *known]):
        one, other = known.get(key), decides.get(key)
        if isinstance(one, dict) and isinstance(other, dict):
            changed = [name for name in {**one, **other} if one.get(name) != other.get(name)]
            said = ", ".join(f"{n} {one.get(n)!r}, not {other.get(n)!r}" for n in changed)
        else:
            said = "" if one == other else f"{one!r}, not {other!r}"
        if said:
            raise RunExistsError(f"{out} is of other {key}: {said}.", "Give another --out.")
    return known != named


def _with_names_of(known: dict[str, Any], decides: dict[str, Any]) -> dict[str, Any]:
    """What is known of a run, with the names that are asked for where they are of one content."""
    found = dict(known)
    if known.get("fingerprints") == decides["fingerprints"]:
        found |= {key: decides[key] for key in ("aligned", "reference")}
    for key, content, name in (
        ("prompts", ("prompts", "sha256"), "name"),
        ("settings", ("pool",), "pool"),
    ):
        if isinstance(known.get(key), dict) and _at(known, content) == _at(decides, content):
            found[key] = {**known[key], name: decides[key][name]}
    return found


def _at(described: Any, place: Sequence[str]) -> Any:
    for key in place:
        described = described.get(key) if isinstance(described, dict) else None
    return described
