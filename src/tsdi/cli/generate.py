"""``tsdi generate``: answers from one model, debiased or not."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tsdi.cli import console, frame
from tsdi.cli.options import (
    AttackOption,
    BatchSizeOption,
    BiasOption,
    ColumnsOption,
    DeviceMapOption,
    DtypeOption,
    EngineChoice,
    EngineOption,
    JsonOption,
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
    from tsdi.engines.base import Completion
    from tsdi.runs.records import Record


def generate(
    model: Annotated[
        str, typer.Argument(help="Folder or hub id, ORG/NAME[@REVISION], of a model or adapter.")
    ],
    prompt: Annotated[str | None, typer.Option(help="One prompt; the answer is printed.")] = None,
    prompts: PromptsOption = None,
    columns: ColumnsOption = "",
    out: Annotated[Path | None, typer.Option(help="Folder for the answers.")] = None,
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
    seed: Annotated[int, typer.Option(min=0, help="Decides draws above temperature 0.")] = 0,
) -> None:
    """Answer prompts with a model, with its safety bias subtracted if one is given.

    Answers go to OUT/responses.jsonl as they come; a killed run goes on with --resume.

    Example: tsdi generate org/model --bias my-bias --prompts prompts.jsonl --out answers
    """
    if (prompt is None) == (prompts is None):
        raise UsageError("Give one of --prompt and --prompts.")
    if (prompts is None) != (out is None):
        raise UsageError("--prompts and --out go together.")
    if columns and prompts is None:
        raise UsageError("--columns needs --prompts.")
    from tsdi.engines.base import Request, Sampling
    from tsdi.models.load import LoadOptions
    from tsdi.runs.answer import generate_responses
    from tsdi.suites.load import load_prompts

    if out is not None:
        _hold(out, resume)
    console.quiet_libraries()
    loaded = None if prompts is None else load_prompts(prompts, seed, columns=columns)
    answering, used = open_engine(
        model,
        bias,
        strength,
        read_chat_format(prompt_format, template_arg),
        LoadOptions(dtype, device_map, trust_remote_code),
        EngineChoice(engine, url, tokenizer),
    )
    answering, attacked = under_attack(answering, attack)
    used |= attacked
    sampling = Sampling(max_new_tokens, temperature, seed)
    if prompt is not None:
        answer = answering.generate([Request.from_text(prompt)], sampling)[0]
        _show(answer, used, json)
        return
    assert out is not None
    assert loaded is not None
    with console.bar("generate") as update:
        records = generate_responses(
            answering,
            loaded.prompts,
            out,
            sampling,
            batch_size,
            resume,
            {**used, **loaded.provenance},
            lambda done, total: update("generate", done, total),
        )
    _show_run(records, out, used, json)


def _show_run(records: "list[Record]", out: Path, used: dict[str, Any], json: bool) -> None:
    from tsdi.runs.responses import never_began

    cut = sum(record["finish"] == "length" for record in records)
    withheld = sum(record["finish"] in ("filter", "error") for record in records)
    plain = sum(record.get("bias_began") is False for record in records)
    if plain:
        console.note(never_began(plain, len(records)))
    counts = {"cut_off": cut, **({"withheld": withheld} if withheld else {})}
    result = {"out": str(out), "responses": len(records), **counts, **used}
    if json:
        console.show_json(result)
    else:
        more = f", {withheld} withheld or turned down by the server" if withheld else ""
        console.say(f"{len(records)} answers in {out} ({cut} cut off{more}).")


def _show(answer: "Completion", used: dict[str, Any], json: bool) -> None:
    from tsdi.judging.base import why_missing
    from tsdi.runs.responses import never_began

    if not answer.bias_began:
        console.note(never_began(1, 1))
    if json:
        why = {"reason": answer.reason} if answer.reason else {}
        console.show_json({"response": answer.text, "finish": answer.finish, **why, **used})
        return
    console.show_answer(answer.text)
    if why_not := why_missing(answer.finish, answer.reason):
        console.note(why_not)


def _hold(out: Path, resume: bool) -> None:
    """Keep others out of the folder, which is unused unless a run goes on in it."""
    from tsdi.files import working_in
    from tsdi.runs.stage import ANSWERS

    frame.hold(working_in(out))
    if not resume:
        ANSWERS.check_unused(out)
