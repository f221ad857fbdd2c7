"""``tsdi estimate``: the safety bias of a pair of models."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tsdi.cli import console, frame
from tsdi.cli.options import ColumnsOption, PromptFormatOption, TemplateArgOption, read_chat_format
from tsdi.errors import PromptError, RunExistsError, UsageError
from tsdi.files import is_unused, working_in

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from tsdi.bias import SafetyBias, TokenPool
    from tsdi.bias.refusal_log_odds import Phrases
    from tsdi.models.chat import ChatFormat
    from tsdi.models.load import LoadOptions
    from tsdi.models.sides import Side
    from tsdi.suites.prompts import Prompt

RESULT_FILE = "bias_config.json"
_TAKEN = {"harmless": ("harmless", "lookalike"), "harmful": ("harmful",)}


def estimate(
    aligned: Annotated[str, typer.Argument(help="Model (or adapter) after the safety step.")],
    reference: Annotated[str, typer.Argument(help="Model (or adapter) before the safety step.")],
    out: Annotated[Path, typer.Option(help="Folder for the bias.")],
    prompts: Annotated[int, typer.Option(min=16, help="Random prompts, at most.")] = 512,
    steps: Annotated[int, typer.Option(min=1, help="Response positions to estimate.")] = 16,
    prompt_tokens: Annotated[int, typer.Option(min=1, help="Random tokens in a prompt.")] = 48,
    pool: Annotated[
        str, typer.Option(help="Token pool: neutral, tokenizer, mmlu, or a text file.")
    ] = "neutral",
    target_error: Annotated[
        float | None, typer.Option(help="Stop early at this standard error, in logits.")
    ] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Halved if memory runs out.")] = 32,
    diagnosis: Annotated[
        bool,
        typer.Option(
            "--diagnosis/--no-diagnosis",
            help="Examine the bias and recommend a strength; without, none is recommended.",
        ),
    ] = True,
    harmless: Annotated[
        str | None,
        typer.Option(
            metavar="WHAT",
            help="Harmless prompts for the diagnosis: a file, a suite ..., as --prompts of tsdi"
            " evaluate; lookalikes count, and other kinds are left out.",
        ),
    ] = None,
    harmful: Annotated[
        str | None,
        typer.Option(metavar="WHAT", help="Likewise harmful ones; other kinds are left out."),
    ] = None,
    columns: ColumnsOption = "",
    phrases: Annotated[
        Path | None,
        typer.Option(help="JSON file: how refusing and complying answers begin; default English."),
    ] = None,
    prompt_format: PromptFormatOption = None,
    template_arg: TemplateArgOption = None,
    anchor: Annotated[
        str, typer.Option(help="Marker that ends a model's thinking, such as '</think>'.")
    ] = "",
    dtype: Annotated[str, typer.Option(help="auto, float32, bfloat16 or float16.")] = "auto",
    device_map: Annotated[
        str | None, typer.Option(help="As in transformers: auto, cuda:1.")
    ] = None,
    trust_remote_code: Annotated[
        bool, typer.Option("--trust-remote-code", help="Run code that comes with the models.")
    ] = False,
    one_at_a_time: Annotated[
        bool, typer.Option("--one-at-a-time", help="Never hold both models in memory.")
    ] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with a killed run.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    seed: Annotated[int, typer.Option(min=0, help="Decides the random prompts.")] = 0,
) -> None:
    """Estimate the mean logit shift of a safety step on random prompts, and examine it.

    Example: tsdi estimate org/aligned org/reference --out my-bias --pool mmlu
    """
    if not diagnosis and any((harmless, harmful, phrases)):
        raise UsageError(
            "--harmless, --harmful and --phrases are for the diagnosis.",
            "Leave out --no-diagnosis.",
        )
    _check_folder(out, resume)
    from tsdi.bias import Estimation, TokenPool, estimate_bias
    from tsdi.bias.diagnosis import check_lengths
    from tsdi.bias.refusal_log_odds import ENGLISH, phrase_ids, read_phrases
    from tsdi.models.load import LoadOptions
    from tsdi.models.shipped import resolve_dtype, resolve_model
    from tsdi.models.sides import load_pair

    console.quiet_libraries()
    chat_format = read_chat_format(prompt_format, template_arg)
    options = LoadOptions(resolve_dtype(aligned, dtype), device_map, trust_remote_code)
    folders = resolve_model(aligned), resolve_model(reference)
    _check_order(*folders)
    tokenizer = _tokenizer(*folders, options, chat_format)
    asked = {"harmless": _of_kind("harmless", harmless, columns, seed)}
    asked["harmful"] = _of_kind("harmful", harmful, columns, seed)
    real = _real_prompts(tokenizer, chat_format, anchor, asked)
    openers = ENGLISH if phrases is None else read_phrases(phrases)
    for texts in (openers.refusing, openers.complying):
        phrase_ids(tokenizer, texts)  # what is wrong with them is said before the long work
    drawn = TokenPool.from_name(pool, tokenizer)
    sides = load_pair(*folders, options, one_at_a_time=one_at_a_time)
    sides = replace(sides[0], name=aligned), replace(sides[1], name=reference)
    if sides[0].loaded:  # what does not fit is said before the long work
        with sides[0].open() as model:
            check_lengths(model, [(k, ids) for k, rows in real.items() for ids in rows], steps)
    done = 0
    with console.bar("estimate") as update:

        def progress(more: int) -> None:
            nonlocal done
            done += more
            update("estimate", done, 2 * prompts)

        bias = estimate_bias(
            *sides,
            tokenizer,
            Estimation(
                prompts=prompts,
                steps=steps,
                seed=seed,
                pool=drawn,
                prompt_tokens=prompt_tokens,
                target_error=target_error,
                chat=chat_format,
                anchor=anchor,
            ),
            batch_size=batch_size,
            checkpoints=out,
            progress=progress,
        )
    if diagnosis:
        bias = _examined(bias, sides, tokenizer, drawn, real, openers, batch_size)
    bias.save_pretrained(out)
    for partial in _partial(out):
        partial.unlink(missing_ok=True)
    _show(bias, tokenizer, out, json)


def _examined(
    bias: "SafetyBias",
    sides: "tuple[Side, Side]",
    tokenizer: "PreTrainedTokenizerBase",
    pool: "TokenPool",
    real: dict[str, list[list[int]]],
    openers: "Phrases",
    batch_size: int,
) -> "SafetyBias":
    """The bias with its diagnosis, under a bar of its own, as its prompts take another time."""
    from tsdi.bias import Examination, recommend
    from tsdi.bias.diagnosis import RANDOM_PROMPTS

    done, total = 0, sum(map(len, real.values())) + RANDOM_PROMPTS
    with console.bar("diagnose") as update:

        def progress(more: int) -> None:
            nonlocal done
            done += more
            update("diagnose", done, total)

        return recommend(
            bias,
            *sides,
            tokenizer,
            Examination(pool, real, phrases=openers),
            batch_size=batch_size,
            progress=progress,
        )


def _partial(out: Path) -> list[Path]:
    return [out / f"partial-{side}.safetensors" for side in ("aligned", "reference")]


def _check_folder(out: Path, resume: bool) -> None:
    if out.exists() and not out.is_dir():
        raise UsageError(f"{out} is a file.", "Give a folder as --out.")
    frame.hold(working_in(out))
    if (out / RESULT_FILE).exists():
        raise RunExistsError(f"{out} already holds a finished bias.", "Give another --out.")
    if not is_unused(out):
        if not resume:
            remedy = "Give another --out, or --resume a killed run."
            raise RunExistsError(f"{out} is in use.", remedy)
        # Killed at its very end, a run leaves tensors without their config.
        if not any(file.exists() for file in [*_partial(out), out / "bias.safetensors"]):
            raise RunExistsError(f"{out} holds other files and no estimate.", "Give another --out.")


def _check_order(aligned: str, reference: str) -> None:
    """Refuse a model as its own reference; note where the two seem to be exchanged."""
    from tsdi.models.load import adapter_base
    from tsdi.models.sides import same_model

    if same_model(aligned, reference):
        raise UsageError(
            f"Both are {aligned}: no safety step lies between them.",
            "Name the model after it, then the one before it.",
        )
    base = adapter_base(reference)
    if base is not None and same_model(base, aligned):
        console.note(
            "The reference is an adapter on the aligned model. If the safety step made the adapter,"
            " the two are exchanged: the aligned model comes first."
        )


def _tokenizer(
    aligned: str, reference: str, options: "LoadOptions", chat_format: "ChatFormat"
) -> "PreTrainedTokenizerBase":
    from tsdi.models.chat import check_format, describe_format
    from tsdi.models.compatibility import check_same_tokenizer
    from tsdi.models.load import load_tokenizer

    tokenizer, other = (load_tokenizer(name, options) for name in (aligned, reference))
    check_same_tokenizer(tokenizer, other)
    check_format(tokenizer, chat_format)
    if tokenizer.chat_template is None:
        console.note(f"Random prompts stand in {describe_format(tokenizer, chat_format)}.")
    elif (
        other.chat_template not in (None, tokenizer.chat_template)
        and chat_format.prompt_format is None
    ):
        console.note("The two chat templates differ; both models get the aligned model's.")
    return tokenizer


def _of_kind(kind: str, name: str | None, columns: str, seed: int) -> "list[Prompt]":
    """The prompts of a file or suite that are of a kind; those without one are taken for it."""
    from tsdi.suites.load import PromptSource, load_prompts

    if name is None:
        return []
    every = load_prompts(PromptSource(name, columns), seed, kind).prompts
    kept = [prompt for prompt in every if prompt.kind in _TAKEN[kind]]
    if not kept:
        raise PromptError(
            f"--{kind} {name}: none of its {len(every)} prompts is {' or '.join(_TAKEN[kind])}.",
            "Name other prompts, or mend their kinds.",
        )
    left = f"; {len(every) - len(kept)} of another kind are left out" if kept != every else ""
    console.note(f"--{kind} {name}: {len(kept)} prompts{left}.")
    return kept


def _real_prompts(
    tokenizer: "PreTrainedTokenizerBase",
    chat_format: "ChatFormat",
    anchor: str,
    asked: "dict[str, list[Prompt]]",
) -> dict[str, list[list[int]]]:
    """Real prompts as token ids, by kind, and by kind and category where there are categories."""
    from tsdi.decoding.anchor import anchor_ids
    from tsdi.models.chat import encode_chat

    kinds: dict[str, list[list[int]]] = {}
    for kind, prompts in asked.items():
        for prompt in prompts:
            ids = encode_chat(tokenizer, prompt.messages, chat_format)
            name = f"{kind}/{prompt.category}" if prompt.category else kind
            kinds.setdefault(name, []).append(ids + anchor_ids(tokenizer, anchor))
    return kinds


def _show(bias: "SafetyBias", tokenizer: "PreTrainedTokenizerBase", out: Path, json: bool) -> None:
    from tsdi.bias.diagnosis import shifted_tokens
    from tsdi.cli.show import summary, to_dict, tokens_table

    promoted, demoted = (
        shifted_tokens(bias, tokenizer, largest=largest, number=4) for largest in (True, False)
    )
    if json:
        console.show_json({"out": str(out), **to_dict(bias, promoted, demoted)})
        return
    console.out.print(tokens_table(promoted[:3], demoted[:3], bias.steps))
    console.say(summary(bias))
    strength = " --strength 1" if bias.info.strength is None else ""  # nothing is recommended
    console.say(f"Saved in {out}. Next: tsdi generate MODEL --bias {out}{strength} --prompt '...'")
