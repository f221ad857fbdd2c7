"""Chats as token ids, by the model's own template or by a format of the user's."""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from jinja2 import TemplateError
from jinja2.defaults import DEFAULT_NAMESPACE
from jinja2.ext import loopcontrols
from jinja2.meta import find_undeclared_variables
from jinja2.sandbox import ImmutableSandboxedEnvironment

from tsdi.errors import PromptError, UsageError
from tsdi.files import json_sha256
from tsdi.models.template import SAID, apply_template, preceded

if TYPE_CHECKING:  # keeps transformers out of what needs no tokenizer
    from transformers import PreTrainedTokenizerBase

_PROBES = (
    "Hello, world!  How do I kill a process?",
    "naïve 数学 \n\t 3.14 <b>",
    "user: assistant:",
)
# What a template is given without being asked for it, besides the special tokens.
_GIVEN = {"messages", "tools", "documents", "add_generation_prompt"}
_FUNCTIONS = {"raise_exception", "strftime_now", *DEFAULT_NAMESPACE}
_GENERATION = re.compile(r"\{%-?\s*(end)?generation\s*-?%\}")  # transformers' own tag


@dataclass(frozen=True)
class ChatFormat:
    """The rendering of chats as text: by the tokenizer's chat template, or a prompt format.

    Attributes:
        prompt_format: Used instead of the chat template, with ``{prompt}`` where the joined texts
            go, such as "USER: {prompt} ASSISTANT:".
        template_args: Arguments of the chat template, such as ``{"enable_thinking": False}``.

    Raises:
        UsageError: If the prompt format has not one ``{prompt}``, or there are arguments besides.
    """

    prompt_format: str | None = None
    template_args: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.prompt_format is None:
            return
        number = self.prompt_format.count("{prompt}")
        if number != 1:
            raise UsageError(
                f"The prompt format {self.prompt_format!r} has {number or 'no'} {{prompt}} in it.",
                "Write it like 'USER: {prompt} ASSISTANT:'.",
            )
        if self.template_args:
            raise UsageError(
                "A prompt format takes no arguments of a chat template.",
                f"Leave out one: the format, or {', '.join(self.template_args)}.",
            )


OWN_TEMPLATE = ChatFormat()
"""The tokenizer's chat template as it is; plain text where it has none."""


def encode_chat(
    tokenizer: "PreTrainedTokenizerBase",
    messages: Sequence[dict[str, str]],
    chat_format: ChatFormat = OWN_TEMPLATE,
) -> list[int]:
    """Token ids of a chat, up to the place where the model's answer begins.

    Templates that print today's date print ``PINNED_DATE``, so that the same chat has the same ids
    tomorrow. Without a chat template the messages' texts are joined by blank lines. To a prompt
    format that begins with the tokenizer's beginning-of-text token, no special tokens are added.

    Raises:
        PromptError: If the chat template refuses the chat.
    """
    prompt_format = chat_format.prompt_format
    if prompt_format is None and tokenizer.chat_template is not None:
        return list(apply_template(tokenizer, messages, chat_format.template_args, tokenize=True))
    text = "\n\n".join(message["content"] for message in messages)
    begun = bool(tokenizer.bos_token) and (prompt_format or "").startswith(tokenizer.bos_token)
    filled = (prompt_format or "{prompt}").replace("{prompt}", text)
    ids = list(tokenizer(filled, add_special_tokens=False)["input_ids"])
    return ids if begun else special_ids(tokenizer)[0] + ids


def as_format(tokenizer: "PreTrainedTokenizerBase", system: str = "") -> str:
    """A tokenizer's chat template around one message of the user, as a prompt format.

    Args:
        tokenizer: The tokenizer; without a chat template the message stands alone.
        system: A system prompt before it.

    Raises:
        PromptError: If the chat template refuses the chat, or does not show all of it once.
    """
    if tokenizer.chat_template is None and not system:
        return "{prompt}"
    chat = [{"role": "user", "content": "{prompt}"}]
    if system:
        chat.insert(0, {"role": "system", "content": system})
    shown = tokenizer.chat_template is not None
    text = str(apply_template(tokenizer, chat, {}, tokenize=False)) if shown else ""
    if text.count("{prompt}") != 1 or system not in text:
        raise PromptError(
            "The chat template does not show " + ("a system prompt." if system else "a message."),
            "Write the prompt format yourself.",
        )
    return text


def special_ids(tokenizer: "PreTrainedTokenizerBase") -> tuple[list[int], list[int]]:
    """The ids that a tokenizer puts before and behind a text of its own accord.

    Nothing may stand behind a prompt: an answer that begins after an end-of-text token is none.
    """
    whole, bare = (
        list(tokenizer("a", add_special_tokens=special)["input_ids"]) for special in (True, False)
    )
    places = range(len(whole) - len(bare) + 1)
    start = next((k for k in places if whole[k : k + len(bare)] == bare), 0)
    return whole[:start], whole[start + len(bare) :]


def end_of_turn(tokenizer: "PreTrainedTokenizerBase") -> int | None:
    """The token that the chat template puts behind an assistant's message.

    Returns:
        Its id; None if there is no template, or what follows the message is no token of its own.
    """
    if tokenizer.chat_template is None:
        return None
    chat = [{"role": "user", "content": "a"}, {"role": "assistant", "content": SAID}]
    try:
        text = str(apply_template(tokenizer, chat, {}, tokenize=False, answering=False))
    except PromptError:
        return None
    _, found, after = text.rpartition(SAID)
    tokens = {str(token): index for index, token in tokenizer.added_tokens_decoder.items()}
    ends = [token for token in tokens if after.lstrip().startswith(token)] if found else []
    return tokens[max(ends, key=len)] if ends else None


def check_format(tokenizer: "PreTrainedTokenizerBase", chat_format: ChatFormat) -> None:
    """Raise UsageError unless the tokenizer's chat template uses every argument that it is given.

    An argument is used if chats look different with it, without it, or with another value of its
    type; so the default may be given too, and a text where the template asks for true or false is
    found out.
    """
    given = dict(chat_format.template_args)
    known = _arguments(tokenizer) if given else []
    for name, value in given.items():
        if name not in known:
            raise UsageError(
                f"The chat template takes no argument {name!r}.",
                f"It takes {', '.join(known)}." if known else "It takes none.",
            )
        rest = {other: kept for other, kept in given.items() if other != name}
        looks = [rest, given, *({**given, name: other} for other in _alternatives(value))]
        if len({_looks(tokenizer, one) for one in looks}) == 1:
            raise UsageError(
                f"The chat template makes nothing of {name}={json.dumps(value)}.",
                "Leave it out, or give the kind of value that it asks for, such as true or false.",
            )


def _arguments(tokenizer: "PreTrainedTokenizerBase") -> list[str]:
    """Names of the variables that a chat template reads besides the chat."""
    if tokenizer.chat_template is None:
        return []
    template = _GENERATION.sub("", tokenizer.get_chat_template())
    try:
        parsed = ImmutableSandboxedEnvironment(extensions=[loopcontrols]).parse(template)
    except TemplateError as error:
        raise PromptError(f"The chat template cannot be read: {error}.") from error
    given = _GIVEN | _FUNCTIONS | set(tokenizer.special_tokens_map)
    return sorted(find_undeclared_variables(parsed) - given)


def _alternatives(value: Any) -> list[Any]:
    if isinstance(value, bool):
        return [not value]
    if isinstance(value, int | float):
        return [value + 1]
    return [value + "_"] if isinstance(value, str) else []


def _looks(tokenizer: "PreTrainedTokenizerBase", template_args: Mapping[str, Any]) -> str:
    """The ids that a template makes of a few chats, or its refusals, as one text."""
    user, assistant, system = (
        {"role": role, "content": "a"} for role in ("user", "assistant", "system")
    )
    texts: list[object] = []
    for chat in ([user], [system, user], [user, assistant, user]):
        try:
            texts.append(encode_chat(tokenizer, chat, ChatFormat(template_args=template_args)))
        except PromptError as error:
            texts.append(str(error))
    return json.dumps(texts)


def decode(tokenizer: "PreTrainedTokenizerBase", ids: Sequence[int]) -> str:
    """The text of token ids, special tokens included."""
    return str(tokenizer.decode(list(ids)))


def fix_arguments(tokenizer: "PreTrainedTokenizerBase", template_args: Mapping[str, Any]) -> None:
    """Make arguments of a tokenizer's chat template part of the template.

    Raises:
        UsageError: If the template does not use one.
    """
    if not template_args:
        return
    check_format(tokenizer, ChatFormat(template_args=template_args))
    fixed = "".join(f"{{% set {name} = {value!r} %}}" for name, value in template_args.items())
    tokenizer.chat_template = preceded(fixed, tokenizer.get_chat_template())


def describe_without_template(chat_format: ChatFormat) -> str:
    """The wrapping of prompts where the tokenizer has no chat template, in words."""
    if chat_format.prompt_format is not None:
        return f"prompt format {chat_format.prompt_format!r}"
    return "plain text (the tokenizer has no chat template)"


def template_sha256(
    tokenizer: "PreTrainedTokenizerBase", chat_format: ChatFormat = OWN_TEMPLATE
) -> str:
    """SHA-256 of the prompt format, or of the chat template where there is none.

    Arguments of the template are part of it.
    """
    own = chat_format.prompt_format
    template: Any = tokenizer.chat_template if own is None else own
    if chat_format.template_args:
        template = [template, dict(chat_format.template_args)]
    text = template if isinstance(template, str) else json.dumps(template, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def tokenizer_sha256(tokenizer: "PreTrainedTokenizerBase") -> str:
    """SHA-256 of a tokenizer's vocabulary and of its splits of a few probe texts.

    Files are not compared, since the same tokenizer is written differently by different versions.
    """
    vocabulary = sorted((index, token) for token, index in tokenizer.get_vocab().items())
    probes = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in _PROBES]
    return json_sha256([vocabulary, probes])


def prompt_sha256(ids: Sequence[int]) -> str:
    """The hash by which a prompt of a fit is recognised, 16 hex digits."""
    return hashlib.sha256(np.array(ids, "<i8").tobytes()).hexdigest()[:16]
