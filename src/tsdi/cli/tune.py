"""``tsdi tune``: strengths that no category pays for, written into the bias."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

import tsdi
from tsdi.cli import console, options
from tsdi.cli.show import strength_text
from tsdi.errors import UsageError
from tsdi.evaluation.evaluate import Judging
from tsdi.evaluation.evidence import FEWEST_PROMPTS
from tsdi.judging.base import JudgeOptions
from tsdi.stats.proportions import unseen_loss
from tsdi.suites.load import PromptSource

if TYPE_CHECKING:  # keeps torch out of the help
    from tsdi.evaluation.tuning import Trial, Tuning


def tune(
    model: Annotated[str, typer.Argument(help="Folder or hub id of the aligned model.")],
    bias: Annotated[str, typer.Option(help="Folder or hub id of its safety bias.")],
    prompts: Annotated[
        str, typer.Option(metavar="WHAT", help="Validation prompts, as for tsdi evaluate.")
    ],
    out: Annotated[Path, typer.Option(help="Folder for the tuned bias.")],
    columns: options.Columns = "",
    judge: Annotated[
        str | None, typer.Option(metavar="NAME[=MODEL]", help="As for tsdi evaluate.")
    ] = None,
    judge_url: options.JudgeUrl = None,
    judge_labels: options.JudgeLabels = None,
    judge_policy: options.JudgePolicy = None,
    kind: options.Kind = "",
    end_of_thinking: options.EndOfThinking = "",
    floor: Annotated[
        list[str] | None,
        typer.Option(
            metavar="CATEGORY=SHARE",
            help="Least share of safe answers, O3=0.9 or all=0.95; may be given again. Default:"
            " what the model itself reaches, in every category.",
        ),
    ] = None,
    tolerance: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="How far below it a category may fall.")
    ] = 0.0,
    fewest_prompts: options.FewestPrompts = FEWEST_PROMPTS,
    trials: Annotated[int, typer.Option(min=2, help="How many settings are tried.")] = 40,
    max_new_tokens: options.MaxNewTokens = 256,
    batch_size: options.BatchSize = 16,
    dtype: options.Dtype = "auto",
    device_map: options.DeviceMap = None,
    resume: options.Resume = False,
    json: options.Json = False,
    seed: Annotated[int, typer.Option(min=0, help="Decides which settings are tried.")] = 0,
) -> None:
    """Search strength, steps and per-step decay under a floor of safety in every category.

    The most helpful setting that keeps all floors on the validation prompts is written, with the
    evidence, into a new bias, whose recommended strength it is; a setting that breaks one never is.
    Of a bias with a condition, low, high and width are searched in place of the strength.

    Example: tsdi tune org/model --bias my-bias --prompts validation.jsonl --out tuned
    """
    floors = _floors(floor or [])
    console.quiet_libraries()
    opening = JudgeOptions(None, judge_url, dtype, device_map, False, judge_labels, judge_policy)
    with console.bar("tune") as update:
        tuned = tsdi.tune(
            model,
            bias,
            PromptSource(prompts, columns),
            out,
            search=tsdi.Search(
                tolerance=tolerance,
                floors=floors,
                fewest_prompts=fewest_prompts,
                trials=trials,
                seed=seed,
                max_new_tokens=max_new_tokens,
                batch_size=batch_size,
                options=tsdi.LoadOptions(dtype, device_map),
            ),
            judging=Judging(judge, opening, kind, end_of_thinking),
            resume=resume,
            progress=update,
        )
    _show(tuned.found, model, out, tuned.judge, json)


def _floors(given: Sequence[str]) -> dict[str, float]:
    floors: dict[str, float] = {}
    for text in given:
        name, _, share = text.rpartition("=")
        if name in floors:
            raise UsageError(f"There are two floors of {name}.", "Give one.")
        try:
            floors[name] = float(share)
        except ValueError:
            floors[name] = -1.0
        if not name or not 0 <= floors[name] <= 1:
            raise UsageError(f"--floor {text!r} is no floor.", "Write it like O3=0.9 or all=0.95.")
    return floors


def _show(found: "Tuning", model: str, out: Path, judge: dict[str, Any], json: bool) -> None:
    chosen, before = found.chosen, found.baseline
    if json:
        console.show_json({"out": str(out), **found.evidence()})
        return
    safe = "safe" if judge["sees_safety"] else "refused"
    console.out.print(_front_table(found, safe))
    if found.broke:
        console.out.print(_broken_table(found, safe))
    console.say(f"{len(found.broke)} of {found.trials} settings broke a floor and were left out.")
    console.say(_reach(found, safe))
    if safe == "refused":
        console.say(
            f"{judge['name']} sees refusals, not safety: floors are of refusals, and a safe answer"
            " that does not refuse counts against them."
        )
    if chosen.knobs.off:
        console.say("No strength helps within the floors, so the tuned bias recommends 0.")
    else:
        console.say(
            f"Chosen: {strength_text(asdict(chosen.knobs))}, {chosen.knobs.steps} steps, decay"
            f" {chosen.knobs.decay:g}. Helpful {before.helpful:.3f} -> {chosen.helpful:.3f}, {safe}"
            f" {before.safety['all']:.3f} -> {chosen.safety['all']:.3f}, on validation prompts:"
            " report on others."
        )
    if found.conditioned and chosen.knobs.condition is None:
        console.say("Within the floors no condition helps more, so the tuned bias has none.")
    console.say(
        f"Saved in {out}. Next: tsdi evaluate {model} --bias {out} --prompts TEST --out RUN, also"
        " with --attack NAME, and tsdi compare --gate."
    )


def _reach(found: "Tuning", safe: str) -> str:
    """How much a floor could show, where it rests on the fewest prompts."""
    counts = found.baseline.prompts
    name = min(counts, key=lambda name: counts[name])
    return (
        f"Floors rest on {counts['all']} harmful prompts, that of {name} on {counts[name]}, the"
        f" fewest: with none lost here, up to {unseen_loss(counts[name]):.0%} of {safe} answers"
        f" may be lost in it, and up to {unseen_loss(counts['all']):.1%} over all."
    )


def _front_table(found: "Tuning", safe: str) -> Table:
    columns = (*_settings(found), "helpful", safe, "nearest floor", "margin")
    table = console.table("Settings that keep every floor, none beaten by another", columns)
    for trial in found.front:
        table.add_row(
            *_knobs(found, trial), f"{trial.safety['all']:.3f}",
            console.one_line(trial.worst(found.floors), 20), f"{trial.margin(found.floors):+.3f}",
            style="bold" if asdict(trial) == asdict(found.chosen) else "",
        )  # fmt: skip
    return table


def _broken_table(found: "Tuning", safe: str) -> Table:
    prompts = "of" if found.conditioned else "prompts"  # both fit in 80 columns
    columns = (*_settings(found), "helpful", "broken", safe, "floor", prompts)
    table = console.table("Settings that broke a floor, the furthest broken one", columns)
    for trial in sorted(found.broke, key=lambda trial: trial.knobs.removal):
        first, *more = trial.broken(found.floors)
        table.add_row(
            *_knobs(found, trial), console.one_line(first, 16) + (f" +{len(more)}" if more else ""),
            f"{trial.safety[first]:.3f}", f"{found.floors[first]:.3f}", str(trial.prompts[first]),
        )  # fmt: skip
    return table


def _settings(found: "Tuning") -> tuple[str, ...]:
    return (*(("low/high", "width") if found.conditioned else ("strength",)), "steps", "decay")


def _knobs(found: "Tuning", trial: "Trial") -> tuple[str, ...]:
    """Cells of a setting, and its share of helpful answers."""
    knobs, by = trial.knobs, trial.knobs.condition
    strength = (f"{by.low:g}/{by.high:g}", f"{by.width:.2g}") if by else (f"{knobs.strength:.2f}",)
    if found.conditioned and not by:
        strength = (*strength, "")
    return (*strength, str(knobs.steps), f"{knobs.decay:.2f}", f"{trial.helpful:.3f}")
