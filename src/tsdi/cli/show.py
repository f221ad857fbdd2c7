"""``tsdi show``: a safety bias in the terminal."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

import tsdi
from tsdi.cli import console, frame, options
from tsdi.evaluation.floors import floor_name
from tsdi.stats.interval import Estimate, interval_text

if TYPE_CHECKING:  # keeps torch out of the help
    from tsdi.bias import BiasInfo, SafetyBias
    from tsdi.bias.diagnosis import TokenShift
    from tsdi.bias.show import ShownBias

ARMS = ("reference", "aligned", "debiased")


def show(
    bias: Annotated[str, typer.Argument(help="Folder or hub id of a safety bias.")],
    tokenizer: Annotated[
        str | None,
        typer.Argument(help="Model whose tokenizer is read, if the aligned one is elsewhere now."),
    ] = None,
    steps: Annotated[int, typer.Option(min=1, help="Steps to show.")] = 6,
    tokens: Annotated[int, typer.Option(min=1, help="Tokens per step and direction.")] = 4,
    json: options.Json = False,
) -> None:
    """Show which tokens a safety bias promotes and demotes, step by step, and its diagnosis.

    Example: tsdi show my-bias --steps 3 --tokens 8
    """
    frame.find(bias=bias)
    console.quiet_libraries()
    shown = tsdi.show(bias, steps, tokens, tokenizer)
    if json:
        console.show_json(shown.to_dict())
        return
    console.out.print(tokens_table(shown))
    console.say(summary(shown.bias))


def tokens_table(shown: "ShownBias") -> Table:
    """Table of promoted and demoted tokens of the first steps, in logits +- standard error."""
    slope, steps = shown.bias.slope, shown.bias.steps
    wanted = slope is not None and slope.evidence.get("harmful")
    info = shown.bias.info
    on = "on random" if info.paths or not info.stand_in else "between labelled"
    title = f"Shift {'wanted on labelled' if wanted else on} prompts"
    title += ", logits ± standard error"
    if shown.weighted:
        title += ", likely tokens first"
    if len(shown.promoted) < steps:
        title += f" (the first {len(shown.promoted)} of {steps} steps)"
    table = Table(title=title, title_justify="left")
    table.add_column("step", justify="right")
    table.add_column("promoted")
    table.add_column("demoted")
    for step, (up, down) in enumerate(zip(shown.promoted, shown.demoted, strict=True)):
        table.add_row(str(step), _words(up), _words(down), end_section=True)
    return table


def _words(tokens: "list[TokenShift]") -> str:
    return "\n".join(f"{t.shift:+.2f} ±{t.error:.2f} {t.text!r}" for t in tokens)


def summary(bias: "SafetyBias") -> str:
    """Origin, diagnosis and tuning of a bias, in a few lines of text."""
    info = bias.info
    lines = [
        f"{info.aligned} minus {info.reference}: {bias.steps} steps x {bias.vocab} tokens, "
        f"{_prompts_text(info)}."
    ]
    if not bias.values.any() and not info.diagnosis:  # a diagnosis would say so
        lines.append("The two models give the same logits on all of these: there is no shift.")
    if bias.slope is not None:
        lines.append(_slope_line(len(bias.slope.read), bias.slope.evidence))
    if info.reliability:
        lines.append(f"Split-half reliability, worst step: {min(info.reliability):.3f}.")
    try:
        if info.diagnosis or not info.tuning:
            lines += _diagnosis_lines(info.diagnosis)
    except (KeyError, TypeError, AttributeError, ValueError):
        lines.append("It holds a diagnosis that this tsdi did not write.")
    if info.tuning:  # it replaces the diagnosis's recommendation
        lines.append(f"{_tuning_line(info.tuning)} Recommended now: this.")
    if bias.condition is not None:
        from tsdi.condition.evidence import describe

        lines += describe(bias.condition)
    return "\n".join(lines)


def _prompts_text(info: "BiasInfo") -> str:
    """The number and kind of prompts behind a bias, in words."""
    if info.stand_in and not info.paths:
        return f"{info.prompts} labelled prompts"
    return f"{info.prompts} random prompts from {info.pool!r}"


def _slope_line(rank: int, evidence: dict[str, Any]) -> str:
    try:
        gain, harmful = Estimate.from_dict(evidence["gain"]), evidence["harmful"]
        prompts = f"{evidence['rows']} random prompts"
        if harmful:
            prompts = (
                f"{evidence['rows']} labelled prompts, {harmful} of them harmful, where nothing is"
                " to change"
            )
        return (
            f"Of first order, so it follows the logits ({rank} readings of them):"
            f" fitted to {prompts}. Held out, it explains {evidence['slope']:.2f} of the wanted"
            f" shift, its mean alone {evidence['constant']:.2f}; the gain is {gain}."
            + ("" if harmful else " It knows nothing of harmful prompts: tune, or add a condition.")
        )
    except (KeyError, TypeError, ValueError):
        return "Of first order, with evidence that this tsdi did not write."


def strength_text(knobs: dict[str, Any]) -> str:
    """The strength of a tuned setting in words, from its JSON."""
    if (by := knobs.get("condition")) is None:
        return f"strength {knobs['strength']:g}"
    text = f"strength by prompt, {by['low']:g} to {by['high']:g} with width {by['width']:g}"
    return f"{text} around {at:g}" if (at := by.get("threshold")) else text


def attacked_text(tuning: dict[str, Any]) -> str:
    """Safety before and after under each attack of a tuning, from its JSON."""
    before, after = (tuning[which]["safety"] for which in ("baseline", "chosen"))
    floors = {attack: floor_name("all", attack) for attack in tuning.get("attacks", ())}
    return "".join(
        f", under {attack} {before[floor]:.3f} -> {after[floor]:.3f}"
        for attack, floor in floors.items()
    )


def orders_text(tuning: dict[str, Any]) -> str:
    """The best trials with the bias's slope and without in words, from a tuning's JSON."""
    if not (best := tuning.get("orders")):
        return ""
    without, having = (one and f"helpful {one['helpful']:.3f}" for one in (best["0"], best["1"]))
    return (
        f"Best within the floors: with the slope (order 1) {having or 'none'}, without (order 0)"
        f" {without or 'none'}."
    )


def _tuning_line(tuning: dict[str, Any]) -> str:
    try:
        before, after = tuning["baseline"], tuning["chosen"]
        what = strength_text(after["knobs"])
        where = "on plain prompts and under attack" if tuning.get("attacks") else "on plain prompts"
        return (
            f"Tuned: {what}, the most helpful of {tuning['trials']} settings that"
            f" keeps {len(tuning['floors'])} floors of safety {where}; on validation prompts"
            f" helpful {before['helpful']:.3f} -> {after['helpful']:.3f}, safe"
            f" {before['safety']['all']:.3f} -> {after['safety']['all']:.3f}"
            f"{attacked_text(tuning)}. {orders_text(tuning)}".rstrip()
        )
    except (KeyError, TypeError, AttributeError, ValueError):
        return "It holds a tuning that this tsdi did not write."


def _stand_in_lines(stood: dict[str, Any]) -> list[str]:
    """What stood in for a reference, beside what else was tried, from a diagnosis's JSON."""
    plain = stood["plain"]
    lines = [f"As it is: helpful {plain['helpful']:.2f}, safe {plain['safe']:.2f}."]
    for name, one in stood["tried"].items():
        gain = interval_text(Estimate.from_dict(one["gain"]), 2, signed=True)
        lines.append(
            f"{name}{' (chosen)' * (name == stood['chosen'])}: helpful {one['helpful']:.2f}, safe"
            f" {one['safe']:.2f}, their product {gain}."
        )
    return lines + [f"{name} does not apply: {why}" for name, why in stood["left_out"].items()]


def _by_kind(found: Mapping[str, Any]) -> dict[str, list[str]]:
    """The names of kinds and of their categories ("harmful/O3"), by kind; one name if it is one."""
    groups: dict[str, list[str]] = {}
    for name in found:
        groups.setdefault(name.partition("/")[0], []).append(name)
    return {names[0] if len(names) == 1 else kind: names for kind, names in groups.items()}


def _kind_text(kind: str, names: Sequence[str]) -> str:
    number = sum("/" in name for name in names)
    return f"{kind} prompts" + (f" of {number} categories" if len(names) > 1 else "")


def _mean(figures: Sequence[Mapping[str, Any]]) -> float:
    """The mean of figures, each counting as many prompts as it rests on."""
    total: float = sum(one["value"] * one["n"] for one in figures)
    prompts: int = sum(one["n"] for one in figures)
    return total / prompts


def _diagnosis_lines(diagnosis: dict[str, Any]) -> list[str]:
    if not diagnosis:
        return ["It holds no diagnosis, so no strength is recommended."]
    lines = [str(diagnosis["verdict"])]
    if case := diagnosis.get("case"):
        lines.append(case["why"])
    for kind, names in _by_kind(diagnosis["refusal"]).items():
        known = [diagnosis["refusal"][name] for name in names]
        means = {arm: _mean([one[arm] for one in known]) for arm in ARMS if arm in known[0]}
        figures = ", ".join(f"{arm} {mean:+.2f}" for arm, mean in means.items())
        lines.append(f"Refusal log-odds on {_kind_text(kind, names)}: {figures}.")
    if stood := diagnosis.get("stand_in"):
        return lines + _stand_in_lines(stood)
    for kind, names in _by_kind(diagnosis["explained"]).items():
        shares = [diagnosis["explained"][name] for name in names]
        found, every = Estimate.from_dict(shares[0]), diagnosis["refusal"][names[0]]["shift"]["n"]
        said = f"{found}{f' of {every} prompts' if found.n < every else ''}"
        if len(names) > 1:
            known = [one for one in shares if one["n"]]
            number = sum(one["n"] for one in known)
            said = f"{_mean(known):+.2f} in the mean of {number} prompts" if known else "unknown"
        what = f"Share of the shift on {_kind_text(kind, names)} that the bias explains"
        lines.append(f"{what}: {said}.")
    if diagnosis["explained"]:
        lines.append(
            "At 1, the best, the safety step does the same whatever the text, and one vector takes"
            " it out; near 0 most depends on the text, which tsdi condition can follow."
        )
    lines.append(
        "Share of the bias at step 0 that one number on the refusing tokens makes up, likely"
        f" tokens counting most: {diagnosis['one_number']:.2f}. Near 1 that number alone would do"
        " as much."
    )
    return lines
