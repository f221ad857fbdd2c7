"""Token ids that end an answer, by one rule for every engine."""

from collections.abc import Collection, Sequence
from typing import Any

from transformers import PreTrainedTokenizerBase

from tsdi.errors import ModelError
from tsdi.models.chat import end_of_turn


def end_ids(tokenizer: PreTrainedTokenizerBase, *configs: Any) -> list[int]:
    """Token ids that end an answer; maybe none.

    They are all ids that tokenizer and configs name: a checkpoint's generation config often lacks
    the token that its tokenizer or chat template ends a turn with, and a model that goes on after
    it invents the next turn.

    Args:
        tokenizer: The model's tokenizer, with its chat template.
        configs: The model's generation config and config, as far as there are any.

    Raises:
        ModelError: If one names what is no token id.
    """
    named = [tokenizer.eos_token_id, end_of_turn(tokenizer)]
    for config in configs:
        ends = getattr(config, "eos_token_id", None)
        named += ends if isinstance(ends, list | tuple) else [ends]
    known = [end for end in named if end is not None]
    if wrong := [end for end in known if type(end) is not int]:
        raise ModelError(
            f"The model's config names the end of an answer {wrong[0]!r}, which is no token id.",
            "Mend eos_token_id in generation_config.json or config.json.",
        )
    return sorted(set(known))


def until_end(row: Sequence[int], ends: Collection[int]) -> list[int]:
    """An answer up to and including its first end token."""
    stop = next((place for place, token in enumerate(row) if token in ends), len(row))
    return list(row[: stop + 1])
