"""What a model says after prompts that it refuses, minus what it says after those that it answers.

    G_i  =  E[ f(x, y'_<i) | x refused ]  -  E[ f(x, y'_<i) | x answered ]

over labelled prompts x, along the same random tokens y' after both, so that step by step nothing
but the prompts differs. Steering vectors are made so from activations (Turner et al. 2023, arXiv
2308.10248; Arditi et al. 2024, arXiv 2406.11717); this is their image in logits, along an answer.
What refused prompts are about is in it too.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import PreTrainedModel

from tsdi.bias import SafetyBias
from tsdi.bias import lm_head as head
from tsdi.bias.estimate import mean_shift
from tsdi.bias.examination import check_lengths
from tsdi.bias.first_order.rows import inputs_along
from tsdi.bias.standard_error import split_half_reliability
from tsdi.errors import ModelError
from tsdi.models.compatibility import tokenizer_size
from tsdi.stand_ins.info import stand_in_info
from tsdi.stand_ins.names import SELF_CONTRAST
from tsdi.stand_ins.subject import LEAST, Subject, harmless_of


def self_contrast_bias(subject: Subject) -> SafetyBias:
    """The mean logits after refused prompts minus those after answered ones.

    A prompt is refused if its refusal log-odds are above 0. Where nearly all are, or nearly none,
    the half with the higher log-odds counts as refused.

    Raises:
        PromptError: If a prompt does not fit the context.
        ModelError: If the model's logits are not linear in the input of its head.
    """
    settings = subject.settings
    with subject.side.open() as model:
        odds = subject.odds(model, subject.fit)
        rows = [*harmless_of(subject.fit), *subject.fit["harmful"]]
        refused = _refused(torch.cat([odds.harmless, odds.harmful])[:, 0])
        kinds = [[row for row, own in zip(rows, refused, strict=True) if own is kind]
                 for kind in (True, False)]  # fmt: skip
        groups = min(settings.groups, *map(len, kinds))
        means = [_means(subject, model, some, groups) for some in kinds]
    vocab = min(means[0].shape[-1], tokenizer_size(subject.tokenizer))
    shifts = (means[0] - means[1])[..., :vocab]
    counts = torch.ones(groups)
    mean, error = mean_shift(shifts, counts)
    name = f"itself on {len(kinds[1])} prompts that it answers"
    info = stand_in_info(subject, SELF_CONTRAST, name, len(rows), groups)
    known = split_half_reliability(shifts, counts)
    return SafetyBias(mean, error, info.model_copy(update={"reliability": known}))


def _refused(odds: Tensor) -> list[bool]:
    refused = odds > 0
    if not LEAST <= int(refused.sum()) <= len(odds) - LEAST:
        refused = odds > odds.median()
    found: list[bool] = refused.tolist()
    return found


def _means(
    subject: Subject, model: PreTrainedModel, prompts: Sequence[list[int]], groups: int
) -> Tensor:
    """Mean logits by group along random tokens, float32 [groups, steps, vocab].

    Prompt k is in group k mod groups, and is followed by the response to random prompt k.
    """
    steps, drawn = subject.settings.steps, subject.settings.random_prompts(subject.tokenizer)
    check_lengths(model, [("labelled", row) for row in prompts], steps)
    shortest = min(map(len, prompts))
    if not head.is_linear(model, torch.tensor([row[-shortest:] for row in prompts[:2]]), 1):
        raise ModelError(
            "The model's logits are not linear in the input of its output layer.",
            "Take another stand-in.",
        )
    responses = drawn.ids(0, len(prompts))[:, drawn.length - steps + 1 :]
    # What follows the last of them is predicted only, so any token may stand there.
    answers = [[*row, 0] for row in responses.tolist()]
    inputs = inputs_along(model, prompts, answers, steps, subject.batch_size)
    by_group = torch.stack([inputs[g::groups].double().mean(0) for g in range(groups)])
    return head.logits_from(model, by_group.float()).cpu()
