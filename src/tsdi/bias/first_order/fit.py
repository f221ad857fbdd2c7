"""``fit_slope``: the bias of first order that belongs to TSDI's."""

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from tsdi.arguments import check_whole
from tsdi.bias.accumulate import Progress
from tsdi.bias.first_order.labelled import LabelledIds
from tsdi.bias.first_order.rows import labelled_rows, random_rows
from tsdi.bias.first_order.slope import with_slope
from tsdi.bias.random_prompts import RandomPrompts
from tsdi.bias.safety_bias import SafetyBias
from tsdi.errors import UsageError
from tsdi.models.sides import Side, as_side, check_apart

NO_MARKER = "A bias of first order begins at no marker.", "Leave one of them out."


def fit_slope(
    bias: SafetyBias,
    aligned: PreTrainedModel | Side,
    reference: PreTrainedModel | Side,
    tokenizer: PreTrainedTokenizerBase,
    prompts: RandomPrompts | LabelledIds,
    *,
    batch_size: int = 32,
    progress: Progress | None = None,
) -> SafetyBias:
    """Fit how the shift follows the aligned model's logits.

    Args:
        bias: TSDI's, as `tsdi.estimate_bias` makes it of this pair.
        aligned: The model after the safety step, or a ``Side`` that loads it.
        reference: The model before it.
        tokenizer: The tokenizer of both.
        prompts: What it is fitted to: the random prompts of the bias
            (`Estimation.random_prompts`), as many as it has, or labelled ones.
        batch_size: Rows in a forward pass; halved when memory runs out.
        progress: Called with the number of prompts after every batch of either model.

    Returns:
        Another bias, which has a slope; or the same one, where no shift is wanted.

    Raises:
        UsageError: If the bias begins behind a marker, or answers are too short.
        ModelError: If a model's logits are not linear in the input of its output layer.
        PromptError: If a labelled prompt does not fit a model.
    """
    check_whole("batch_size", batch_size)
    if bias.info.anchor:
        raise UsageError(*NO_MARKER)
    check_apart(aligned, reference)
    pair = as_side(aligned), as_side(reference)
    count = progress or (lambda done: None)
    if isinstance(prompts, LabelledIds):
        rows = labelled_rows(*pair, tokenizer, prompts, bias.steps, batch_size, count)
    else:
        rows = random_rows(*pair, prompts, bias.info.prompts, batch_size, count)
    return with_slope(bias, *pair, rows, tokenizer)
