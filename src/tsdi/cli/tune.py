"""``tsdi tune``: a strength that no category pays for, written into the bias."""

import hashlib
from collections.abc import Sequence
from dataclasses import asdict
from importlib.metadata import version
from json import dumps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from tsdi.cli import console, frame
from tsdi.cli.options import (
    BatchSizeOption,
    ColumnsOption,
    DeviceMapOption,
    DtypeOption,
    EndOfThinkingOption,
    JsonOption,
    JudgeLabelsOption,
    JudgeUrlOption,
    MaxNewTokensOption,
    ResumeOption,
)
from tsdi.errors import RunExistsError, UsageError
from tsdi.files import is_unused, parse_json, read_object, to_json, working_in, write_json

if TYPE_CHECKING:
    from tsdi.evaluation.metrics import Judged
    from tsdi.evaluation.tuning import Knobs, Trial, Tuning

TRIALS, SEARCH = "trials.jsonl", "search.json"


def tune(
    model: Annotated[str, typer.Argument(help="Folder or hub id of the aligned model.")],
    bias: Annotated[str, typer.Option(help="Folder or hub id of its safety bias.")],
    prompts: Annotated[
        str, typer.Option(metavar="WHAT", help="Validation prompts, as for tsdi evaluate.")
    ],
    out: Annotated[Path, typer.Option(help="Folder for the tuned bias.")],
    columns: ColumnsOption = "",
    judge: Annotated[
        str | None, typer.Option(metavar="NAME[=MODEL]", help="As for tsdi evaluate.")
    ] = None,
    judge_url: JudgeUrlOption = None,
    judge_labels: JudgeLabelsOption = None,
    end_of_thinking: EndOfThinkingOption = "",
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
    fewest_prompts: Annotated[
        int, typer.Option(min=1, help="Harmful prompts that a category's floor must rest on.")
    ] = 10,
    trials: Annotated[int, typer.Option(min=2, help="How many settings are tried.")] = 40,
    max_new_tokens: MaxNewTokensOption = 256,
    batch_size: BatchSizeOption = 16,
    dtype: DtypeOption = "auto",
    device_map: DeviceMapOption = None,
    resume: ResumeOption = False,
    json: JsonOption = False,
    seed: Annotated[int, typer.Option(min=0, help="Decides which settings are tried.")] = 0,
) -> None:
    """Search strength, steps and per-step decay under a floor of safety in every category.

    The most helpful setting that keeps all floors on the validation prompts is written, with the
    evidence, into a new bias, whose recommended strength it is; a setting that breaks one never is.

    Example: tsdi tune org/model --bias my-bias --prompts validation.jsonl --out tuned
    """
    from tsdi.bias import SafetyBias
    from tsdi.engines.base import Request, Sampling
    from tsdi.engines.transformers import TransformersEngine
    from tsdi.evaluation.metrics import Judged
    from tsdi.evaluation.tuning import check_prompts
    from tsdi.evaluation.tuning import tune as search
    from tsdi.judging.base import JudgeOptions
    from tsdi.judging.registry import check_judge, default_judge, load_judge
    from tsdi.models.fingerprint import fingerprint
    from tsdi.models.load import LoadOptions, load_model, load_tokenizer
    from tsdi.models.shipped import resolve_dtype, resolve_model
    from tsdi.runs.responses import to_response
    from tsdi.suites.load import PromptSource, load_prompts
    from tsdi.suites.prompts import check_kinds

    floors = _floors(floor or [])
    _check_folder(out, resume)
    console.quiet_libraries()
    asked = load_prompts(PromptSource(prompts, columns), 0).prompts
    check_kinds(asked)
    check_prompts(asked, fewest_prompts)
    name = judge or default_judge(prompt.messages[-1]["content"] for prompt in asked)
    check_judge(name)
    source, options = resolve_model(model), LoadOptions(resolve_dtype(model, dtype), device_map)
    tokenizer = load_tokenizer(source, options)
    vector = SafetyBias.from_pretrained(bias, tokenizer=tokenizer)
    loaded = load_model(source, options)
    vector.check(tokenizer, loaded)
    judging = load_judge(
        name, JudgeOptions(None, judge_url, dtype, device_map, False, judge_labels)
    )

    def answers(knobs: "Knobs") -> "Sequence[Judged]":
        table = vector.truncate(knobs.steps).decayed(knobs.decay)
        engine = TransformersEngine(
            loaded, tokenizer, table, knobs.strength, vector.info.chat_format
        )
        found: list[Judged] = []
        for start in range(0, len(asked), batch_size):
            part = asked[start : start + batch_size]
            completions = engine.generate(
                [Request(prompt.messages) for prompt in part], Sampling(max_new_tokens)
            )
            responses = [
                to_response(prompt, completion, end_of_thinking or vector.info.anchor)
                for prompt, completion in zip(part, completions, strict=True)
            ]
            found += [
                Judged(r.id, r.kind, r.category, j)
                for r, j in zip(responses, judging.judge(responses), strict=True)
            ]
        return found

    content = [[p.id, p.category, p.kind, p.messages] for p in asked]
    search_of: dict[str, Any] = {
        "model": model,
        "fingerprint": fingerprint(source),
        "bias_sha256": vector.sha256,
        "prompts": {
            "name": prompts,
            "count": len(asked),
            "sha256": hashlib.sha256(dumps(content).encode()).hexdigest(),
        },
        "judge": judging.describe(),
        **({"end_of_thinking": end_of_thinking} if end_of_thinking else {}),
        "max_new_tokens": max_new_tokens,
        "batch_size": batch_size,
        "dtype": str(loaded.dtype),
        "seed": seed,
    }
    _check_search(out, search_of)
    with console.bar("tune") as update:
        found = search(
            answers,
            vector.steps,
            vector.info.strength,
            tolerance=tolerance,
            floors=floors,
            trials=trials,
            seed=seed,
            log=out / TRIALS,
            progress=lambda done, total: update("tune", done, total),
        )
    evidence = {
        **found.evidence(),
        **search_of,
        "versions": {name: version(name) for name in ("tsdi", "torch", "transformers", "optuna")},
    }
    chosen = found.chosen.knobs
    tuned = vector.truncate(chosen.steps).decayed(chosen.decay)
    tuned.with_tuning(chosen.strength, evidence).save_pretrained(out)
    _show(found, model, out, judging.describe(), json)


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


def _check_folder(out: Path, resume: bool) -> None:
    from tsdi.bias.file import CONFIG_FILE

    frame.hold(working_in(out))
    if (out / CONFIG_FILE).exists():
        raise RunExistsError(f"{out} already holds a bias.", "Give another --out.")
    if not is_unused(out):
        if not resume:
            remedy = "Give another --out, or --resume a killed run."
            raise RunExistsError(f"{out} is in use.", remedy)
        if not any((out / name).exists() for name in (TRIALS, SEARCH)):
            raise RunExistsError(f"{out} holds other files and no search.", "Give another --out.")


def _check_search(out: Path, search_of: dict[str, Any]) -> None:
    """Note in the folder what is searched, or refuse to go on with another search's trials."""
    from tsdi.models.fingerprint import alike

    note, wanted = out / SEARCH, parse_json(to_json(search_of))
    if not note.exists():
        write_json(note, search_of)
    known = read_object(note, "Restore it, or give another --out.")
    for key, value in wanted.items():
        if not alike({key: known[key]} if key in known else {}, {key: value}):
            raise RunExistsError(f"{out} is of a search with another {key}.", "Give another --out.")
    if "fingerprint" not in known:
        console.note(f"{note} does not say which weights were tried: an earlier tsdi did not look.")


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
    if chosen.knobs.strength == 0:
        console.say("No strength helps within the floors, so the tuned bias recommends 0.")
    else:
        console.say(
            f"Chosen: strength {chosen.knobs.strength:g}, {chosen.knobs.steps} steps, decay"
            f" {chosen.knobs.decay:g}. Helpful {before.helpful:.3f} -> {chosen.helpful:.3f}, {safe}"
            f" {before.safety['all']:.3f} -> {chosen.safety['all']:.3f}, on validation prompts:"
            " report on others."
        )
    console.say(
        f"Saved in {out}. Next: tsdi evaluate {model} --bias {out} --prompts TEST --out RUN"
    )


def _reach(found: "Tuning", safe: str) -> str:
    """How much a floor could show, where it rests on the fewest prompts."""
    from tsdi.evaluation.tuning import unseen_loss

    counts = found.baseline.prompts
    name = min(counts, key=lambda name: counts[name])
    return (
        f"Floors rest on {counts['all']} harmful prompts, that of {name} on {counts[name]}, the"
        f" fewest: with none lost here, up to {unseen_loss(counts[name]):.0%} of {safe} answers"
        f" may be lost in it, and up to {unseen_loss(counts['all']):.1%} over all."
    )


def _front_table(found: "Tuning", safe: str) -> Table:
    table = Table(
        title="Settings that keep every floor, none beaten by another", title_justify="left"
    )
    for column in ("strength", "steps", "decay", "helpful", safe, "nearest floor", "margin"):
        table.add_column(column, justify="right")
    for trial in found.front:
        table.add_row(
            *_knobs(trial), f"{trial.safety['all']:.3f}",
            console.one_line(trial.worst(found.floors), 20), f"{trial.margin(found.floors):+.3f}",
            style="bold" if asdict(trial) == asdict(found.chosen) else "",
        )  # fmt: skip
    return table


def _broken_table(found: "Tuning", safe: str) -> Table:
    table = Table(
        title="Settings that broke a floor, the furthest broken one", title_justify="left"
    )
    for column in ("strength", "steps", "decay", "helpful", "broken", safe, "floor", "prompts"):
        table.add_column(column, justify="right")
    for trial in sorted(found.broke, key=lambda trial: trial.knobs.strength):
        first, *more = trial.broken(found.floors)
        table.add_row(
            *_knobs(trial), console.one_line(first, 16) + (f" +{len(more)}" if more else ""),
            f"{trial.safety[first]:.3f}", f"{found.floors[first]:.3f}", str(trial.prompts[first]),
        )  # fmt: skip
    return table


def _knobs(trial: "Trial") -> tuple[str, str, str, str]:
    knobs = trial.knobs
    return (
        f"{knobs.strength:.2f}",
        str(knobs.steps),
        f"{knobs.decay:.2f}",
        f"{trial.helpful:.3f}",
    )
