"""``tsdi generate``: answers from one model, debiased or not."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tsdi.cli import console
from tsdi.errors import UsageError

if TYPE_CHECKING:
    from tsdi.engines.base import Engine
    from tsdi.models import LoadOptions


def generate(
    model: Annotated[str, typer.Argument(help="Folder or hub id of the model (or adapter).")],
    prompt: Annotated[str | None, typer.Option(help="One prompt; the answer is printed.")] = None,
    prompts: Annotated[
        Path | None, typer.Option(help="Prompt file: .jsonl, .json, .csv or .txt, also .gz.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for the answers.")] = None,
    bias: Annotated[
        str | None, typer.Option(help="Folder or hub id of a safety bias to subtract.")
    ] = None,
    strength: Annotated[
        float | None, typer.Option(help="How much of it; default: what the bias recommends.")
    ] = None,
    max_new_tokens: Annotated[int, typer.Option(min=1, help="Most tokens in an answer.")] = 256,
    temperature: Annotated[float, typer.Option(min=0.0, help="0 is greedy decoding.")] = 0.0,
    batch_size: Annotated[int, typer.Option(min=1, help="Prompts answered together.")] = 16,
    prompt_format: Annotated[
        str | None, typer.Option(help="Instead of the chat template: '... {prompt} ...'.")
    ] = None,
    dtype: Annotated[str, typer.Option(help="auto, float32, bfloat16 or float16.")] = "auto",
    device_map: Annotated[
        str | None, typer.Option(help="As in transformers: auto, cuda:1.")
    ] = None,
    trust_remote_code: Annotated[
        bool, typer.Option("--trust-remote-code", help="Run code that comes with the model.")
    ] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with a killed run.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
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
    from tsdi.engines.base import Request, Sampling
    from tsdi.evaluation.prompts import read_prompts
    from tsdi.evaluation.run import check_unused, generate_responses
    from tsdi.models import LoadOptions

    if out is not None and not resume:
        check_unused(out)
    rows = read_prompts(prompts) if prompts is not None else []
    engine, used = _engine(
        model, bias, strength, prompt_format, LoadOptions(dtype, device_map, trust_remote_code)
    )
    sampling = Sampling(max_new_tokens, temperature, seed)
    if prompt is not None:
        answer = engine.generate([Request.from_text(prompt)], sampling)[0]
        if json:
            console.show_json({"response": answer.text, "finish": answer.finish, **used})
        else:
            console.show_answer(answer.text)
        return
    assert out is not None
    with console.bar("generate") as update:
        records = generate_responses(
            engine,
            rows,
            out,
            sampling,
            batch_size,
            resume,
            used,
            lambda done, total: update("generate", done, total),
        )
    cut = sum(record["finish"] == "length" for record in records)
    result = {"out": str(out), "responses": len(records), "cut_off": cut, **used}
    if json:
        console.show_json(result)
    else:
        console.say(f"{len(records)} answers in {out} ({cut} cut off).")


def _engine(
    model: str,
    bias: str | None,
    strength: float | None,
    prompt_format: str | None,
    options: "LoadOptions",
) -> "tuple[Engine, dict[str, str | float | None]]":
    from tsdi.bias import SafetyBias
    from tsdi.chat import describe_format
    from tsdi.engines.transformers import TransformersEngine
    from tsdi.models import load_model, load_tokenizer

    console.quiet_libraries()
    tokenizer = load_tokenizer(model, options)
    vector = None if bias is None else SafetyBias.from_pretrained(bias, tokenizer=tokenizer)
    if vector is not None and prompt_format not in (None, vector.info.prompt_format):
        raise UsageError(
            f"The bias was estimated with prompt format {vector.info.prompt_format!r}.",
            "Leave out --prompt-format, or estimate a bias for it.",
        )
    if vector is not None:
        prompt_format = vector.info.prompt_format
        if strength is None:
            strength = vector.info.strength
            console.note(f"Strength {strength:g}, as the bias recommends.")
    elif strength is not None:
        raise UsageError("--strength needs --bias.")
    if tokenizer.chat_template is None:
        console.note(f"Prompts are wrapped in {describe_format(tokenizer, prompt_format)}.")
    loaded = load_model(model, options)
    engine = TransformersEngine(
        loaded, tokenizer, vector, strength if strength is not None else 1.0, prompt_format
    )
    if vector is not None and model != vector.info.aligned:
        console.note(f"The bias was estimated for {vector.info.aligned}; this is {model}.")
    used: dict[str, str | float | None] = {
        "model": model,
        "revision": getattr(loaded.config, "_commit_hash", None),
        "dtype": str(loaded.dtype),
        "bias": bias,
        "bias_sha256": None if vector is None else vector.sha256,
        "strength": strength,
        "prompt_format": prompt_format,
    }
    return engine, used
