"""Labelled prompts, and the input of a model's head at the end of each."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from tsdi.bias import lm_head as head
from tsdi.bias.accumulate import Progress
from tsdi.bias.examination import check_lengths
from tsdi.bias.read_prompts import PromptReader
from tsdi.bias.refusal_log_odds import Phrases, phrase_ids, refusal_log_odds
from tsdi.condition.discriminant import check_labels
from tsdi.errors import ModelError, NumericalError, PromptError, UsageError
from tsdi.models.compatibility import vocabulary_width
from tsdi.stats.clusters import chained


@dataclass(frozen=True)
class Labelled:
    """A prompt that is known to be harmful or harmless.

    Attributes:
        ids: Its token ids, template included.
        harmful: Whether it is; a lookalike is harmless.
        category: Its safety category, such as "O3"; may be empty.
        group: Prompts that are nearly copies, such as those of one suite's type, have one name
            here: none of them is held out while others are fitted to. Empty: it has no copies.
        attack: Name of the attack that it is under; empty for none.
    """

    ids: Sequence[int]
    harmful: bool
    category: str = ""
    group: str = ""
    attack: str = ""

    def __post_init__(self) -> None:
        if not isinstance(self.harmful, bool):
            raise UsageError(f"A label is True or False, not {self.harmful!r}.", "Give either.")
        if not self.ids or not all(type(one) is int and one >= 0 for one in self.ids):
            raise UsageError(
                f"A labelled prompt has token ids, not {str(self.ids)[:40]!r}.",
                "Encode it with the model's tokenizer and chat template.",
            )


@dataclass(frozen=True)
class HeadInputs:
    """Head inputs at the end of labelled prompts, with labels and refusal log-odds.

    Attributes:
        inputs: The head's inputs, float64 [prompts, hidden].
        harmful: Whether each prompt is harmful, bool [prompts].
        log_odds: Refusal log-odds (`tsdi.bias.refusal_log_odds`), float64 [prompts].
        categories: Category of every prompt; may be empty.
        groups: Group of every prompt.
        attacks: Attack of every prompt, "" for none; empty where there are no attacks.

    Raises:
        NumericalError: If there are NaN or infinite numbers.
    """

    inputs: Tensor
    harmful: Tensor
    log_odds: Tensor
    categories: Sequence[str] = field(repr=False)
    groups: Sequence[str] = field(repr=False)
    attacks: Sequence[str] = field(default=(), repr=False)

    def __post_init__(self) -> None:
        if not bool(self.inputs.isfinite().all() and self.log_odds.isfinite().all()):
            raise _not_finite()

    def at(self, kept: Tensor) -> "HeadInputs":
        """The inputs of the prompts that a mask selects, bool [prompts]."""
        numbers = kept.nonzero()[:, 0].tolist()
        return HeadInputs(
            self.inputs[kept],
            self.harmful[kept],
            self.log_odds[kept],
            [self.categories[n] for n in numbers],
            [self.groups[n] for n in numbers],
            [self.attacks[n] for n in numbers] if self.attacks else (),
        )

    def under(self, attack: str) -> Tensor:
        """A mask of the prompts under an attack ("" is none), bool [prompts]."""
        return torch.tensor([one == attack for one in self.attacks or [""] * len(self.harmful)])


def read_labelled(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[Labelled],
    phrases: Phrases,
    *,
    batch_size: int,
    progress: Progress | None = None,
) -> HeadInputs:
    """Head inputs and refusal log-odds of labelled prompts, one forward pass each.

    Args:
        model: The aligned model.
        tokenizer: Its tokenizer.
        prompts: Prompts of both kinds.
        phrases: Beginnings of refusing and complying answers, for the refusal log-odds.
        batch_size: Prompts read together; halved where memory runs out.
        progress: Called with the number of prompts that have just been read.

    Raises:
        PromptError: If there are too few prompts of a kind, one prompt is of both, or one does not
            fit the context.
        ModelError: If the model's logits are not linear in the input of its head.
        NumericalError: If the model gives NaN or infinite numbers.
    """
    _check_labelled(model, prompts)
    harmful = torch.tensor([prompt.harmful for prompt in prompts], dtype=torch.bool)
    check_labels(harmful)
    _check_one_kind_each(prompts)
    refusing = phrase_ids(tokenizer, phrases.refusing)
    complying = phrase_ids(tokenizer, phrases.complying)
    reader = PromptReader(tokenizer, refusing, complying, 1, batch_size)
    rows = [list(prompt.ids) for prompt in prompts]
    check_lengths(model, [("labelled", row) for row in rows], reader.longest)
    _check_linear(model, rows)
    order = sorted(range(len(rows)), key=lambda n: len(rows[n]))  # alike lengths pad little
    found: dict[int, tuple[Tensor, float]] = {}
    reads = _read(model, [rows[n] for n in order], reader)
    for n, one in zip(order, reads, strict=True):
        found[n] = one
        if progress is not None:
            progress(1)
    inputs, odds = zip(*(found[n] for n in range(len(rows))), strict=True)
    return HeadInputs(
        torch.stack(inputs).double(),
        harmful,
        torch.tensor(odds, dtype=torch.float64),
        [prompt.category for prompt in prompts],
        _groups(prompts),
        [prompt.attack for prompt in prompts],
    )


def _read(
    model: PreTrainedModel, rows: list[list[int]], reader: PromptReader
) -> Iterator[tuple[Tensor, float]]:
    """Head input at the end of every prompt, and its refusal log-odds, in order."""
    if reader.can_batch(model, rows):
        answers = [[0]] * len(rows)  # nothing is asked for beyond the first token's logits
        for found in reader.read(model, rows, answers, (None,), batched=True):
            assert found.inputs is not None
            yield found.inputs, found.odds[0]
        return
    for row in rows:
        (odds,) = refusal_log_odds(model, row, reader.refusing, reader.complying, (None,))
        yield head.head_inputs(model, torch.tensor([row]), 1)[0, 0].cpu(), odds


def _groups(prompts: Sequence[Labelled]) -> list[str]:
    """The group of every prompt: those that share a group or their ids, in any chain."""
    return chained(
        [[str(list(p.ids)), *([f"group {p.group}"] if p.group else [])] for p in prompts]
    )


def _check_labelled(model: PreTrainedModel, prompts: Sequence[Labelled]) -> None:
    if not all(isinstance(one, Labelled) for one in prompts):
        raise UsageError(
            "Something among the labelled prompts is no `Labelled`.", "Make them of token ids."
        )
    width = vocabulary_width(model)
    for number, prompt in enumerate(prompts, start=1):
        if max(prompt.ids) >= width:
            raise PromptError(
                f"Labelled prompt {number} has token {max(prompt.ids)}, and the model {width}.",
                "Encode it with the model's own tokenizer.",
            )


def _check_one_kind_each(prompts: Sequence[Labelled]) -> None:
    kinds = {kind: {tuple(p.ids) for p in prompts if p.harmful == kind} for kind in (True, False)}
    if both := kinds[True] & kinds[False]:
        number = next(n for n, prompt in enumerate(prompts, start=1) if tuple(prompt.ids) in both)
        raise PromptError(
            f"{len(both)} prompts are both harmful and harmless, the first is number {number}.",
            "Label each prompt once.",
        )


def _check_linear(model: PreTrainedModel, rows: Sequence[list[int]]) -> None:
    shortest = min(map(len, rows))
    some = torch.tensor([row[-shortest:] for row in rows[:2]])
    if head.is_linear(model, some, 1):
        return
    if not bool(head.native_logits(model, some, 1).isfinite().all()):
        raise _not_finite()
    raise ModelError(
        "A condition is a linear function of logits, and this model's logits are not linear in the"
        " input of its output layer (they are capped, or there is no such layer).",
        "Take another model.",
    )


def _not_finite() -> NumericalError:
    return NumericalError(
        "The model gives NaN or infinite numbers at the end of a prompt.",
        "Check its weights, or load it in float32.",
    )
