"""Chats as token ids: the model's own template, with its clock stopped."""

import datetime
import hashlib
import json
import re
from collections.abc import Sequence

from jinja2 import TemplateError
from transformers import PreTrainedTokenizerBase

from tsdi.errors import PromptError, UsageError

PINNED_DATE = datetime.date(2025, 1, 1)
_CLOCK = re.compile(r"""strftime_now\(\s*(['"])(.*?)\1\s*\)""")
_PROBES = (
    "Hello, world!  How do I kill a process?",
    "naïve 数学 \n\t 3.14 <b>",
    "user: assistant:",
)


def encode_chat(
    tokenizer: PreTrainedTokenizerBase,
    messages: Sequence[dict[str, str]],
    prompt_format: str | None = None,
) -> list[int]:
    """Token ids of a chat, up to the place where the model's answer begins.

    Templates that print today's date print ``PINNED_DATE``, so that the same chat has the same ids
    tomorrow. Without a chat template the messages' texts are joined by blank lines.

    Args:
        tokenizer: The model's tokenizer.
        messages: The chat, each message with "role" and "content".
        prompt_format: Used instead of the chat template, with ``{prompt}`` where the joined texts
            go, such as "USER: {prompt} ASSISTANT:". To one that begins with the tokenizer's
            beginning-of-text token, no special tokens are added.

    Raises:
        UsageError: If ``prompt_format`` has no ``{prompt}``.
        PromptError: If the chat template refuses the chat.
    """
    if prompt_format is None and tokenizer.chat_template is not None:
        try:
            ids = tokenizer.apply_chat_template(
                list(messages),
                add_generation_prompt=True,
                tokenize=True,
                return_dict=False,
                chat_template=_pinned(tokenizer.get_chat_template()),
            )
        except (TemplateError, ValueError) as error:
            raise PromptError(
                f"No chat template for a chat of {[m['role'] for m in messages]}: {error}.",
                "Give the messages that the model was trained on.",
            ) from error
        return list(ids)
    if prompt_format is not None and "{prompt}" not in prompt_format:
        raise UsageError(
            f"The prompt format {prompt_format!r} has no {{prompt}} in it.",
            "Write it like 'USER: {prompt} ASSISTANT:'.",
        )
    text = "\n\n".join(message["content"] for message in messages)
    begun = bool(tokenizer.bos_token) and (prompt_format or "").startswith(tokenizer.bos_token)
    filled = (prompt_format or "{prompt}").replace("{prompt}", text)
    return list(tokenizer(filled, add_special_tokens=not begun)["input_ids"])


def _pinned(template: str) -> str:
    # transformers passes no functions on to templates, so the date is written into the template.
    return _CLOCK.sub(lambda match: repr(PINNED_DATE.strftime(match[2])), template)


def decode(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int]) -> str:
    """The text of token ids, special tokens included."""
    return str(tokenizer.decode(list(ids)))


def describe_format(tokenizer: PreTrainedTokenizerBase, prompt_format: str | None = None) -> str:
    """What ``encode_chat`` wraps prompts in, in words."""
    if prompt_format is not None:
        return f"prompt format {prompt_format!r}"
    if tokenizer.chat_template is not None:
        return "the tokenizer's chat template"
    return "plain text (the tokenizer has no chat template)"


def template_sha256(tokenizer: PreTrainedTokenizerBase, prompt_format: str | None = None) -> str:
    """SHA-256 of what prompts are wrapped in: the prompt format, else the chat template."""
    template = prompt_format if prompt_format is not None else tokenizer.chat_template
    text = template if isinstance(template, str) else json.dumps(template, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def tokenizer_sha256(tokenizer: PreTrainedTokenizerBase) -> str:
    """SHA-256 of what a tokenizer does: its vocabulary and how it splits a few probe texts.

    Files are not compared, since the same tokenizer is written differently by different versions.
    """
    vocabulary = sorted((index, token) for token, index in tokenizer.get_vocab().items())
    probes = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in _PROBES]
    return hashlib.sha256(json.dumps([vocabulary, probes]).encode()).hexdigest()
