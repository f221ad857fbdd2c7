"""``tsdi evaluate``: answers, verdicts and figures in one run folder."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from tsdi.cli import console
from tsdi.cli.engine import (
    BatchSizeOption,
    BiasOption,
    DeviceMapOption,
    DtypeOption,
    JsonOption,
    MaxNewTokensOption,
    PromptFormatOption,
    ResumeOption,
    StrengthOption,
    TemperatureOption,
    TrustRemoteCodeOption,
    open_engine,
)
from tsdi.cli.figures import category_title, judged_by, show_interval, titles
from tsdi.errors import UsageError

if TYPE_CHECKING:
    from tsdi.evaluation.judge import Evaluation
    from tsdi.interval import Estimate
    from tsdi.suites.prompts import Prompt

WIDTH = 44  # of a row's title
JUDGING = {"target", "judge", "kind", "resume", "json"}  # what judging alone can use


def evaluate(
    context: typer.Context,
    target: Annotated[
        str, typer.Argument(metavar="MODEL|RUN", help="A model, or a folder with responses.jsonl.")
    ],
    prompts: Annotated[
        str | None,
        typer.Option(help="For a model: prompt file, organism:test or organism:validation."),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="For a model: the run folder.")] = None,
    judge: Annotated[
        str | None,
        typer.Option(help="organism (ground truth; default where it fits) or refusal-phrases."),
    ] = None,
    kind: Annotated[
        str, typer.Option(help="Of prompts that have none: harmless, lookalike or harmful.")
    ] = "",
    bias: BiasOption = None,
    strength: StrengthOption = None,
    max_new_tokens: MaxNewTokensOption = 256,
    temperature: TemperatureOption = 0.0,
    batch_size: BatchSizeOption = 16,
    prompt_format: PromptFormatOption = None,
    dtype: DtypeOption = "auto",
    device_map: DeviceMapOption = None,
    trust_remote_code: TrustRemoteCodeOption = False,
    resume: ResumeOption = False,
    json: JsonOption = False,
    seed: Annotated[
        int, typer.Option(min=0, help="Decides draws above temperature 0, and organism prompts.")
    ] = 0,
) -> None:
    """Measure helpfulness and safety: answer prompts, judge the answers, count the verdicts.

    With --prompts, MODEL answers them first, as tsdi generate does; without, the answers in RUN are
    judged. RUN gets verdicts.jsonl and metrics.json; a killed run goes on with --resume. Prompts
    need a kind: harmless, lookalike (harmless but sounding harmful) or harmful.

    Example: tsdi evaluate org/model --bias my-bias --prompts prompts.jsonl --out run
    """
    if prompts is None:
        _refuse_generating(context)
    elif out is None:
        raise UsageError("--prompts and --out go together.")
    from tsdi.evaluation.judge import judge_responses
    from tsdi.evaluation.judges import check_judge, default_judge, load_judge
    from tsdi.evaluation.responses import read_responses
    from tsdi.evaluation.stage import VERDICTS

    run = out or Path(target)
    if judge is not None:
        check_judge(judge)  # what is wrong with names and folders is said before the long work
    if not resume:
        VERDICTS.check_unused(run)
    if prompts is not None:
        from tsdi.engines.base import Sampling
        from tsdi.evaluation.run import generate_responses
        from tsdi.models import LoadOptions

        rows = _rows(prompts, seed, kind, run, resume)
        engine, used = open_engine(
            target, bias, strength, prompt_format, LoadOptions(dtype, device_map, trust_remote_code)
        )
        with console.bar("generate") as update:
            generate_responses(
                engine,
                rows,
                run,
                Sampling(max_new_tokens, temperature, seed),
                batch_size,
                resume,
                used,
                lambda done, total: update("generate", done, total),
            )
        kind = ""  # answers hold it now
    responses = read_responses(run, kind)
    name = judge or default_judge(response.prompt for response in responses)
    with console.bar("judge") as update:
        evaluation = judge_responses(
            load_judge(name),
            run,
            resume=resume,
            kind=kind,
            progress=lambda done, total: update("judge", done, total),
        )
    _show(evaluation, run, json)


def _refuse_generating(context: typer.Context) -> None:
    """Refuse options that mean nothing where no model answers."""
    sources = {name: context.get_parameter_source(name) for name in context.params}
    for name, source in sources.items():
        if name not in JUDGING and source is not None and source.name != "DEFAULT":
            option = name.replace("_", "-")
            raise UsageError(
                f"--{option} needs --prompts: without, nothing is generated.",
                f"Leave --{option} out.",
            )


def _rows(prompts: str, seed: int, kind: str, run: Path, resume: bool) -> "list[Prompt]":
    """The prompts, each with a kind, for a folder that may be used."""
    from tsdi.evaluation.builtin import load_prompts
    from tsdi.evaluation.stage import ANSWERS
    from tsdi.suites.prompts import check_kinds

    if not resume:
        ANSWERS.check_unused(run)
    rows = load_prompts(prompts, seed, kind)
    check_kinds(rows)
    return rows


def _show(evaluation: "Evaluation", run: Path, json: bool) -> None:
    if json:
        console.show_json({"run": str(run), **evaluation.to_dict()})
        return
    console.out.print(figures_table(evaluation))
    for text in evaluation.notes:
        console.note(text)
    console.say(f"Saved in {run}. Next: tsdi compare {run} OTHER_RUN")


def figures_table(evaluation: "Evaluation") -> Table:
    """All figures that stand on an answer, each with its 95 % interval and n."""
    figures, judge = evaluation.figures, evaluation.judge
    table = Table(title=f"Shares with 95 % intervals, {judged_by(judge)}", title_justify="left")
    table.add_column("", no_wrap=True)
    table.add_column("share", justify="right", no_wrap=True)
    table.add_column("answers", justify="right", no_wrap=True)

    def row(title: str, estimate: "Estimate") -> None:
        if estimate.n:
            table.add_row(title, show_interval(estimate), str(estimate.n))

    names = titles(judge)
    for name in ("compliance", "lookalike_compliance", "correct"):
        row(names[name], getattr(figures, name))
    table.add_section()
    row(names["safety"], figures.safety)
    if set(figures.safety_by_category) != {""}:
        for category, estimate in figures.safety_by_category.items():
            row(category_title(category, judge, WIDTH), estimate)
    table.add_section()
    row("hybrid, all prompts", figures.hybrid)
    row("degenerate, all prompts", figures.degenerate)
    row("unscored, all prompts", figures.unscored)
    return table
