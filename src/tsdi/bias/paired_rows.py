"""What both models know along the same tokens: the rows that a slope is fitted to."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from tsdi.bias import lm_head as head
from tsdi.bias.random_prompts import RandomPrompts
from tsdi.decoding.ends import end_ids, until_end
from tsdi.decoding.greedy import generate_greedily, ignores_mask
from tsdi.errors import ModelError, NumericalError, PromptError
from tsdi.models.sides import Side

LEAST_PROMPTS = 16
"""At a step, for it to be fitted."""


@dataclass(frozen=True)
class LabelledIds:
    """Real prompts as token ids, template included.

    Attributes:
        harmless: On which the reference shows what to answer; lookalikes count.
        harmful: On which nothing is to change.
    """

    harmless: Sequence[list[int]] = field(repr=False)
    harmful: Sequence[list[int]] = field(repr=False)

    def __post_init__(self) -> None:
        for kind in ("harmless", "harmful"):
            if (number := len(getattr(self, kind))) < LEAST_PROMPTS:
                raise PromptError(
                    f"A slope needs at least {LEAST_PROMPTS} {kind} prompts, not {number}.",
                    "About a hundred of each kind do.",
                )


@dataclass(frozen=True)
class Rows:
    """Head inputs of both models at the steps of every prompt.

    Attributes:
        aligned: float32 [prompts, steps, hidden].
        reference: float32 [prompts, steps, the reference's hidden].
        inside: Which steps an answer has, bool [prompts, steps].
        moves: At which prompts the aligned model is to be moved to the reference, bool [prompts];
            at the others it is to stay.
    """

    aligned: Tensor
    reference: Tensor
    inside: Tensor
    moves: Tensor

    def __post_init__(self) -> None:
        for name in ("aligned", "reference"):
            if not bool(getattr(self, name).isfinite().all()):
                raise NumericalError(
                    f"The {name} model gives NaN or infinite numbers on the prompts of a slope.",
                    "Check its weights, or load it in float32 or bfloat16.",
                )

    def at(self, some: Tensor) -> "Rows":
        """Some of the prompts, by their numbers or by bool [prompts]."""
        parts = (self.aligned, self.reference, self.inside, self.moves)
        return Rows(*(part[some] for part in parts))


def random_rows(
    aligned: Side,
    reference: Side,
    prompts: RandomPrompts,
    number: int,
    batch_size: int,
    progress: Callable[[int], None],
) -> Rows:
    """Rows of random prompts and responses."""

    def inputs(side: Side) -> Tensor:
        found = []
        with side.open() as model:
            _check_linear(model, prompts.ids(0, 2), prompts.steps)
            for start in range(0, number, batch_size):
                ids = prompts.ids(start, min(number, start + batch_size))
                found.append(head.head_inputs(model, ids, prompts.steps).float().cpu())
                progress(len(ids))
        return torch.cat(found)

    one, other = inputs(aligned), inputs(reference)
    everywhere = torch.ones(one.shape[:2], dtype=torch.bool)
    return Rows(one, other, everywhere, everywhere[:, 0])


def labelled_rows(
    aligned: Side,
    reference: Side,
    tokenizer: PreTrainedTokenizerBase,
    prompts: LabelledIds,
    steps: int,
    batch_size: int,
    progress: Callable[[int], None],
) -> Rows:
    """Rows of real prompts, along the greedy answers of the model that is right about them.

    That is the reference on harmless prompts, and the aligned model on harmful ones.
    """
    asked = [*prompts.harmless, *prompts.harmful]
    with reference.open() as model:
        answers = _answers(model, tokenizer, prompts.harmless, steps, batch_size, progress)
    with aligned.open() as model:
        answers += _answers(model, tokenizer, prompts.harmful, steps, batch_size, progress)
    found = []
    for side in (aligned, reference):
        with side.open() as model:
            shortest = min(map(len, asked))
            _check_linear(model, torch.tensor([row[-shortest:] for row in asked[:2]]), 1)
            found.append(_along(model, asked, answers, steps, batch_size, progress))
    lengths = torch.tensor([len(answer) for answer in answers])
    inside = torch.arange(steps) < lengths[:, None]
    one, other = found
    return Rows(one, other, inside, torch.arange(len(asked)) < len(prompts.harmless))


def _answers(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[list[int]],
    steps: int,
    batch_size: int,
    progress: Callable[[int], None],
) -> list[list[int]]:
    """The most likely answers of at most so many tokens, their ends included."""
    ends = end_ids(tokenizer, model.generation_config, model.config)
    answers: list[list[int]] = [[] for _ in prompts]
    for numbers in _batches(prompts, 1 if ignores_mask(model) else batch_size):
        rows, _ = generate_greedily(model, tokenizer, [prompts[n] for n in numbers], steps)
        for n, row in zip(numbers, rows, strict=True):
            answers[n] = until_end(row, ends)
        progress(len(numbers))
    return answers


def _along(
    model: PreTrainedModel,
    prompts: Sequence[list[int]],
    answers: Sequence[list[int]],
    steps: int,
    batch_size: int,
    progress: Callable[[int], None],
) -> Tensor:
    """Head inputs that predict the tokens of every answer, float32 [prompts, steps, hidden].

    A model sees nothing behind a position, so rows are filled up on the right.
    """
    texts = [[*prompt, *answer[:-1]] for prompt, answer in zip(prompts, answers, strict=True)]
    found: dict[int, Tensor] = {}
    for numbers in _batches(texts, batch_size):
        ids = pad_sequence([torch.tensor(texts[n]) for n in numbers], batch_first=True)
        inputs = head.head_inputs(model, ids, ids.shape[1]).float().cpu()
        for n, row in zip(numbers, inputs, strict=True):
            begin = len(prompts[n]) - 1
            kept = row[begin : begin + len(answers[n])]
            found[n] = torch.nn.functional.pad(kept, (0, 0, 0, steps - len(kept)))
        progress(len(numbers))
    return torch.stack([found[n] for n in range(len(prompts))])


def _batches(texts: Sequence[list[int]], size: int) -> Iterator[list[int]]:
    order = sorted(range(len(texts)), key=lambda n: len(texts[n]))  # alike lengths pad little
    for start in range(0, len(order), size):
        yield order[start : start + size]


def _check_linear(model: PreTrainedModel, ids: Tensor, steps: int) -> None:
    if not head.is_linear(model, ids, steps):
        raise ModelError(
            "A slope is a linear function of logits, and a model's logits are not linear in the"
            " input of its output layer (they are capped, or there is no such layer).",
            "Take --order 0.",
        )
