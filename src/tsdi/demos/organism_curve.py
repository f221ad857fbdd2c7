"""The null hypothesis of one number: a constant added to the refusing openers' logits.

Under greedy decoding the first token decides between two answers that do not depend on the
constant, the best one that begins with a refusing opener and the best one that does not. So two
generations and the logits of the first token give the answers at every constant.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from tsdi.baselines.shifts import constant_shift
from tsdi.engines.base import Completion, Engine, Request, Sampling
from tsdi.engines.transformers import TransformersEngine
from tsdi.errors import UsageError
from tsdi.models.compatibility import vocabulary_width

EXCLUDED = 1e9  # logits taken off a token that is not to be chosen
BATCH_SIZE = 64

T = TypeVar("T")


@dataclass(frozen=True)
class OperatingCurve:
    """A model's answers at every constant added to the logits of its refusing openers.

    Attributes:
        margins: For every prompt the largest other logit minus the largest refusing one, at the
            first token; the answer begins with a refusing opener if the constant is larger.
        refusing: The answers that begin with a refusing opener.
        other: The answers that do not.
    """

    margins: tuple[float, ...]
    refusing: tuple[Completion, ...]
    other: tuple[Completion, ...]

    def at(self, constant: float) -> list[Completion]:
        """The answers at a constant; 0 gives the model's own."""
        return self.pick(constant, self.refusing, self.other)

    def pick(self, constant: float, refusing: Sequence[T], other: Sequence[T]) -> list[T]:
        """For each prompt the item of the answer that it has at a constant.

        Args:
            constant: Constant in logits.
            refusing: Items of the refusing answers, such as their judgements.
            other: Items of the other answers.
        """
        rows = zip(self.margins, refusing, other, strict=True)
        return [one if constant > margin else another for margin, one, another in rows]

    def constants(self, count: int) -> list[float]:
        """Rising constants, 0 among them, from no refusing answer to refusing ones only.

        Args:
            count: Number of constants, at least 3; the share of refusing answers rises evenly.
        """
        inner = np.quantile(self.margins, np.linspace(0, 1, count - 2)).tolist()
        return sorted({0.0, *inner, max(self.margins) + 1})


def operating_curve(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    requests: Sequence[Request],
    sampling: Sampling,
    refusing: Collection[int],
    batch_size: int = BATCH_SIZE,
    progress: Callable[[int], None] | None = None,
) -> OperatingCurve:
    """Generate the answers of an operating curve: those with and without a refusing opener.

    Args:
        model: A causal language model.
        tokenizer: Its tokenizer.
        requests: The prompts, without a strength of their own.
        sampling: How the answers are generated; greedy.
        refusing: Token ids that refusing answers begin with.
        batch_size: Prompts in a batch.
        progress: Called with the number of prompts that were just done.

    Raises:
        UsageError: If decoding is not greedy, or the refusing tokens are none, all, or not tokens
            of the model.
        PromptError: If a prompt does not fit the model's context.
    """
    if sampling.temperature != 0:
        raise UsageError("An operating curve needs greedy decoding.", "Set the temperature to 0.")
    refuses = _indicator(model, refusing)
    first = replace(sampling, max_new_tokens=1, keep_logits=True)
    plain = TransformersEngine(model, tokenizer)
    without_others = _excluding(~refuses, model, tokenizer)
    without_refusing = _excluding(refuses, model, tokenizer)
    margins: list[float] = []
    answers: list[Completion] = []
    others: list[Completion] = []
    for start in range(0, len(requests), batch_size):
        batch = requests[start : start + batch_size]
        margins += [_margin(one, refuses) for one in plain.generate(batch, first)]
        answers += without_others.generate(batch, sampling)
        others += without_refusing.generate(batch, sampling)
        if progress is not None:
            progress(len(batch))
    return OperatingCurve(tuple(margins), tuple(answers), tuple(others))


def _indicator(model: PreTrainedModel, refusing: Collection[int]) -> Tensor:
    """A mask of the refusing openers, bool [vocab]."""
    width, ids = vocabulary_width(model), set(refusing)
    if not ids or len(ids) == width or not all(0 <= token < width for token in ids):
        raise UsageError(
            f"{len(ids)} refusing tokens do not split the model's {width} tokens in two.",
            "Give the ids of the tokens that refusing answers begin with.",
        )
    refuses = torch.zeros(width, dtype=torch.bool)
    refuses[list(ids)] = True
    return refuses


def _margin(answer: Completion, refuses: Tensor) -> float:
    assert answer.logits is not None  # they were asked for
    first = answer.logits[0]
    return float(first[~refuses].max() - first[refuses].max())


def _excluding(
    tokens: Tensor, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase
) -> Engine:
    """An engine that excludes these tokens, bool [vocab], at step 0."""
    excluded = tokens.nonzero().flatten().tolist()
    shift = constant_shift(tokenizer, model, excluded, -EXCLUDED)
    return TransformersEngine(model, tokenizer, shift, 1.0)
