"""``tsdi generate``: answers from one model, debiased or not."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

import tsdi
from tsdi.cli import console, frame, options
from tsdi.errors import UsageError
from tsdi.judging.base import why_missing
from tsdi.runs.responses import never_began

if TYPE_CHECKING:  # keeps torch out of the help
    from tsdi.runs.generate import Answering, Answers


def generate(
    model: Annotated[
        str,
        typer.Argument(
            help="Folder or hub id, ORG/NAME[@REVISION], of a model or adapter; or a GGUF file."
        ),
    ],
    prompt: Annotated[
        list[str] | None, typer.Option(metavar="TEXT", help="One prompt; the answer is printed.")
    ] = None,
    prompts: options.Prompts = None,
    out: Annotated[Path | None, typer.Option(help="Folder for the answers.")] = None,
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
            min=0, help="Decides draws above temperature 0.", rich_help_panel=options.ANSWERING
        ),
    ] = 0,
) -> None:
    """Answer prompts with a model, with its safety bias subtracted if one is given.

    Answers go to OUT/responses.jsonl as they come; a killed run goes on with --resume.

    Example: tsdi generate acme/model --bias my-bias --prompts prompts.jsonl --out answers
    """
    if (prompt is None) == (prompts is None):
        raise UsageError("Give one of --prompt and --prompts.")
    if prompt is not None and len(prompt) > 1:
        raise UsageError(
            f"{len(prompt)} of --prompt are given, and one is answered.", "Put them in a file."
        )
    if (prompts is None) != (out is None):
        raise UsageError("--prompts and --out go together.")
    if prompts is None and shard:
        raise UsageError("--shard needs --prompts.")
    cluster = options.read_cluster(workers, worker_gpus)
    if prompt is not None and cluster is not None:
        raise UsageError("--workers needs --prompts.")
    frame.find(model, engine=engine, bias=bias, prompts=[prompts] if prompts else ())
    console.quiet_libraries()
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
    if prompt is not None:
        _answer(model, prompt[0], bias, answering, json)
        return
    assert prompts is not None
    assert out is not None
    with console.bar("generate") as update:
        answers = tsdi.generate(
            model,
            prompts,
            out,
            bias=bias,
            answering=answering,
            resume=resume,
            progress=update,
        )
    _show(answers, out, json)


def _answer(model: str, prompt: str, bias: str | None, answering: "Answering", json: bool) -> None:
    found, used = tsdi.answer(model, prompt, bias=bias, answering=answering)
    if not found.bias_began:
        console.note(never_began(1, 1))
    if json:
        why = {"reason": found.reason} if found.reason else {}
        if found.strength is not None:
            used = {**used, "strength": found.strength}
        console.show_json({"response": found.text, "finish": found.finish, **why, **used})
        return
    console.show_answer(found.text)
    if found.strength is not None:
        console.note(f"Strength {found.strength:.2f}, set by the condition.")
    if why_not := why_missing(found.finish, found.reason):
        console.note(why_not)


def _show(answers: "Answers", out: Path, json: bool) -> None:
    for line in answers.notes:
        console.note(line)
    number, cut, withheld = len(answers.records), answers.cut_off, answers.withheld
    if json:
        counts = {"cut_off": cut, **({"withheld": withheld} if withheld else {})}
        console.show_json({"out": str(out), "responses": number, **counts, **answers.used})
    else:
        more = f", {withheld} withheld or turned down by the server" if withheld else ""
        console.say(f"{number} answers in {out} ({cut} cut off{more}).")
