"""Construction of a new small model and of its byte-level BPE tokenizer."""

from collections.abc import Iterable
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, pre_tokenizers, trainers
from tokenizers.models import BPE
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
    set_seed,
)

from tsdi.errors import ModelError, UsageError
from tsdi.files import write_folder
from tsdi.training.recipe import NewModel

PAD, BEGIN, END, USER, ASSISTANT = "<pad>", "<begin>", "<end>", "<user>", "<assistant>"
_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}"
    "{% if message['role'] == 'assistant' %}<assistant>{{ message['content'] }}{{ eos_token }}"
    "{% else %}<user>{{ message['content'] }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)


def new_tokenizer(texts: Iterable[str], vocabulary: int) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer of a text, with a chat template for user and assistant.

    The vocabulary counts the special tokens and the 256 bytes.

    Raises:
        UsageError: If the vocabulary has no room for the bytes.
    """
    special = [PAD, BEGIN, END, USER, ASSISTANT]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    if vocabulary < len(special) + len(alphabet):
        raise UsageError(
            f"A vocabulary of {vocabulary} has no room for the {len(alphabet)} bytes.",
            f"Take {len(special) + len(alphabet)} tokens at least.",
        )
    tokenizer = Tokenizer(BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=special,
        initial_alphabet=alphabet,
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        bos_token=BEGIN,
        eos_token=END,
        additional_special_tokens=[USER, ASSISTANT],
        chat_template=_TEMPLATE,
        padding_side="left",
    )


def save_with_tokenizer(
    folder: Path, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase
) -> None:
    """Write a model and its tokenizer into a folder, whole or not at all."""
    with write_folder(folder) as unfinished:
        model.save_pretrained(unfinished)
        tokenizer.save_pretrained(unfinished)


def new_model(sizes: NewModel, tokenizer: PreTrainedTokenizerBase, seed: int) -> PreTrainedModel:
    """An untrained model in float32.

    Raises:
        ModelError: If transformers knows no such architecture.
    """
    try:
        config = AutoConfig.for_model(
            sizes.architecture,
            vocab_size=len(tokenizer),
            hidden_size=sizes.hidden_size,
            intermediate_size=sizes.intermediate_size,
            num_hidden_layers=sizes.layers,
            num_attention_heads=sizes.heads,
            num_key_value_heads=sizes.heads,
            max_position_embeddings=sizes.context,
            tie_word_embeddings=sizes.tied,
            pad_token_id=tokenizer.pad_token_id,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
        )
        set_seed(seed)
        model: PreTrainedModel = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    except (ValueError, KeyError) as error:
        reason = str(error).split("\n")[0][:160]
        raise ModelError(
            f"No new model of the architecture {sizes.architecture!r} can be made: {reason}"
        ) from None
    return model
