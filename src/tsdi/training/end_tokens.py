"""End-of-answer tokens: learnt in training, and written into the generation config."""

import logging
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from tsdi.decoding.end_tokens import end_ids
from tsdi.errors import MismatchError
from tsdi.models.chat import end_of_turn

_log = logging.getLogger(__name__)


def answers_end(tokenizer: PreTrainedTokenizerBase, name: str) -> str:
    """The text to append to each answer: end-of-text, or "" where the template ends turns.

    `name` is the stage's, for the warning where answers get the end-of-text token.

    Raises:
        MismatchError: If the chat template lets no end be learnt.
    """
    if end_of_turn(tokenizer) is not None:
        return ""
    end = str(tokenizer.eos_token)
    said: Any = tokenizer.apply_chat_template(
        [{"role": "user", "content": "a"}, {"role": "assistant", "content": f"b{end}"}],
        return_dict=False,
    )
    if tokenizer.eos_token_id not in said[1:]:
        raise MismatchError(
            f"Stage {name!r}: the chat template takes {end!r} out of answers: the model would never"
            " learn to stop.",
            "Mend it, or give the recipe's model a `prompt_format`.",
        )
    _log.warning(
        "Stage %r: the chat template ends no answer, so the tokenizer's %s is put behind each.",
        name,
        end,
    )
    return end


def name_ends(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    """Write every token that ends an answer into the model's generation config, which is saved."""
    config: Any = model.generation_config
    if config is not None:
        config.eos_token_id = end_ids(tokenizer, config, model.config)
