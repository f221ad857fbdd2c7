"""The case for a condition: whether one would clearly gain, from labelled prompts alone."""

from collections.abc import Sequence

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from tsdi.bias import SafetyBias
from tsdi.bias.case import NOTHING, Case, read_case
from tsdi.bias.refusal_log_odds import Phrases
from tsdi.condition.crossvalidation import held_out
from tsdi.condition.prompts import Labelled, read_labelled


def find_case(
    bias: SafetyBias,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[Labelled],
    phrases: Phrases,
    *,
    batch_size: int,
) -> Case:
    """The case for a condition on a bias: does one clearly beat the refusal log-odds?

    Args:
        bias: The bias.
        model: The aligned model.
        tokenizer: Its tokenizer.
        prompts: Harmful and harmless prompts, lookalikes among them.
        phrases: Beginnings of refusing and complying answers, for the refusal log-odds.
        batch_size: Prompts read together; halved where memory runs out.

    Raises:
        PromptError: If there are too few prompts of a kind, or one prompt is of both.
        ModelError: If the model's logits are not linear in the input of its head.
    """
    if removes_nothing(bias):
        return NOTHING
    known = read_labelled(model, tokenizer, prompts, phrases, batch_size=batch_size)
    return held_out(known).case


def removes_nothing(bias: SafetyBias) -> bool:
    """Whether the bias's diagnosis finds no habit of refusing to remove."""
    found = read_case(bias.info.diagnosis)
    return not bool(bias.values.any()) or (found is not None and found.name == "nothing")
