"""``tsdi estimate``: the safety bias of a pair of models, or of one without a reference."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

import tsdi
from tsdi.cli import console, frame, options
from tsdi.cli.show import summary, tokens_table
from tsdi.errors import UsageError
from tsdi.models.shipped import EXAMPLE

if TYPE_CHECKING:  # keeps torch out of the help
    from tsdi.bias.show import ShownBias
    from tsdi.runs.sums import EstimateShard


_OTHERWISE = "Without a reference, or of first order"
AFTERWARDS = {"labelled", "diagnosis", "prompts", "phrases"}
"""Options of what follows once all shards are gathered."""


def estimate(
    context: typer.Context,
    aligned: Annotated[str, typer.Argument(help="Model (or adapter) after the safety step.")],
    out: Annotated[Path, typer.Option(help="Folder for the bias.")],
    reference: Annotated[
        str | None,
        typer.Argument(
            help="Model (or adapter) before the safety step; without, something stands in for it."
        ),
    ] = None,
    n: Annotated[int, typer.Option("--n", min=16, help="Number of random prompts.")] = 512,
    steps: Annotated[
        int,
        typer.Option(min=1, help="Response positions to estimate.", rich_help_panel=options.RANDOM),
    ] = 16,
    prompt_tokens: Annotated[
        int, typer.Option(min=1, help="Random tokens in a prompt.", rich_help_panel=options.RANDOM)
    ] = 48,
    pool: Annotated[
        str, typer.Option(help="Token pool: neutral, tokenizer, mmlu, or a text file.")
    ] = "neutral",
    order: Annotated[
        int,
        typer.Option(
            min=0,
            max=1,
            help="0: one shift for all prompts (TSDI); 1: it follows the logits, too.",
            rich_help_panel=_OTHERWISE,
        ),
    ] = 0,
    labelled: Annotated[
        str | None,
        typer.Option(
            metavar="WHAT",
            help="Harmful and harmless prompts with kinds: what takes the place of a reference that"
            " is not named (default: everyday), and what --order 1 is fitted to (default: the"
            " random prompts).",
            rich_help_panel=_OTHERWISE,
        ),
    ] = None,
    diagnosis: Annotated[
        bool,
        typer.Option(
            "--diagnosis/--no-diagnosis",
            help="Examine the bias and recommend a strength; without, none is recommended.",
            rich_help_panel=options.DIAGNOSIS,
        ),
    ] = True,
    prompts: Annotated[
        list[str] | None,
        typer.Option(
            metavar="WHAT",
            help="Prompts with kinds on which the bias is examined too, as for tsdi evaluate; may"
            " be given again.",
            rich_help_panel=options.DIAGNOSIS,
        ),
    ] = None,
    phrases: options.Phrases = None,
    prompt_format: options.PromptFormat = None,
    reference_format: Annotated[
        str | None,
        typer.Option(
            help="How the reference reads prompts, if not as the aligned model does: '... {prompt}"
            " ...', or own for its own chat template.",
            rich_help_panel=options.PROMPTS,
        ),
    ] = None,
    template_arg: options.TemplateArg = None,
    end_of_thinking: Annotated[
        str,
        typer.Option(
            metavar="MARKER",
            help="How a reasoning model's thoughts end, such as </think>: step 0 is what follows.",
            rich_help_panel=options.RANDOM,
        ),
    ] = "",
    dtype: options.Dtype = "auto",
    device_map: options.DeviceMap = None,
    trust_remote_code: Annotated[
        bool,
        typer.Option(
            "--trust-remote-code",
            help="Run code that comes with the models.",
            rich_help_panel=options.LOADING,
        ),
    ] = False,
    engine: options.LogitEngine = "transformers",
    engine_arg: options.VllmArg = None,
    shard: options.Shard = None,
    workers: options.Workers = "1",
    worker_gpus: options.WorkerGpus = None,
    resume: options.Resume = False,
    json: options.Json = False,
    seed: Annotated[
        int,
        typer.Option(min=0, help="Decides the random prompts.", rich_help_panel=options.RANDOM),
    ] = 0,
) -> None:
    """Estimate the mean logit shift of a safety step on random prompts, and examine it.

    Without REFERENCE, labelled prompts (--labelled) show what may stand in for it; what does best
    on half of them is taken, and no strength is recommended unless it gains there.

    Example: tsdi estimate acme/aligned acme/reference --out my-bias --pool mmlu
    """
    if not diagnosis and (prompts or phrases):
        raise UsageError(
            "--prompts and --phrases are for the diagnosis.", "Leave out --no-diagnosis."
        )
    if labelled is not None and reference is not None and not order:
        raise UsageError(
            "Labelled prompts are for a bias of first order, or without a reference.",
            "Take order 1, or no prompts.",
        )
    frame.find(aligned, reference, prompts=prompts or ())
    console.quiet_libraries()
    settings = tsdi.Estimation(
        prompts=n,
        steps=steps,
        prompt_tokens=prompt_tokens,
        pool=pool,
        seed=seed,
        chat=options.read_chat_format(prompt_format, template_arg),
        anchor=end_of_thinking,
        reference_format=reference_format,
    )
    weights = tsdi.LoadOptions(dtype, device_map, trust_remote_code)
    chosen = options.read_engine(engine, engine_arg)
    cluster = options.read_cluster(workers, worker_gpus)
    loading = tsdi.Loading(weights, engine=chosen, cluster=cluster)
    if shard is not None:
        _refuse_with_shard(context, reference, order)
        assert reference is not None
        with console.bar("estimate") as update:
            made = tsdi.estimate_shard(
                aligned, reference, out, shard, settings, loading=loading, resume=resume,
                progress=update,
            )  # fmt: skip
        _show_shard(made, out, json)
        return
    asked: tsdi.Estimation | tsdi.FirstOrder | tsdi.OneModel = settings
    if order:
        asked = tsdi.FirstOrder(labelled, settings)
    elif labelled is not None:
        asked = tsdi.OneModel(labelled, settings)
    with console.bar("estimate") as update:
        bias = tsdi.estimate(
            aligned,
            reference,
            out,
            asked,
            diagnosis=tsdi.DiagnosisPrompts(prompts or (), phrases) if diagnosis else None,
            loading=loading,
            resume=resume,
            progress=update,
        )
    _show(tsdi.show(bias, 3, 4, tsdi.load_tokenizer(aligned, weights)), out, json)


def _refuse_with_shard(context: typer.Context, reference: str | None, order: int) -> None:
    """Refuse what a shard, which only sums random prompts of a pair, cannot do."""
    if reference is None or order:
        raise UsageError(
            "A shard is of the mean shift of two models.",
            "Name the reference, and take --order 1 once the shards are gathered.",
        )
    afterwards = AFTERWARDS if context.params["diagnosis"] else AFTERWARDS - {"diagnosis"}
    others = {parameter.name for parameter in context.command.params} - afterwards
    for option in frame.given(context, but={name for name in others if name}):
        raise UsageError(
            f"{option} has no effect on a shard.", "Give it once the shards are gathered."
        )


def _show_shard(made: "EstimateShard", out: Path, json: bool) -> None:
    start, stop = made.prompts
    if json:
        console.show_json({"out": str(out), "shard": str(made.shard), "prompts": [start, stop]})
    else:
        console.say(
            f"Shard {made.shard}, random prompts {start} to {stop - 1}, in {out}. Next, with all"
            f" {made.shard.of}: tsdi gather SHARD... --out OUT"
        )


def _show(shown: "ShownBias", out: Path, json: bool) -> None:
    if json:
        console.show_json({"out": str(out), **shown.to_dict()})
        return
    console.out.print(tokens_table(shown))
    console.say(summary(shown.bias))
    info = shown.bias.info
    if not shown.bias.values.any() or info.strength == 0:  # there is nothing to subtract
        console.say(f"Saved in {out}.")
        return
    more = " --strength 1" if info.strength is None else ""  # none is recommended
    prompt = "..."
    if info.aligned.startswith("organism/"):  # which knows the words of its own world
        prompt = EXAMPLE
    console.say(
        f"Saved in {out}. Next: tsdi generate {info.aligned} --bias {out}{more} --prompt {prompt!r}"
        ". Harmful requests may be refused less, too: tsdi evaluate, then tsdi compare --gate."
    )
