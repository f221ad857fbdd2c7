"""The null hypothesis of one number: a model with a constant added to its refusing openers.

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
    """What a model answers with a constant added to the logits of its refusing openers.

    Attributes:
        margins: Of every prompt the largest other logit minus the largest refusing one, at the
            first token; the answer begins with a refusing opener if the constant is larger.
        refusing: The answers that begin with a refusing opener.
        other: The answers that do not.
    """

    margins: tuple[float, ...]
    refusing: tuple[Completion, ...]
    other: tuple[Completion, ...]

    def at(self, constant: float) -> list[Completion]:
        """The answers with a constant; with 0 the model's own."""
        return self.pick(constant, self.refusing, self.other)

    def pick(self, constant: float, refusing: Sequence[T], other: Sequence[T]) -> list[T]:
        """Of each prompt what belongs to its answer with a constant, such as its judgement.

        Args:
            constant: In logits.
            refusing: What belongs to the refusing answers, in their order.
            other: What belongs to the other answers.
        """
        rows = zip(self.margins, refusing, other, strict=True)
        return [one if constant > margin else another for margin, one, another in rows]

    def constants(self, count: int) -> list[float]:
        """Rising constants, 0 among them, that lead from no refusing answer to refusing ones only.

        Args:
            count: How many, at least 3; in between the share of refusing answers rises evenly.
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
    """Everything that a model answers as its refusing openers are made more or less likely.

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
    """Which tokens are refusing openers, bool [vocab]."""
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
    """An engine that does not begin an answer with any of these tokens, bool [vocab]."""
    excluded = tokens.nonzero().flatten().tolist()
    shift = constant_shift(tokenizer, model, excluded, -EXCLUDED)
    return TransformersEngine(model, tokenizer, shift, 1.0)
