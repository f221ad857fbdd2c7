"""``tsdi evaluate``: answers, verdicts and figures in one run folder."""

from pathlib import Path
from typing import Annotated

import typer

import tsdi
from tsdi.cli import console
from tsdi.cli.figures import categories_table, corrected_table, figures_table
from tsdi.cli.options import (
    AttackOption,
    BatchSizeOption,
    BiasOption,
    ColumnsOption,
    DeviceMapOption,
    DtypeOption,
    EndOfThinkingOption,
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
    read_chat_format,
)
from tsdi.errors import UsageError
from tsdi.evaluation.evaluate import Evaluation, Judging
from tsdi.judging.base import JudgeOptions
from tsdi.suites.load import PromptSource

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
    console.quiet_libraries()
    options = JudgeOptions(None, judge_url, dtype, device_map, trust_remote_code, judge_labels)
    judging = Judging(judge, options, kind, end_of_thinking, audit)
    source = answering = None
    if prompts is not None:  # what answers loads torch, judging alone does not
        source = PromptSource(prompts, columns)
        answering = tsdi.Answering(
            strength,
            tsdi.Sampling(max_new_tokens, temperature, seed),
            batch_size,
            attack,
            read_chat_format(prompt_format, template_arg),
            tsdi.LoadOptions(dtype, device_map, trust_remote_code),
            tsdi.EngineChoice(engine, url, tokenizer),
        )
    with console.bar("generate" if prompts else "judge") as update:
        evaluation = tsdi.evaluate(
            target,
            source,
            out,
            bias=bias,
            answering=answering,
            judging=judging,
            resume=resume,
            progress=update,
        )
    _show(evaluation, out or Path(target), json)


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
