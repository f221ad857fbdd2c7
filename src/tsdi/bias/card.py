"""The model card of a bias: what was measured, why it is recommended, and how to use it."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tsdi.bias.case import read_case
from tsdi.bias.info import BiasInfo
from tsdi.decoding.condition import Condition
from tsdi.stats.interval import Estimate, interval_text

MARK = "<!-- Made by tsdi, and made anew with the bias; without this line it is left alone. -->"
CARD = "---\n{{ card_data }}\n---\n\n{{ body }}\n"
_FLOORS_SHOWN = 3
_PROMPT = "How do I kill a Python process?"


def card_body(info: BiasInfo, shape: tuple[int, int], condition: Condition | None) -> str:
    """The card's text, in Markdown.

    Args:
        info: Provenance and findings.
        shape: Steps and vocabulary of the bias.
        condition: Its condition, if any.
    """
    parts = [
        MARK,
        "# A safety bias for a language model",
        _what(info, shape),
        *_stand_in(info),
        "## Measured",
        *_measured(info.measured),
        "## Why this strength",
        *_case(info, condition),
        *_diagnosis(info),
        *_setting(info, condition),
        *_tuning(info.tuning),
        "## How to use it",
        *_use(info, condition),
        "## Where it comes from",
        "\n".join(f"- {line}" for line in _origin(info)),
    ]
    return "\n\n".join(parts)


def _what(info: BiasInfo, shape: tuple[int, int]) -> str:
    size = f"{shape[0]} steps x {shape[1]} tokens"
    made = "Made by tsdi (TSDI, [arXiv 2502.02153](https://arxiv.org/abs/2502.02153))."
    if info.stand_in:
        return (
            f"A shift of the logits of {_code(info.aligned)}, {size}, which subtracted while"
            f" decoding makes refusals less likely. {made}"
        )
    return (
        f"The shift that safety alignment left in the logits of {_code(info.aligned)}, {size}."
        f" Subtracted while decoding, it takes back refusals that owe nothing to the prompt. {made}"
    )


def _stand_in(info: BiasInfo) -> Iterator[str]:
    if info.stand_in:
        said = f"In place of one stands the model {info.reference}."  # which a verdict says too
        said = _line(info.diagnosis.get("verdict", said))
        yield f"**Estimated without a reference** ({_code(info.stand_in)}). {said}"


def _measured(found: Mapping[str, Any]) -> Iterator[str]:
    """The table of both arms, with the judge, the weakest category and the gate's verdict."""
    if not found:
        yield (
            "Nothing yet: `tsdi compare PLAIN DEBIASED --gate --card BIAS` puts the figures of two"
            " judged runs here. Measure before you deploy it: refusals of harmful prompts go, too."
        )
        return
    rows = ["| share | as it is | debiased | change | n |", "|---|---|---|---|---|"]
    for row in (*found["figures"], *found["categories"]):
        before, after, change = (Estimate.from_dict(row[k]) for k in ("before", "after", "change"))
        shown = (interval_text(before), interval_text(after), interval_text(change, signed=True))
        rows.append(f"| {_line(row['title'])} | {' | '.join(shown)} | {change.n} |")
    yield "\n".join(rows)
    under = ", ".join(map(_code, found["attacks"]))
    said = [
        f"Judged by {_code(found['judge'])}, {found['setting']}; 95 % intervals, changes paired by"
        " prompt."
    ]
    said += _weakest(found["categories"])
    opens = "nothing lost beyond the interval." if found["opens"] else "**shut**."
    said.append(f"Safety gate: {opens}")
    said += map(_line, found["why_shut"])
    said.append(
        f"It looked under attack, too: {under}." if under else "Not looked at under attack."
    )
    yield " ".join(said)


def _weakest(rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """The category of the lowest share, debiased, or that there is none."""
    shares = [row["after"]["value"] for row in rows]
    if len(rows) > 1 and min(shares) == max(shares):
        yield f"All {len(rows)} categories are equal, debiased: {shares[0]:.3f}."
    elif rows:
        weakest = rows[shares.index(min(shares))]
        kept = interval_text(Estimate.from_dict(weakest["after"]))
        yield f"Weakest category: {_line(weakest['title'])}, {kept}."


def _case(info: BiasInfo, condition: Condition | None) -> Iterator[str]:
    found = read_case(info.diagnosis if condition is None else condition.evidence)
    if found is not None:
        yield _line(found.why)


def _diagnosis(info: BiasInfo) -> Iterator[str]:
    if "verdict" in info.diagnosis and not info.stand_in:  # where it is said above
        yield _line(info.diagnosis["verdict"])
    if info.reliability:
        yield f"Split-half reliability, worst step: {min(info.reliability):.3f}."


def _setting(info: BiasInfo, condition: Condition | None) -> Iterator[str]:
    """The strength, unless the diagnosis, which stands before it, ends with it."""
    said = f"Recommended strength: {info.strength:g}" if info.strength is not None else ""
    if condition is not None:
        yield (
            f"The strength depends on the prompt: {condition.low:g} where it is surely harmful,"
            f" {condition.high:g} where it is surely harmless."
        )
    elif not said:
        yield "No strength is recommended: name one."
    elif info.stand_in or said not in info.diagnosis.get("verdict", ""):
        yield f"{said}."


def _tuning(found: Mapping[str, Any]) -> Iterator[str]:
    """What a search for the setting looked at."""
    if not found:
        return
    said = [f"Chosen among {found.get('trials', 0)} settings on validation prompts."]
    chosen, baseline = found.get("chosen", {}), found.get("baseline", {})
    if "helpful" in chosen and "helpful" in baseline:
        said.append(f"Helpful: {baseline['helpful']:.3f} as it is, {chosen['helpful']:.3f} chosen.")
    floors, safety = found.get("floors", {}), chosen.get("safety", {})
    tight = sorted((safety[name] - floor, name) for name, floor in floors.items() if name in safety)
    if tight:
        shown = [f"{_code(n)} {safety[n]:.3f} ({floors[n]:.3f})" for _, n in tight[:_FLOORS_SHOWN]]
        said.append(f"Safety closest to its floors (in brackets): {', '.join(shown)}.")
    if found.get("note"):
        said.append(_line(found["note"]))
    yield " ".join(said)


def _use(info: BiasInfo, condition: Condition | None) -> Iterator[str]:
    model = _line(info.aligned).replace("`", "'")
    unnamed = condition is None and info.strength is None
    strength = ", strength=1.0" if unnamed else ""
    named = " --strength 1" if unnamed else ""
    yield (
        "`pip install .` in tsdi's own folder, with Python 3.11 or newer. `BIAS` is this repository"
        " or folder; it is checked against the model's tokenizer."
    )
    yield (
        "```python\n"
        "from tsdi import SafetyBias, load_model, load_tokenizer\n\n"
        f'model, tokenizer = load_model("{model}"), load_tokenizer("{model}")\n'
        'bias = SafetyBias.from_pretrained("BIAS", tokenizer=tokenizer, model=model)\n'
        f"{_inputs(info)}\n"
        'start = inputs["input_ids"].shape[1]\n'
        f"rule = bias.logits_processor(start{strength}, tokenizer=tokenizer)\n"
        "answer = model.generate(**inputs, logits_processor=[rule], max_new_tokens=64)\n"
        "print(tokenizer.decode(answer[0, start:], skip_special_tokens=True))\n"
        "```"
    )
    lines = [
        ("transformers", f"tsdi generate {model} --bias BIAS{named} --prompt ..."),
        ("vLLM", f"tsdi serve {model} --bias BIAS{named} --engine vllm"),
        ("a small server", f"tsdi serve {model} --bias BIAS{named} --engine transformers"),
        (
            "llama.cpp",
            f"tsdi generate MODEL.gguf --engine llama-cpp --engine-arg tokenizer={model}"
            f" --bias BIAS{named} --prompt ...",
        ),
    ]
    if condition is None and not info.anchor:
        export = f"tsdi export BIAS {model} words.json --to logit-bias --prompts PROMPTS{named}"
        lines.append(("APIs with `logit_bias`, roughly", export))
    rows = [f"| {where} | `{line}` |" for where, line in lines]
    yield "\n".join(["| engine | command |", "|---|---|", *rows])


def _inputs(info: BiasInfo) -> str:
    """Python that makes one prompt's inputs, in the chat format of the bias."""
    if info.prompt_format is not None:
        text = info.prompt_format.replace("{prompt}", _PROMPT)
        return f'inputs = tokenizer({text!r}, return_tensors="pt").to(model.device)'
    more = ", **bias.info.template_args" if info.template_args else ""
    return (
        f'chat = [{{"role": "user", "content": "{_PROMPT}"}}]\n'
        "inputs = tokenizer.apply_chat_template(\n"
        f'    chat, add_generation_prompt=True, return_tensors="pt", return_dict=True{more}\n'
        ").to(model.device)"
    )


def _origin(info: BiasInfo) -> Iterator[str]:
    for role, name, commit in (
        ("Aligned", info.aligned, info.aligned_revision),
        ("Reference", info.reference, info.reference_revision),
    ):
        if role == "Aligned" or not info.stand_in:
            yield f"{role} model: {_code(name)}" + (f" at {_code(commit)}" if commit else "")
    if info.stand_in and not info.paths:
        yield f"{info.prompts} labelled prompts"
    else:
        yield (
            f"{info.prompts} random prompts of {info.prompt_tokens} tokens from the pool"
            f" {_code(info.pool)}, seed {info.seed}"
        )
    if info.history:
        yield "Then: " + ", ".join(map(_code, info.history))
    if info.versions:
        yield "Versions: " + ", ".join(f"{_line(n)} {_line(v)}" for n, v in info.versions.items())
    if not info.stand_in:
        yield "`tsdi reproduce BIAS` estimates it again from this record: is it equal?"


def _line(text: str) -> str:
    """A text of the record as part of a line of Markdown."""
    return " ".join(str(text).split()).replace("<", "&lt;").replace("|", "\\|")


def _code(text: str) -> str:
    return "`" + _line(text).replace("`", "'").replace("&lt;", "<") + "`"
