"""``tsdi evaluate``: answers, verdicts and figures in one run folder."""

from pathlib import Path
from typing import Annotated

import typer

import tsdi
from tsdi.cli import console, frame, options
from tsdi.cli.figures import (
    agreement_table,
    categories_table,
    corrected_table,
    figures_table,
    labelled_table,
)
from tsdi.errors import UsageError
from tsdi.evaluation.evaluate import Evaluation, Judging

# Options that judging alone can use.
JUDGING = {"target", "judge", "judge_arg", "dtype", "device_map", "trust_remote_code"}
JUDGING |= {"audit", "labels", "workers", "worker_gpus"}
JUDGING |= {"end_of_thinking", "resume", "json"}


def evaluate(
    context: typer.Context,
    target: Annotated[
        str, typer.Argument(metavar="MODEL|RUN", help="A model, or a folder with responses.jsonl.")
    ],
    prompts: options.Prompts = None,
    out: Annotated[Path | None, typer.Option(help="For a model: the run folder.")] = None,
    judge: Annotated[
        str | None,
        typer.Option(
            metavar="NAME[=MODEL]",
            help="A judge, such as md-judge-v0.1, wildguard=FOLDER or refusal-phrases (see tsdi"
            " list); A+B lets A judge harmful prompts and B the others. Default: organism where"
            " it fits, else refusal-phrases.",
        ),
    ] = None,
    judge_arg: options.JudgeArg = None,
    audit: Annotated[
        Path | None,
        typer.Option(
            help="An audit of the judge: show rates corrected for its errors too.",
            rich_help_panel=options.JUDGING,
        ),
    ] = None,
    labels: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FILE",
            help="People's labels of some of these answers, as tsdi label writes them: show rates"
            " that hold however wrong the judge is; may be given again.",
            rich_help_panel=options.JUDGING,
        ),
    ] = None,
    end_of_thinking: options.EndOfThinking = "",
    bias: options.Bias = None,
    strength: options.Strength = None,
    max_new_tokens: options.LongestAnswer = None,
    attack: options.Attack = None,
    temperature: options.Temperature = 0.0,
    batch_size: options.BatchSize = 16,
    prompt_format: options.PromptFormat = None,
    template_arg: options.TemplateArg = None,
    dtype: options.Dtype = "auto",
    device_map: options.DeviceMap = None,
    trust_remote_code: options.TrustRemoteCode = False,
    engine: options.Engine = "transformers",
    engine_arg: options.EngineArg = None,
    shard: options.Shard = None,
    workers: options.Workers = "1",
    worker_gpus: options.WorkerGpus = None,
    resume: options.Resume = False,
    json: options.Json = False,
    seed: Annotated[
        int,
        typer.Option(
            min=0,
            help="Decides draws above temperature 0, and organism prompts.",
            rich_help_panel=options.ANSWERING,
        ),
    ] = 0,
) -> None:
    """Measure helpfulness and safety: answer prompts, judge the answers, count the verdicts.

    With --prompts, MODEL answers them first, as tsdi generate does; without, the answers in RUN are
    judged. RUN gets verdicts.jsonl and metrics.json, a second --judge its own in RUN/judges; a
    killed run goes on with --resume. Prompts need a kind: harmless, lookalike (harmless but
    sounding harmful) or harmful.

    Example: tsdi evaluate acme/model --bias my-bias --prompts prompts.jsonl --out run
    """
    if prompts is None:
        _refuse_generating(context)
    elif out is None:
        raise UsageError("--prompts and --out go together.")
    else:
        frame.find(target, engine=engine, bias=bias, prompts=[prompts], judge=judge)
    console.quiet_libraries()
    opening = options.read_judge(judge_arg, dtype, device_map, trust_remote_code)
    cluster = options.read_cluster(workers, worker_gpus)
    judging = Judging(judge, opening, "", end_of_thinking, audit, labels or (), cluster)
    answering = None
    if prompts is not None:  # what answers loads torch, judging alone does not
        answering = tsdi.Answering(
            strength,
            tsdi.Sampling(max_new_tokens, temperature, seed),
            batch_size,
            attack,
            options.read_chat_format(prompt_format, template_arg),
            tsdi.LoadOptions(dtype, device_map, trust_remote_code),
            options.read_engine(engine, engine_arg),
            cluster,
            shard,
        )
    with console.bar("generate" if prompts else "judge") as update:
        evaluation = tsdi.evaluate(
            target,
            prompts,
            out,
            bias=bias,
            answering=answering,
            judging=judging,
            resume=resume,
            progress=update,
        )
    again = "the same with" if prompts else "tsdi evaluate MODEL --prompts WHAT"
    _show(evaluation, out or Path(target), again, json)


def _refuse_generating(context: typer.Context) -> None:
    """Refuse options that mean nothing where no model answers."""
    for option in frame.given(context, but=JUDGING):
        raise UsageError(
            f"{option} needs --prompts: without, nothing is generated.", f"Leave {option} out."
        )


def _show(evaluation: "Evaluation", run: Path, again: str, json: bool) -> None:
    if json:
        console.show_json({"run": str(run), **evaluation.to_dict()})
        return
    console.out.print(figures_table(evaluation))
    for make in (categories_table, corrected_table, labelled_table, agreement_table):
        table = make(evaluation)
        if table is not None:
            console.out.print(table)
    for text in evaluation.notes:
        console.note(text)
    whose = f" --judge {evaluation.judge['name']}" if evaluation.agreement else ""
    console.say(f"Saved in {run}. Next: {_next(evaluation, run, whose, again)}")


def _next(evaluation: "Evaluation", run: Path, whose: str, again: str) -> str:
    """The next command; a model's answers as it is want those with a bias first, made again."""
    provenance = evaluation.run.get("provenance")
    if not isinstance(provenance, dict) or "bias_sha256" not in provenance:  # of another tool
        return f"tsdi compare {run} OTHER_RUN{whose}"
    if provenance["bias_sha256"]:
        return f"tsdi compare PLAIN_RUN {run}{whose}"
    return f"{again} --bias BIAS --out debiased, then tsdi compare {run} debiased{whose}"
