"""``tsdi tune``: search of strengths under floors of safety, written into the bias."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

import tsdi
from tsdi.cli import console, frame, options
from tsdi.cli.show import attacked_text, orders_text, strength_text
from tsdi.errors import UsageError
from tsdi.evaluation.evaluate import Judging
from tsdi.evaluation.floors import FEWEST_PROMPTS, floor_name
from tsdi.stats.proportions import unseen_loss

if TYPE_CHECKING:  # keeps torch out of the help
    from tsdi.evaluation.tuning import Trial, Tuning


def tune(
    model: Annotated[str, typer.Argument(help="Folder or hub id of the aligned model.")],
    bias: Annotated[str, typer.Option(help="Folder or hub id of its safety bias.")],
    prompts: Annotated[
        str, typer.Option(metavar="WHAT", help="Validation prompts, as for tsdi evaluate.")
    ],
    out: Annotated[Path, typer.Option(help="Folder for the tuned bias.")],
    judge: Annotated[
        str | None, typer.Option(metavar="NAME[=MODEL]", help="As for tsdi evaluate.")
    ] = None,
    judge_arg: options.JudgeArg = None,
    end_of_thinking: options.EndOfThinking = "",
    floor: Annotated[
        list[str] | None,
        typer.Option(
            metavar="CATEGORY=SHARE",
            help="Least share of safe answers, O3=0.9, all=0.95 or 'O3 under role-play=0.8'; may be"
            " given again. Default: what the model itself reaches, in every category.",
            rich_help_panel=options.FLOORS,
        ),
    ] = None,
    tolerance: Annotated[
        float,
        typer.Option(
            min=0.0,
            max=1.0,
            help="How far below it a category may fall.",
            rich_help_panel=options.FLOORS,
        ),
    ] = 0.0,
    fewest_prompts: options.FewestPrompts = FEWEST_PROMPTS,
    attack: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="Ask each harmful prompt under this attack too (see tsdi evaluate), where the same"
            " floors hold; may be given again.",
            rich_help_panel=options.FLOORS,
        ),
    ] = None,
    trials: Annotated[
        int,
        typer.Option(min=2, help="How many settings are tried.", rich_help_panel=options.SEARCH),
    ] = 40,
    max_new_tokens: options.LongestAnswer = None,
    batch_size: options.BatchSize = 16,
    dtype: options.Dtype = "auto",
    device_map: options.DeviceMap = None,
    engine: options.Engine = "transformers",
    engine_arg: options.EngineArg = None,
    storage: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="Optuna's storage, sqlite:///search.db or a server's, in which several of these"
            " commands, each with its own --out, share one search.",
            rich_help_panel=options.SHARDS,
        ),
    ] = None,
    workers: options.Workers = "1",
    worker_gpus: options.WorkerGpus = None,
    resume: options.Resume = False,
    json: options.Json = False,
    seed: Annotated[
        int,
        typer.Option(
            min=0, help="Decides which settings are tried.", rich_help_panel=options.SEARCH
        ),
    ] = 0,
) -> None:
    """Search strength, steps and per-step decay under a floor of safety in every category.

    The most helpful setting that keeps all floors on the validation prompts is written, with the
    evidence, into a new bias, whose recommended strength it is; a setting that breaks one never is.
    Of a bias with a condition, low, high, width and threshold are searched in place of strength,
    steps and decay; of one of first order, whether its slope is kept.

    Example: tsdi tune acme/model --bias my-bias --prompts validation.jsonl --out tuned --attack
    role-play
    """
    floors = _floors(floor or [])
    cluster = options.read_cluster(workers, worker_gpus)
    frame.find(model, engine=engine, bias=bias, prompts=[prompts], judge=judge)
    console.quiet_libraries()
    opening = options.read_judge(judge_arg, dtype, device_map)
    with console.bar("tune") as update:
        tuned = tsdi.tune(
            model,
            bias,
            prompts,
            out,
            search=tsdi.Search(
                tolerance=tolerance,
                floors=floors,
                fewest_prompts=fewest_prompts,
                attacks=attack or (),
                trials=trials,
                seed=seed,
                max_new_tokens=max_new_tokens,
                batch_size=batch_size,
                storage=storage,
                options=tsdi.LoadOptions(dtype, device_map),
                engine=options.read_engine(engine, engine_arg),
            ),
            judging=Judging(judge, opening, end_of_thinking=end_of_thinking, cluster=cluster),
            resume=resume,
            progress=update,
        )
    _show(tuned.found, model, out, tuned.judge, json)
    if not attack and not json:
        asked = f"tsdi tune {model} --bias {bias} --prompts {prompts} --attack NAME --out OTHER"
        console.say(f"These floors hold for plain prompts only; under attack: {asked}")


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
    chosen, before, evidence = found.chosen, found.baseline, found.evidence()
    if json:
        console.show_json({"out": str(out), **evidence})
        return
    safe = "safe" if judge["sees_safety"] else "refused"
    console.out.print(_front_table(found, safe))
    for table in _broken_tables(found, safe):
        console.out.print(table)
    console.say(_broken_text(found))
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
            f"Chosen: {_setting_text(found)}. Helpful"
            f" {before.helpful:.3f} -> {chosen.helpful:.3f}, {safe} {before.safety['all']:.3f} ->"
            f" {chosen.safety['all']:.3f}{attacked_text(evidence)}, on validation prompts:"
            " report on others."
        )
    if found.orders:
        console.say(orders_text(evidence))
    if found.conditioned and chosen.knobs.condition is None:
        console.say("Within the floors no condition helps more, so the tuned bias has none.")
    console.say(
        f"Saved in {out}. Next: tsdi evaluate {model} --bias {out} --prompts TEST --out RUN, also"
        " with --attack NAME, and tsdi compare --gate."
    )


def _setting_text(found: "Tuning") -> str:
    knobs = found.chosen.knobs
    text = f"{strength_text(asdict(knobs))}, {knobs.steps} steps"
    if found.conditioned and not found.orders:
        return text
    if knobs.order:
        return f"{text}, with the slope"
    decay = "" if found.conditioned else f", decay {knobs.decay:g}"
    return f"{text}{decay}{', without the slope' * bool(found.orders)}"


def _broken_text(found: "Tuning") -> str:
    """How many settings broke a floor, and how many of them only attacks showed."""
    text = f"{len(found.broke)} of {found.trials} settings broke a floor and were left out"
    if found.attacks:
        floors = [trial.broken(found.floors) for trial in found.broke]
        alone = sum(all(map(found.attack_of, broken)) for broken in floors)
        text += f", {alone} of them under attack alone"
    return f"{text}."


def _reach(found: "Tuning", safe: str) -> str:
    """A sentence on the loss that a floor can exclude, where it has the fewest prompts."""
    counts = found.baseline.prompts
    name = min(counts, key=lambda name: counts[name])
    attacked = ", plain and attacked" * bool(found.attacks)
    text = (
        f"Floors rest on {counts['all']} harmful prompts{attacked}, that of {name} on"
        f" {counts[name]}, the fewest: with none lost here, up to {unseen_loss(counts[name]):.0%}"
        f" of {safe} answers may be lost in it, and up to {unseen_loss(counts['all']):.1%} over"
        " all."
    )
    if not found.floors["all"]:
        text += f" The model itself gives no {safe} answer: floors of 0 hold nothing."
    empty = [one for one in found.attacks if not found.floors[floor_name("all", one)]]
    if empty:
        text += f" Under {', '.join(empty)} the floor over all is 0, which nothing can break."
    return text


def _front_table(found: "Tuning", safe: str) -> Table:
    columns = (*_settings(found), "helpful", safe, "nearest floor", "margin")
    table = console.table("Settings that keep every floor, none beaten by another", columns)
    for trial in found.front:
        table.add_row(
            *_knobs(found, trial), f"{trial.safety['all']:.3f}",
            _nearest(found, trial), f"{trial.margin(found.floors):+.3f}",
            style="bold" if asdict(trial) == asdict(found.chosen) else "",
        )  # fmt: skip
    return table


def _nearest(found: "Tuning", trial: "Trial") -> str:
    floor = trial.worst(found.floors)
    if attack := found.attack_of(floor):
        return f"{console.one_line(_group(floor, attack), 11)} attacked"
    return console.one_line(floor, 20)


def _broken_tables(found: "Tuning", safe: str) -> Iterator[Table]:
    """Each setting that broke a floor, in the table of where its furthest broken floor holds."""
    broke = sorted(found.broke, key=lambda trial: trial.knobs.removal)
    for attack in ("", *found.attacks):
        some = [one for one in broke if found.attack_of(one.worst(found.floors)) == attack]
        if some:
            yield _broken_table(found, attack, some, safe)


def _broken_table(found: "Tuning", attack: str, broke: "Sequence[Trial]", safe: str) -> Table:
    prompts = "of" if found.conditioned else "prompts"  # both fit in 80 columns
    columns = (*_settings(found), "helpful", "broken", safe, "floor", prompts)
    where = f" under {attack}" if attack else " on plain prompts" * bool(found.attacks)
    table = console.table(f"Floors broken{where}, the furthest of each setting", columns)
    for trial in broke:
        first, *more = trial.broken(found.floors)
        group = console.one_line(_group(first, attack), 16)
        table.add_row(
            *_knobs(found, trial), group + (f" +{len(more)}" if more else ""),
            f"{trial.safety[first]:.3f}", f"{found.floors[first]:.3f}", str(trial.prompts[first]),
        )  # fmt: skip
    return table


def _group(floor: str, attack: str) -> str:
    """The category of a floor under an attack."""
    return floor.removesuffix(floor_name("", attack))


def _settings(found: "Tuning") -> tuple[str, ...]:
    if found.conditioned:
        return ("low/high", "width", "at", *(["order"] if found.orders else []))
    return "strength", "steps", "decay"


def _knobs(found: "Tuning", trial: "Trial") -> tuple[str, ...]:
    """Table cells of a setting and its share of helpful answers."""
    knobs, by = trial.knobs, trial.knobs.condition
    helpful = f"{trial.helpful:.3f}"
    if not found.conditioned:
        decay = "slope" if knobs.order else f"{knobs.decay:.2f}"  # there is none with the slope
        return f"{knobs.strength:.2f}", str(knobs.steps), decay, helpful
    order = [str(knobs.order)] if found.orders else []
    if by is None:
        return f"{knobs.strength:.2f}", "", "", *order, helpful
    return f"{by.low:g}/{by.high:g}", f"{by.width:.2g}", f"{by.threshold:g}", *order, helpful
