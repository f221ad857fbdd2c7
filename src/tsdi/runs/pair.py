"""A pair of models by name, checked before it is loaded."""

import logging
from dataclasses import replace

from transformers import PreTrainedTokenizerBase

from tsdi.bias import Estimation
from tsdi.errors import UsageError
from tsdi.models.chat import OWN_TEMPLATE, as_format, check_format, describe_without_template
from tsdi.models.compatibility import check_same_tokenizer, other_template
from tsdi.models.load import LoadOptions, adapter_base, load_tokenizer
from tsdi.models.sides import same_model

OWN_FORMAT = "own"
"""As a reference's format: the chat template of its own tokenizer."""
_LOG = logging.getLogger(__name__)


def check_order(aligned: str, reference: str) -> None:
    """Refuse a model as its own reference; warn where the two seem to be exchanged."""
    if same_model(aligned, reference):
        raise UsageError(
            f"Both are {aligned}: no safety step lies between them.",
            "Name the model after it, then the one before it.",
        )
    base = adapter_base(reference)
    if base is not None and same_model(base, aligned):
        _LOG.info(
            "The reference is an adapter on the aligned model. If the safety step made the adapter,"
            " the two are exchanged: the aligned model comes first."
        )


def pair_tokenizer(
    aligned: str, reference: str, options: LoadOptions, settings: Estimation
) -> tuple[PreTrainedTokenizerBase, Estimation]:
    """The tokenizer of both models, and the settings with the reference's format found out."""
    tokenizer, other = (load_tokenizer(name, options) for name in (aligned, reference))
    check_same_tokenizer(tokenizer, other)
    chat = settings.chat
    check_format(tokenizer, chat)
    if settings.reference_format == OWN_FORMAT:
        settings = replace(settings, reference_format=as_format(other))
    if tokenizer.chat_template is None:
        _LOG.info("Random prompts stand in %s.", describe_without_template(chat))
    elif other_template(tokenizer, other) and settings.reference_chat == OWN_TEMPLATE:
        _LOG.info(
            "The two chat templates differ; both models get the aligned model's. With"
            f" --reference-format {OWN_FORMAT} the reference gets its own."
        )
    return tokenizer, settings
