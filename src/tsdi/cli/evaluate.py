"""``tsdi evaluate``: answers, verdicts and figures in one run folder."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from tsdi.cli import console, frame
from tsdi.cli.figures import category_title, judged_by, show_bounds, show_interval, titles
from tsdi.cli.options import (
    AttackOption,
    BatchSizeOption,
    BiasOption,
    ColumnsOption,
    DeviceMapOption,
    DtypeOption,
    EndOfThinkingOption,
    EngineChoice,
    EngineOption,
    JsonOption,
    JudgeLabelsOption,
    JudgeUrlOption,
    MaxNewTokensOption,
    PromptFormatOption,
    PromptsOption,
    ResumeOption,
    StrengthOption,
    TemperatureOption,
    TemplateArgOption,
    TokenizerOption,
    TrustRemoteCodeOption,
    UrlOption,
    open_engine,
    read_chat_format,
    under_attack,
)
from tsdi.errors import UsageError

if TYPE_CHECKING:
    from tsdi.evaluation.judge import Evaluation
    from tsdi.runs.records import Record
    from tsdi.stats.interval import Bounds, Estimate
    from tsdi.suites.load import Loaded

WIDTH = 32  # of a row's title
# What judging alone can use.
JUDGING = {"target", "judge", "judge_url", "kind", "dtype", "device_map", "trust_remote_code"}
JUDGING |= {"judge_labels", "audit", "end_of_thinking", "resume", "json"}


def evaluate(
    context: typer.Context,
    target: Annotated[
        str, typer.Argument(metavar="MODEL|RUN", help="A model, or a folder with responses.jsonl.")
    ],
    prompts: PromptsOption = None,
    columns: ColumnsOption = "",
    out: Annotated[Path | None, typer.Option(help="For a model: the run folder.")] = None,
    judge: Annotated[
        str | None,
        typer.Option(
            metavar="NAME[=MODEL]",
            help="A judge, such as md-judge-v0.1, wildguard=FOLDER or refusal-phrases (see tsdi"
            " judges); A+B lets A judge harmful prompts and B the others. Default: organism where"
            " it fits, else refusal-phrases.",
        ),
    ] = None,
    judge_url: JudgeUrlOption = None,
    judge_labels: JudgeLabelsOption = None,
    audit: Annotated[
        Path | None,
        typer.Option(help="An audit of the judge: show rates corrected for its errors too."),
    ] = None,
    kind: Annotated[
        str, typer.Option(help="Of prompts that have none: harmless, lookalike or harmful.")
    ] = "",
    end_of_thinking: EndOfThinkingOption = "",
    bias: BiasOption = None,
    strength: StrengthOption = None,
    max_new_tokens: MaxNewTokensOption = 256,
    attack: AttackOption = None,
    temperature: TemperatureOption = 0.0,
    batch_size: BatchSizeOption = 16,
    prompt_format: PromptFormatOption = None,
    template_arg: TemplateArgOption = None,
    dtype: DtypeOption = "auto",
    device_map: DeviceMapOption = None,
    trust_remote_code: TrustRemoteCodeOption = False,
    engine: EngineOption = "transformers",
    url: UrlOption = None,
    tokenizer: TokenizerOption = None,
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
    from tsdi.files import working_in
    from tsdi.judging.base import JudgeOptions
    from tsdi.judging.registry import check_judge, default_judge, load_judge
    from tsdi.runs.responses import read_responses
    from tsdi.runs.stage import VERDICTS

    run = out or Path(target)
    if audit is not None and not audit.is_file():
        raise UsageError(f"There is no audit {audit}.", "Make it with tsdi audit JUDGE --out FILE.")
    if judge is not None:
        check_judge(judge)  # what is wrong with names and folders is said before the long work
    if prompts is not None or run.is_dir():
        frame.hold(working_in(run))
    if not resume:
        VERDICTS.check_unused(run)
    if prompts is not None:
        from tsdi.engines.base import Sampling
        from tsdi.models.load import LoadOptions
        from tsdi.runs.answer import generate_responses

        loaded = _load(prompts, columns, seed, kind, run, resume)
        answering, used = open_engine(
            target,
            bias,
            strength,
            read_chat_format(prompt_format, template_arg),
            LoadOptions(dtype, device_map, trust_remote_code),
            EngineChoice(engine, url, tokenizer),
        )
        answering, attacked = under_attack(answering, attack)
        with console.bar("generate") as update:
            generate_responses(
                answering,
                loaded.prompts,
                run,
                Sampling(max_new_tokens, temperature, seed),
                batch_size,
                resume,
                {**used, **attacked, **loaded.provenance},
                lambda done, total: update("generate", done, total),
            )
        kind = ""  # answers hold it now
        del answering  # a judge may need the memory
    responses = read_responses(run, kind)
    console.quiet_libraries()
    name = judge or default_judge(response.prompt for response in responses)
    judging = JudgeOptions(None, judge_url, dtype, device_map, trust_remote_code, judge_labels)
    with console.bar("judge") as update:
        evaluation = judge_responses(
            load_judge(name, judging),
            run,
            resume=resume,
            kind=kind,
            end_of_thinking=end_of_thinking,
            audit=audit,
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


def _load(prompts: str, columns: str, seed: int, kind: str, run: Path, resume: bool) -> "Loaded":
    """The prompts, each with a kind, for a folder that may be used."""
    from tsdi.runs.stage import ANSWERS
    from tsdi.suites.load import load_prompts
    from tsdi.suites.prompts import check_kinds

    if not resume:
        ANSWERS.check_unused(run)
    console.quiet_libraries()
    loaded = load_prompts(prompts, seed, kind, columns)
    check_kinds(loaded.prompts)
    return loaded


def _show(evaluation: "Evaluation", run: Path, json: bool) -> None:
    if json:
        console.show_json({"run": str(run), **evaluation.to_dict()})
        return
    console.out.print(figures_table(evaluation))
    for table in (categories_table(evaluation), corrected_table(evaluation)):
        if table is not None:
            console.out.print(table)
    for text in evaluation.notes:
        console.note(text)
    console.say(f"Saved in {run}. Next: tsdi compare {run} OTHER_RUN")


def figures_table(evaluation: "Evaluation") -> Table:
    """All figures over all categories that stand on an answer, with their 95 % intervals and n.

    Where answers are unscored, a column says what a figure would be had all of them gone one way.
    """
    figures, judge = evaluation.figures, evaluation.judge
    table = Table(title=f"Shares with 95 % intervals, {judged_by(judge)}", title_justify="left")
    table.add_column("", no_wrap=True)
    for column in ("share", "answers", *(["bounds"] if figures.unscored.value else [])):
        table.add_column(column, justify="right", no_wrap=True)

    def row(title: str, estimate: "Estimate", bounds: "Bounds | None" = None) -> None:
        if estimate.n or bounds:
            ends = show_bounds(bounds) if bounds else ""
            cells = [title, show_interval(estimate), str(estimate.n), ends]
            table.add_row(*cells[: len(table.columns)])

    names = titles(judge)
    for name in ("compliance", "lookalike_compliance", "correct", "safety"):
        row(names[name], getattr(figures, name), figures.bounds.get(name))
    for kind, refusals in figures.refusals.items():
        table.add_section()
        row(f"refused in full, {kind}", refusals.full)
        row(f"refused in part, {kind}", refusals.partial)
    table.add_section()
    row(f"degenerate, {_seen(judge)}", figures.degenerate)
    row("unscored, all prompts", figures.unscored)
    return table


def _seen(judge: "Record") -> str:
    """Prompts on whose answers the judge sees more than what is unsafe."""
    from tsdi.judging.base import KINDS
    from tsdi.judging.panel import refusal_kinds

    kinds = refusal_kinds(judge)
    if kinds == KINDS:
        return "all prompts"
    return "harmful prompts" if "harmful" in kinds else "harmless prompts"


def categories_table(evaluation: "Evaluation") -> Table | None:
    """Compliance beside safety by category, each with its n; none without categories."""
    from tsdi.categories import by_code

    figures, judge = evaluation.figures, evaluation.judge
    helpful, safe = figures.compliance_by_category, figures.safety_by_category
    if not {*helpful, *safe} - {""}:
        return None
    bounds = figures.safety_bounds if figures.unscored.value else {}
    table = Table(title="By category, with the number of answers", title_justify="left")
    table.add_column("", no_wrap=True)
    what = titles(judge)["safety"].partition(",")[0]
    shown = {"complied": helpful, what: safe}
    columns = {name: shares for name, shares in shown.items() if shares}
    for column in (*columns, *([f"{what},\nbounds"] if bounds else [])):
        table.add_column(column, justify="right", no_wrap=True)
    for category in by_code({*helpful, *safe}):
        cells = [category_title(category, judge, WIDTH - 12 * bool(bounds))]
        cells += [_with_n(shares.get(category)) for shares in columns.values()]
        cells += [show_bounds(bounds[category]) if category in bounds else ""]
        table.add_row(*cells[: len(table.columns)])
    return table


def corrected_table(evaluation: "Evaluation") -> Table | None:
    """Rates corrected for the judge's errors; none without an audit."""
    if not evaluation.corrected:
        return None
    table = Table(title="Corrected for the judge's errors", title_justify="left")
    table.add_column("", no_wrap=True)
    for column in ("share", "answers"):
        table.add_column(column, justify="right", no_wrap=True)
    names = {f"refused_{kind}": f"refused in full or part, {kind}" for kind in evaluation.prompts}
    names["safety"] = titles(evaluation.judge)["safety"]
    for name, rate in evaluation.corrected.items():
        shown = show_interval(rate) if rate.value is not None else "not known from this audit"
        table.add_row(names[name], shown, str(rate.n))
    return table


def _with_n(estimate: "Estimate | None") -> str:
    return f"{show_interval(estimate)} {estimate.n:4}" if estimate and estimate.n else ""
