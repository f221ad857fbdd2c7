"""Head inputs of both models along the same tokens, to which a slope is fitted."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from accelerate.utils.memory import clear_device_cache, should_reduce_batch_size
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from tsdi.bias import lm_head as head
from tsdi.bias.accumulate import Progress
from tsdi.bias.examination import check_lengths
from tsdi.bias.first_order.labelled import LabelledIds
from tsdi.bias.random_prompts import RandomPrompts
from tsdi.decoding.end_tokens import end_ids, until_end
from tsdi.decoding.greedy import generate_greedily, ignores_mask
from tsdi.errors import ModelError, NumericalError, PromptError
from tsdi.models.chat import prompt_sha256
from tsdi.models.compatibility import vocabulary_width
from tsdi.models.sides import Side

Batch = list[int]
"""Numbers of prompts."""


@dataclass(frozen=True)
class Rows:
    """Head inputs of both models at the steps of every prompt, with masks.

    Attributes:
        aligned: Head inputs of the aligned model, float32 [prompts, steps, hidden].
        reference: Those of the reference, float32 [prompts, steps, the reference's hidden].
        inside: Mask of the steps that an answer has, bool [prompts, steps].
        moves: Mask of the prompts on which the aligned model is to move to the reference, bool
            [prompts]; on the others it is to stay.
        groups: Group of every prompt; none is on both sides of a split of cross-validation.
        prompts: Hashes (`prompt_sha256`) of labelled prompts.
    """

    aligned: Tensor
    reference: Tensor
    inside: Tensor
    moves: Tensor
    groups: Sequence[str]
    prompts: Sequence[str] = ()

    def __post_init__(self) -> None:
        for name in ("aligned", "reference"):
            if not bool(getattr(self, name).isfinite().all()):
                raise NumericalError(
                    f"The {name} model gives NaN or infinite numbers on the prompts of a slope.",
                    "Check its weights, or load it in float32 or bfloat16.",
                )

    def at(self, some: Tensor) -> "Rows":
        """The rows of some prompts, by indices or a mask, bool [prompts]."""
        parts = (self.aligned, self.reference, self.inside, self.moves)
        one, other, inside, moves = (part[some] for part in parts)
        numbers = torch.arange(len(self.groups))[some].tolist()
        return Rows(one, other, inside, moves, [self.groups[n] for n in numbers])


def random_rows(
    aligned: Side,
    reference: Side,
    prompts: RandomPrompts,
    number: int,
    batch_size: int,
    progress: Callable[[int], None],
) -> Rows:
    """Rows along random prompts and responses."""

    def inputs(side: Side) -> Tensor:
        found = []
        with side.open() as model:
            _check_linear(model, prompts.ids(0, 2), prompts.steps)

            def read(numbers: Batch) -> None:
                ids = prompts.ids(numbers[0], numbers[-1] + 1)
                found.append(head.head_inputs(model, ids, prompts.steps).float().cpu())
                progress(len(ids))

            _in_batches(read, [[0]] * number, batch_size)
        return torch.cat(found)

    one, other = inputs(aligned), inputs(reference)
    everywhere = torch.ones(one.shape[:2], dtype=torch.bool)
    return Rows(one, other, everywhere, everywhere[:, 0], list(map(str, range(number))))


def labelled_rows(
    aligned: Side,
    reference: Side,
    tokenizer: PreTrainedTokenizerBase,
    prompts: LabelledIds,
    steps: int,
    batch_size: int,
    progress: Callable[[int], None],
) -> Rows:
    """Rows of real prompts, along greedy answers of the model that should answer them.

    That is the reference on harmless prompts, and the aligned model on harmful ones.
    """
    asked = [*prompts.harmless, *prompts.harmful]
    kinds = ["harmless"] * len(prompts.harmless) + ["harmful"] * len(prompts.harmful)
    for side in (reference, aligned):  # before the long work
        with side.open() as model:
            check_lengths(model, list(zip(kinds, asked, strict=True)), steps)
            _check_known(model, asked)
    with reference.open() as model:
        answers = _answers(model, tokenizer, prompts.harmless, steps, batch_size, progress)
    with aligned.open() as model:
        answers += _answers(model, tokenizer, prompts.harmful, steps, batch_size, progress)
    found = []
    for side in (aligned, reference):
        with side.open() as model:
            shortest = min(map(len, asked))
            _check_linear(model, torch.tensor([row[-shortest:] for row in asked[:2]]), 1)
            found.append(inputs_along(model, asked, answers, steps, batch_size, progress))
    lengths = torch.tensor([len(answer) for answer in answers])
    inside = torch.arange(steps) < lengths[:, None]
    one, other = found
    moves = torch.arange(len(asked)) < len(prompts.harmless)
    groups = list(map(prompts.group, asked))
    return Rows(one, other, inside, moves, groups, sorted(map(prompt_sha256, asked)))


def _answers(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[list[int]],
    steps: int,
    batch_size: int,
    progress: Callable[[int], None],
) -> list[list[int]]:
    """Greedy answers of at most `steps` tokens, end tokens included."""
    ends = end_ids(tokenizer, model.generation_config, model.config)
    answers: list[list[int]] = [[] for _ in prompts]

    def read(numbers: Batch) -> None:
        rows, _ = generate_greedily(model, tokenizer, [prompts[n] for n in numbers], steps)
        for n, row in zip(numbers, rows, strict=True):
            answers[n] = until_end(row, ends)
        progress(len(numbers))

    _in_batches(read, prompts, 1 if ignores_mask(model) else batch_size)
    return answers


def inputs_along(
    model: PreTrainedModel,
    prompts: Sequence[list[int]],
    answers: Sequence[list[int]],
    steps: int,
    batch_size: int,
    progress: Progress | None = None,
) -> Tensor:
    """Head inputs that predict the tokens of every answer, float32 [prompts, steps, hidden].

    A model sees nothing behind a position, so rows are filled up on the right.
    """
    texts = [[*prompt, *answer[:-1]] for prompt, answer in zip(prompts, answers, strict=True)]
    found: dict[int, Tensor] = {}

    def read(numbers: Batch) -> None:
        ids = pad_sequence([torch.tensor(texts[n]) for n in numbers], batch_first=True)
        inputs = head.head_inputs(model, ids, ids.shape[1]).float().cpu()
        for n, row in zip(numbers, inputs, strict=True):
            begin = len(prompts[n]) - 1
            kept = row[begin : begin + len(answers[n])]
            found[n] = torch.nn.functional.pad(kept, (0, 0, 0, steps - len(kept)))
        if progress is not None:
            progress(len(numbers))

    _in_batches(read, texts, batch_size)
    return torch.stack([found[n] for n in range(len(prompts))])


def _in_batches(read: Callable[[Batch], None], texts: Sequence[list[int]], size: int) -> None:
    """Call `read` on batches of texts of similar length, halved where memory runs out."""
    order = sorted(range(len(texts)), key=lambda n: len(texts[n]))  # alike lengths pad little
    while order:
        try:
            read(order[:size])
        except RuntimeError as error:
            if size == 1 or not should_reduce_batch_size(error):
                raise
            size //= 2
            clear_device_cache(garbage_collection=True)
            continue
        order = order[size:]


def _check_known(model: PreTrainedModel, prompts: Sequence[list[int]]) -> None:
    size = vocabulary_width(model)
    if (largest := max(map(max, prompts))) >= size:
        raise PromptError(
            f"A labelled prompt has token {largest}, the model {size} tokens.",
            "Encode prompts with the model's own tokenizer.",
        )


def _check_linear(model: PreTrainedModel, ids: Tensor, steps: int) -> None:
    if not head.is_linear(model, ids, steps):
        raise ModelError(
            "A slope is a linear function of logits, and a model's logits are not linear in the"
            " input of its output layer (they are capped, or there is no such layer).",
            "Take --order 0.",
        )
