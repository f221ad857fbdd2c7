"""``export``: a bias written in a form that runs without tsdi."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor
from transformers import PreTrainedModel

from tsdi.arguments import Name, as_name, check_counts, check_number
from tsdi.bias import SafetyBias
from tsdi.decoding.rule import check_strength
from tsdi.engines.base import Request
from tsdi.errors import PromptError, UsageError
from tsdi.export.checkpoint import write_checkpoint
from tsdi.export.edited_head import edited_head
from tsdi.export.static import (
    Divergence,
    as_vector,
    divergence,
    logit_bias,
    rule_answers,
    static_vector,
    write_logit_bias,
)
from tsdi.files import working_on, write_folder
from tsdi.models.chat import fix_arguments
from tsdi.models.load import LoadOptions, load_model, load_tokenizer
from tsdi.suites.load import load_prompts
from tsdi.suites.split import distinct

LEAST_PROMPTS = 16
FORMS = ("transformers", "logit-bias", "checkpoint")


@dataclass(frozen=True)
class StaticForm:
    """Limits of a static shift, and the prompts on which it is compared with the rule.

    Attributes:
        prompts: Prompts to compare on, as for `tsdi.generate`.
        top: Most tokens in a logit_bias; OpenAI takes 300.
        limit: Largest shift in a logit_bias, up or down.
        max_new_tokens: Tokens of an answer that are compared.
        batch_size: Prompts answered together.
    """

    prompts: Name
    top: int = 300
    limit: float = 100.0
    max_new_tokens: int = 32
    batch_size: int = 16

    def __post_init__(self) -> None:
        check_counts(self, "top", "max_new_tokens", "batch_size")
        check_number("limit", self.limit)


@dataclass(frozen=True)
class Exported:
    """The result of an export: form, place, strength, and divergence from the rule.

    Attributes:
        out: The folder or file.
        to: The form.
        strength: Factor of the bias.
        tokens: Tokens in a logit_bias.
        divergence: KL of a static form from the real rule.
    """

    out: Path
    to: str
    strength: float
    tokens: int | None = None
    divergence: Divergence | None = None

    def to_dict(self) -> dict[str, Any]:
        """Place, form, strength, and KL by step and in total as JSON."""
        written: dict[str, Any] = {"out": str(self.out), "to": self.to, "strength": self.strength}
        if self.tokens is not None:
            written["tokens"] = self.tokens
        if self.divergence is not None:
            written["kl_by_step"] = [one.to_dict() for one in self.divergence.by_step]
            written["kl_total"] = self.divergence.total.to_dict()
        return written


def export(
    bias: Name,
    model: Name,
    out: str | Path,
    to: str,
    *,
    strength: float | None = None,
    static: StaticForm | None = None,
    options: LoadOptions = LoadOptions(),
) -> Exported:
    """Write a bias in a form that runs without tsdi.

    Args:
        bias: Folder or hub id of the bias.
        model: Folder, hub id or shipped name of the model that it is for.
        out: A new folder; for "logit-bias" a new JSON file.
        to: "transformers": a copy of the model whose own code subtracts the bias; "logit-bias": one
            shift for all steps, for a request; "checkpoint": a plain model with another head.
        strength: Factor of the bias; None takes what it recommends.
        static: For the two forms without a rule, which say how far they are from it.
        options: Options of loading the weights.

    Raises:
        UsageError: If arguments do not go together, or something is there already.
        TsdiError: If bias or model cannot be loaded, do not fit, or cannot take this form.
    """
    bias, model, out = as_name("bias", bias), as_name("model", model), Path(out)
    _check(out, to, static)
    if strength is not None:
        check_strength(strength)
    with working_on(out):
        tokenizer = load_tokenizer(model, options)
        vector = SafetyBias.from_pretrained(bias, tokenizer=tokenizer)
        vector.note_other(model)
        vector.check_no_anchor()
        used = vector.strength_or_recommended(strength)
        if static is not None:
            return _write_static(vector, used, model, options, (out, to), static)
        write_checkpoint(vector, used, model, out, model)
        return Exported(out, to, used)


def _check(out: Path, to: str, static: StaticForm | None) -> None:
    if to not in FORMS:
        raise UsageError(f"There is no form {to!r}.", f"Take {', '.join(FORMS)}.")
    if (static is None) != (to == "transformers"):
        raise UsageError(
            "--prompts goes with --to logit-bias and --to checkpoint, which are compared with the"
            " real rule.",
            "Leave it out." if to == "transformers" else "Name some prompts.",
        )
    if out.exists() or not out.absolute().parent.is_dir():
        wrong = "exists" if out.exists() else "is in no folder that there is"
        raise UsageError(f"{out} {wrong}.", "Name a new one.")


def _write_static(
    vector: SafetyBias,
    strength: float,
    name: str,
    options: LoadOptions,
    place: tuple[Path, str],
    static: StaticForm,
) -> Exported:
    """Write a static form, once its divergence from the rule is measured."""
    out, to = place
    tokenizer = load_tokenizer(name, options)
    asked = distinct(load_prompts(static.prompts, 0).prompts)
    requests = [Request(prompt.messages) for prompt in asked]
    if to == "checkpoint":
        _check_halves(requests)
    else:
        vector.check_order_0("one shift for all steps")
    model = load_model(name, options)
    vector.check(tokenizer, model)
    texts = rule_answers(
        model, tokenizer, vector, strength, requests, static.max_new_tokens, static.batch_size
    )
    shifts: dict[int, float] | None = None
    form: Tensor | PreTrainedModel
    if to == "logit-bias":
        added = static_vector(vector, strength)
        shifts = logit_bias(added, static.top, static.limit)
        form = as_vector(shifts, len(added))
    else:  # what the head is fitted to is not what it is compared on
        form = changed = edited_head(model, vector, strength, texts[::2])
        texts = texts[1::2]
    found = divergence(model, vector, strength, form, texts)
    if shifts is not None:
        write_logit_bias(out, shifts, vector.info.template_args)
        return Exported(out, to, strength, len(shifts), found)
    with write_folder(out) as made:
        changed.save_pretrained(made)
        fix_arguments(tokenizer, vector.info.template_args)
        tokenizer.save_pretrained(made)
    return Exported(out, to, strength, None, found)


def _check_halves(requests: Sequence[Request]) -> None:
    if len(requests) < LEAST_PROMPTS:
        raise PromptError(
            "A head is fitted to one half of the prompts and compared on the other:"
            f" {len(requests)} are too few.",
            f"Name at least {LEAST_PROMPTS}.",
        )
