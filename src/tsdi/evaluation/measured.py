"""What a comparison of two runs says of a bias, kept in its folder and shown in its model card."""

from pathlib import Path
from typing import Any

from tsdi.bias import SafetyBias
from tsdi.categories import named_category
from tsdi.errors import MismatchError
from tsdi.evaluation.compare import Change
from tsdi.evaluation.gate import Gated
from tsdi.evaluation.metrics import titles
from tsdi.runs.responses import read_run
from tsdi.stats.interval import as_json


def measured(gated: Gated, setting: str) -> dict[str, Any]:
    """The figures of the model as it is and debiased, and the gate's verdict, for a model card.

    Args:
        gated: Both compared, plainly and under attacks.
        setting: With which strength the second run was debiased, in words.
    """
    plain = gated.comparison
    names = titles(plain.judge)
    return {
        "judge": plain.judge["name"],
        "setting": setting,
        "figures": [_row(names[name], change) for name, change in plain.overall.items()
                    if change.change.n],
        "categories": [_row(named_category(name, plain.judge["name"]), change)
                       for name, change in plain.categories.items()],
        "attacks": [attack for attack in gated.attacks if attack],
        "opens": gated.opens,
        "why_shut": gated.why_shut(),
    }  # fmt: skip


def keep_measured(gated: Gated, before: Path, after: Path, bias: Path) -> SafetyBias:
    """Keep figures in the folder of the bias that the second run was debiased with.

    Returns:
        The bias as it was saved.

    Raises:
        MismatchError: If the first run is debiased, or the second one with another bias.
        FormatError: If the folder holds no bias.
    """
    found = SafetyBias.from_pretrained(bias)
    plain, used = map(_provenance, (before, after))
    if plain.get("bias_sha256"):
        raise MismatchError(
            f"{before} is debiased, too.", "Name the run of the model as it is first."
        )
    condition = None if found.condition is None else found.condition.sha256
    same = used.get("condition_sha256", condition) == condition
    if used.get("bias_sha256") != found.sha256 or not same:
        raise MismatchError(
            f"{after} was not debiased with {bias} as it is now.",
            "Name the bias that it was debiased with, or answer again.",
        )
    kept = found.with_measured(measured(gated, _setting(used)))
    kept.save_pretrained(bias)
    return kept


def _provenance(run: Path) -> dict[str, Any]:
    found = read_run(run).get("provenance")
    return found if isinstance(found, dict) else {}  # of another tool


def _setting(used: dict[str, Any]) -> str:
    strength = used.get("strength")
    return "strength by prompt" if strength is None else f"strength {strength:g} for all prompts"


def _row(title: str, change: Change) -> dict[str, Any]:
    sides = {name: getattr(change, name) for name in ("before", "after", "change")}
    return {"title": title, **{name: as_json(one) for name, one in sides.items()}}
