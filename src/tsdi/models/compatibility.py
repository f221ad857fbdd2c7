"""Checks that models, tokenizers and adapters fit together, and their vocabulary sizes."""

from copy import deepcopy
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from tsdi.errors import MismatchError, ModelError
from tsdi.models.chat import tokenizer_sha256


def check_same_tokenizer(aligned: PreTrainedTokenizerBase, other: PreTrainedTokenizerBase) -> None:
    """Raise MismatchError unless both tokenizers map texts to the same ids."""
    if tokenizer_sha256(aligned) == tokenizer_sha256(other):
        return
    one, two = aligned.get_vocab(), other.get_vocab()
    differing = sorted(token for token in {*one, *two} if one.get(token) != two.get(token))
    shown = ", ".join(map(repr, differing[:3])) or "none; the splitting rules differ"
    raise MismatchError(
        f"The two models have different tokenizers ({len(one)} and {len(two)} tokens; "
        f"tokens with different ids: {shown}).",
        "Take models that were trained from one.",
    )


def other_template(aligned: PreTrainedTokenizerBase, other: PreTrainedTokenizerBase) -> bool:
    """Whether the second tokenizer has a chat template that differs from the first one's."""
    return other.chat_template not in (None, aligned.chat_template)


def context_length(model: PreTrainedModel) -> int | None:
    """Most tokens that the model can see; None if it has no such limit."""
    limit = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    return int(limit) if limit else None


def embedding_rows(model: PreTrainedModel) -> int:
    """Number of token ids that the model can read."""
    weight: Any = model.get_input_embeddings().weight
    return int(weight.shape[0])


def vocabulary_width(model: PreTrainedModel) -> int:
    """Number of logits that the model gives, padding rows included."""
    head = model.get_output_embeddings()
    width = getattr(head, "out_features", None)
    return int(width if width is not None else model.config.get_text_config().vocab_size)


def shared_vocabulary(aligned: int, reference: int, tokenizer_size: int) -> int:
    """The number of logits that both models have, padding rows left out.

    The tokenizer's size is one more than its highest token id.

    Raises:
        MismatchError: If the sizes differ and the extra rows are not padding, that is, if the
            tokenizer has tokens there.
    """
    smaller = min(aligned, reference)
    if aligned != reference and tokenizer_size > smaller:
        raise MismatchError(
            f"The vocabularies differ by more than padding: aligned {aligned}, reference"
            f" {reference}, tokenizer {tokenizer_size} ids.",
            "Take the reference from which the aligned model was trained.",
        )
    return smaller


def tokenizer_size(tokenizer: PreTrainedTokenizerBase) -> int:
    """The highest id that the tokenizer can give, plus one."""
    return int(max(tokenizer.get_vocab().values())) + 1


def check_reads(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    """Raise MismatchError if the tokenizer gives ids that the model has no logits for."""
    width, size = vocabulary_width(model), tokenizer_size(tokenizer)
    if size > width:
        raise MismatchError(
            f"The tokenizer has {size} tokens, the model {width}.", "Take the model's own."
        )


def check_tied_adapter(model: PreTrainedModel) -> None:
    """Refuse an adapter on tied embeddings that means one thing unmerged and another merged.

    Merging writes the adapter's change into the weight that input and output embeddings share.

    Raises:
        ModelError: If the merged embeddings would give other numbers.
    """
    modules = [model.get_input_embeddings(), model.get_output_embeddings()]
    layers = [module for module in modules if hasattr(module, "get_delta_weight")]
    if not layers or not _share_weight(modules):
        return
    embedding, head = deepcopy(modules)
    before = _embedding_outputs(embedding, head)
    for layer in (embedding, head):
        if hasattr(layer, "merge"):
            layer.merge()
    after = _embedding_outputs(embedding, head)
    if not all(
        torch.allclose(x, y, rtol=1e-3, atol=1e-4) for x, y in zip(before, after, strict=True)
    ):
        raise ModelError(
            "The adapter changes tied embeddings: merged and unmerged it is not the same model.",
            "Set the base's tie_word_embeddings to False, or load it merged.",
        )


def _share_weight(modules: list[Any]) -> bool:
    weights = [getattr(module, "base_layer", module).weight for module in modules]
    return bool(weights[0].data_ptr() == weights[1].data_ptr())


@torch.no_grad()
def _embedding_outputs(embedding: Any, head: Any) -> tuple[torch.Tensor, torch.Tensor]:
    weight = getattr(head, "base_layer", head).weight
    ids = torch.arange(min(512, weight.shape[0]), device=weight.device)
    hidden = torch.linspace(-1, 1, weight.shape[1], device=weight.device, dtype=weight.dtype)
    return embedding(ids).float(), head(hidden[None]).float()
