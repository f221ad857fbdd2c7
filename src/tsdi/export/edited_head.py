"""A bias in the weights of a model's head: a plain checkpoint, for any engine.

With u the head's input, the rule subtracts strength x (G_i + M (u - mean_i)), M being 0 at order 0.
That is linear in u but for constants that depend on the step i. These become linear as well:

    G_i - M mean_i  ~  sum over j of (G_j - M mean_j) <k_j, u>      <k_j, u>: whether this is step j

with k the ridge regression of steps on the inputs, along answers of the rule.
"""

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from tsdi.bias import SafetyBias
from tsdi.bias import lm_head as head
from tsdi.errors import ModelError
from tsdi.export.static import Text

_RIDGE = 1e-3  # times the mean square of an input


def edited_head(
    model: PreTrainedModel, bias: SafetyBias, strength: float, texts: Sequence[Text]
) -> PreTrainedModel:
    """A copy of a model whose head decodes as the rule does, as nearly as a head can.

    Steps are told apart by `texts`, those of `rule_answers`.

    Raises:
        ModelError: If its logits are capped or scaled behind the head.
    """
    _check_plain(model)
    changed = _merged(copy.deepcopy(model))
    changed.config.get_text_config().tie_word_embeddings = False
    changed.config.tie_word_embeddings = False
    layer = changed.get_output_embeddings()
    weight = layer.weight.detach().float().cpu().clone()  # of tied embeddings too
    edit = _constants(bias, getattr(layer, "bias", None)) @ _steps(model, bias, texts)
    if bias.slope is not None:
        edit += bias.slope.write.T @ (bias.slope.read @ weight[: bias.vocab])
    weight[: bias.vocab] -= strength * edit
    layer.weight = torch.nn.Parameter(weight.to(layer.weight), requires_grad=False)
    return changed


def _check_plain(model: PreTrainedModel) -> None:
    """Raise ModelError if a model's logits are not those of its head."""
    config = model.config.get_text_config()
    for name in ("final_logit_softcapping", "logit_scale", "logits_scaling"):
        if getattr(config, name, None) not in (None, 1.0):
            raise ModelError(
                f"{type(model).__name__} changes its logits behind the head ({name}), so that a"
                " shift in the head would be another one.",
                "Take --to transformers, or an engine that runs the rule.",
            )


def _merged(model: Any) -> PreTrainedModel:
    """A copy of a model with its adapters merged into its weights."""
    merged: PreTrainedModel = model.merge_and_unload() if hasattr(model, "peft_config") else model
    return merged


def _constants(bias: SafetyBias, offset: Tensor | None) -> Tensor:
    """The part of the shift that depends on the step alone, float32 [vocab, steps]."""
    if bias.slope is None:
        return bias.values.T
    readings = -bias.slope.centre
    if offset is not None:
        readings = readings + bias.slope.read @ offset.detach().float().cpu()[: bias.vocab]
    return (bias.values + readings @ bias.slope.write).T


def _steps(model: PreTrainedModel, bias: SafetyBias, texts: Sequence[Text]) -> Tensor:
    """Ridge regression of step indicators on head inputs, float32 [steps, hidden]."""
    inputs, steps = [], []
    for ids, answer in texts:
        inputs.append(head.head_inputs(model, torch.tensor([ids])[:, :-1], answer)[0].double())
        steps.append(torch.eye(max(answer, bias.steps)).double()[:answer, : bias.steps])
    rows, wanted = torch.cat(inputs).cpu(), torch.cat(steps)
    square = rows.T @ rows / len(rows)
    square.diagonal().add_(_RIDGE * square.diagonal().mean())
    found: Tensor = torch.linalg.solve(square, rows.T @ wanted / len(rows))
    return found.T.float()
