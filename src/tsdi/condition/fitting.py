"""``fit_condition``: a condition from labelled prompts and a model, with its evidence."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from tsdi.arguments import check_counts, check_number, check_whole
from tsdi.bias.accumulate import Progress
from tsdi.bias.refusal_log_odds import ENGLISH, Phrases
from tsdi.condition.crossvalidation import crossvalidate
from tsdi.condition.discriminant import fit_direction
from tsdi.condition.prompts import Labelled, read_labelled
from tsdi.condition.tokens import read_head, to_tokens
from tsdi.decoding.condition import Condition
from tsdi.errors import UsageError
from tsdi.models.chat import (
    OWN_TEMPLATE,
    ChatFormat,
    prompt_sha256,
    template_sha256,
    tokenizer_sha256,
)
from tsdi.stats.interval import as_json


@dataclass(frozen=True)
class Fitting:
    """Settings of the fit, and the strengths that the condition sets.

    Attributes:
        tokens: Most tokens whose logits it reads.
        low: Strength where a prompt is surely harmful; below 0 the bias is added.
        high: Strength where a prompt is surely harmless.
        width: Width of the change between them, in units of h; at 1 the strength follows the
            probability that the prompt is harmful, and near 0 it is a switch.
    """

    tokens: int = 1024
    low: float = 0.0
    high: float = 1.0
    width: float = 1.0

    def __post_init__(self) -> None:
        check_counts(self, "tokens")
        for name in ("low", "high", "width"):
            check_number(name, getattr(self, name))
        nothing = torch.zeros(1, dtype=torch.int64), torch.zeros(1)
        try:
            Condition(*nothing, 0.0, self.low, self.high, self.width)
        except UsageError as error:
            raise UsageError(error.problem, "Give other settings.") from None


def fit_condition(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[Labelled],
    settings: Fitting = Fitting(),
    *,
    chat: ChatFormat = OWN_TEMPLATE,
    phrases: Phrases = ENGLISH,
    batch_size: int = 32,
    progress: Progress | None = None,
) -> Condition:
    """Fit a condition to labelled prompts: closed form, one forward pass for each prompt.

    Args:
        model: The aligned model.
        tokenizer: Its tokenizer.
        prompts: Harmful and harmless prompts, lookalikes among them.
        settings: Settings of the fit, and the strengths that the condition sets.
        chat: Chat format of the prompts.
        phrases: Beginnings of refusing and complying answers, for the refusal log-odds.
        batch_size: Prompts read together; halved where memory runs out.
        progress: Called with the number of prompts that have just been read.

    Returns:
        The condition; its evidence is a `tsdi.condition.crossvalidation.CrossValidation` as JSON,
        with the case that follows (`tsdi.bias.case`) and what the prompts are known by.

    Raises:
        PromptError: If there are too few prompts of a kind, one prompt is of both, or one does not
            fit the context.
        ModelError: If the model's logits are not linear in the input of its head.
        NumericalError: If the model gives NaN or infinite numbers.
    """
    check_whole("batch_size", batch_size)
    known = read_labelled(
        model, tokenizer, prompts, phrases, batch_size=batch_size, progress=progress
    )
    direction = fit_direction(known.inputs, known.harmful, known.groups)
    linear = read_head(model, tokenizer, known.inputs.shape[1])
    found = to_tokens(direction, known.inputs, linear, settings.tokens)
    worth = crossvalidate(known, direction, linear, settings.tokens)
    return Condition(
        found.tokens,
        found.weights,
        found.intercept,
        settings.low,
        settings.high,
        settings.width,
        tokenizer_sha256=tokenizer_sha256(tokenizer),
        template_sha256=template_sha256(tokenizer, chat),
        evidence={
            **as_json(worth),
            "case": as_json(worth.told.case),
            "prompts": sorted({prompt_sha256(prompt.ids) for prompt in prompts}),
        },
    )
