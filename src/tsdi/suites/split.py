"""Labelled prompts in parts, so that what is fitted or chosen on one is looked at on another."""

import hashlib
import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

from tsdi.errors import PromptError
from tsdi.stats.clusters import chained
from tsdi.suites.prompts import Prompt

_LOG = logging.getLogger(__name__)


def divide(prompts: Sequence[Prompt], shares: Mapping[str, float]) -> dict[str, list[Prompt]]:
    """Prompts by part, in the order given; which goes where is decided by a hash of its text.

    Prompts of one group, or with one text, stay together. Every kind, and every category of
    harmful prompts, is divided by the shares.

    Args:
        prompts: Prompts with kinds.
        shares: The parts, and their shares.

    Raises:
        PromptError: If one text is labelled as both harmful and harmless.
    """
    _check_one_kind_each(prompts)
    group = _groups(prompts)
    part = _assign(prompts, group, shares)
    return {
        name: [p for p, g in zip(prompts, group, strict=True) if part[g] == name] for name in shares
    }


def _check_one_kind_each(prompts: Sequence[Prompt]) -> None:
    kinds: dict[str, Prompt] = {}
    for prompt in prompts:
        text, harmful = _text(prompt), prompt.kind == "harmful"
        first = kinds.setdefault(text, prompt)
        if (first.kind == "harmful") != harmful:
            raise PromptError(
                f"{first.id} and {prompt.id} are one text, once harmful and once harmless.",
                "Label each prompt once.",
            )


def distinct(prompts: Sequence[Prompt]) -> list[Prompt]:
    """The first prompt of each text; case and spaces make no other text. Copies are logged.

    Raises:
        PromptError: If one text is labelled as both harmful and harmless.
    """
    _check_one_kind_each(prompts)
    found: dict[str, Prompt] = {}
    for prompt in prompts:
        found.setdefault(_text(prompt), prompt)
    if left := len(prompts) - len(found):
        _LOG.info("%d of %d prompts are copies of others, and left out.", left, len(prompts))
    return list(found.values())


def _text(prompt: Prompt) -> str:
    """A prompt's text without what spaces and capitals make of it."""
    said = ((one["role"], " ".join(one["content"].casefold().split())) for one in prompt.messages)
    return repr(list(said))


def joined(prompts: Sequence[Prompt]) -> list[Prompt]:
    """The prompts with one name for each group of copies and near copies, in any chain."""
    groups = zip(prompts, _groups(prompts), strict=True)
    return [replace(prompt, group=name) for prompt, name in groups]


def _groups(prompts: Sequence[Prompt]) -> list[str]:
    """The name of every prompt's group: those that share a group or a text, in any chain.

    Spaces and capitals make no other text.
    """
    return chained(
        [
            [repr(p.messages), f"text {_text(p)}", *([f"group {p.group}"] if p.group else [])]
            for p in prompts
        ]
    )


def _assign(
    prompts: Sequence[Prompt], group: Sequence[str], shares: Mapping[str, float]
) -> dict[str, str]:
    """The part of every group: the one that lacks most of its stratum.

    Strata are the kinds, of harmful prompts the categories. Groups go by their first prompt, the
    largest first.
    """
    sizes = Counter(group)
    stratum: dict[str, tuple[str, str]] = {}
    for prompt, name in zip(prompts, group, strict=True):
        category = prompt.category if prompt.kind == "harmful" else ""
        stratum.setdefault(name, (prompt.kind, category))
    total: Counter[tuple[str, str]] = Counter()
    for name, number in sizes.items():
        total[stratum[name]] += number
    held: Counter[tuple[tuple[str, str], str]] = Counter()
    part = {}
    for name in sorted(sizes, key=lambda one: (-sizes[one], _hash(one))):
        own = stratum[name]
        lacks = {one: round(shares[one] * total[own] - held[own, one], 6) for one in shares}
        part[name] = max(shares, key=lacks.__getitem__)
        held[own, part[name]] += sizes[name]
    return part


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
