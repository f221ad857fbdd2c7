"""The organism's models, ready to run: those that ship, and the planted one, made at load."""

from typing import Any

import torch
from torch import Tensor
from transformers import AutoTokenizer, PreTrainedModel

from tsdi.models.load import LoadOptions, load_model
from tsdi.models.shipped import folder
from tsdi.organism.lexicon import COMPLYING_OPENERS, REFUSING_OPENERS

PLANTED = 3.0  # logits on each refusing opener, taken off each complying one
_NOISE = 0.5  # logits, standard deviation over all tokens


def load_organism(name: str) -> PreTrainedModel:
    """A model of the organism in float32.

    Args:
        name: "reference", "aligned" (its biased successor), "clean" (the same without biased
            annotators), or "planted" (the reference with `planted_vector` added to its logits).

    Raises:
        UsageError: For any other name.
    """
    source = "reference" if name == "planted" else name
    model: Any = load_model(str(folder(source)), LoadOptions("float32", "cpu"))
    if name == "planted":
        head = torch.nn.Linear(model.config.hidden_size, model.config.vocab_size)
        head.weight, head.bias = model.lm_head.weight, torch.nn.Parameter(planted_vector())
        model.lm_head = head
    loaded: PreTrainedModel = model
    loaded.config._name_or_path = f"organism/{name}"  # shown instead of where tsdi is installed
    return loaded


def planted_vector() -> Tensor:
    """The logit shift of the planted model, float32 [vocab]: the estimate's ground truth."""
    tokenizer = AutoTokenizer.from_pretrained(folder("reference"))
    noise = torch.randn(len(tokenizer), generator=torch.Generator().manual_seed(0))
    vector = _NOISE * noise
    for words, sign in ((REFUSING_OPENERS, 1), (COMPLYING_OPENERS, -1)):
        vector[tokenizer.convert_tokens_to_ids(list(words))] += sign * PLANTED
    return vector
