"""Requests as token ids and answers as text, for engines that work on token ids."""

from collections.abc import Sequence

from transformers import PreTrainedTokenizerBase

from tsdi.decoding.rule import check_strength
from tsdi.engines.base import Request, Sampling
from tsdi.errors import PromptError
from tsdi.models.chat import ChatFormat, decode, encode_chat
from tsdi.models.reasoning import TOKENS, begins_thought

_MOST_CHARACTERS = 100  # for a token; of more, the refusal need not wait for the tokenizer
_TAIL = 16  # tokens of a prompt, more than any that begin a thought

NOT_FINITE = "The logits of the next token are NaN or infinite, after the bias if there is one."


def encode_request(
    tokenizer: PreTrainedTokenizerBase,
    request: Request,
    sampling: Sampling,
    chat_format: ChatFormat,
    limit: int | None,
) -> list[int]:
    """Token ids of a request that fits into a context, if it has a limit, together with its answer.

    Raises:
        PromptError: If there are no tokens, or too many.
        UsageError: If the request's strength is no valid one.
    """
    if request.strength is not None:
        check_strength(request.strength)
    characters = sum(len(message["content"]) for message in request.messages)
    if limit is not None and characters > _MOST_CHARACTERS * limit:
        raise PromptError(
            f"{characters:,} characters do not fit the model's context of {limit} tokens.",
            "Shorten the prompt.",
        )
    ids = encode_chat(tokenizer, request.messages, chat_format)
    if not ids:
        raise PromptError("The prompt has no tokens.", "Write something.")
    if limit is not None and len(ids) + sampling.longest > limit:
        raise PromptError(
            f"{len(ids)} tokens and an answer of up to {sampling.longest} do not fit "
            f"the model's context of {limit}.",
            "Shorten the prompt or lower --max-new-tokens.",
        )
    return ids


def decode_answer(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int]) -> str:
    """The text of an answer; of special tokens only those that tell where a thought ends."""
    added = tokenizer.added_tokens_decoder
    special = {index for index, token in added.items() if token.special}
    kept = {index for index in special if str(added[index]) in TOKENS}
    if kept.isdisjoint(ids):
        return str(tokenizer.decode(list(ids), skip_special_tokens=True))
    shown = [token for token in ids if token in kept or token not in special]
    return decode(tokenizer, shown)


def is_in_thought(tokenizer: PreTrainedTokenizerBase, prompt: Sequence[int]) -> bool:
    """Whether a prompt, as token ids, ends with the beginning of a thought."""
    return begins_thought(decode(tokenizer, prompt[-_TAIL:]))
