"""Where an answer ends: one rule for every engine."""

from typing import Any

from transformers import PreTrainedTokenizerBase

from tsdi.models.chat import end_of_turn


def end_ids(tokenizer: PreTrainedTokenizerBase, *configs: Any) -> list[int]:
    """Token ids that end an answer; maybe none.

    All that anyone names: a checkpoint's generation config often lacks the token that its tokenizer
    or chat template ends a turn with, and a model that goes on after it invents the next turn.

    Args:
        tokenizer: The model's tokenizer, with its chat template.
        configs: The model's generation config and config, as far as there are any.
    """
    named = [tokenizer.eos_token_id, end_of_turn(tokenizer)]
    for config in configs:
        ends = getattr(config, "eos_token_id", None)
        named += ends if isinstance(ends, list | tuple) else [ends]
    return sorted({int(end) for end in named if end is not None})
