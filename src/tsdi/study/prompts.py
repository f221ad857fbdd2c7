"""The prompts of a study by split: limited, with ids that tell sources apart."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import combinations

from tsdi.errors import PromptError
from tsdi.study.settings import Source
from tsdi.suites.prompts import Prompt, limited

Loaded = Sequence[tuple[Source, list[Prompt]]]


def split_prompts(loaded: Mapping[str, Loaded], share: float | None) -> dict[str, list[Prompt]]:
    """Split prompts into test, validation and fit.

    `share` of the test prompts are put aside for validation, by a hash of the text, so that it does
    not depend on what else there is; None takes the validation sources. What is answered stands in
    the order of its length, so that batches have little padding.

    Raises:
        PromptError: If a prompt has no kind, or stands in two splits.
    """
    found = {split: _joined(sources) for split, sources in loaded.items()}
    if share is not None:
        every = found["test"]
        found["validation"] = [prompt for prompt in every if _place(prompt) < share]
        found["test"] = [prompt for prompt in every if _place(prompt) >= share]
    for one, other in combinations(found, 2):
        texts = {prompt.messages[-1]["content"] for prompt in found[one]}
        for prompt in found[other]:
            if prompt.messages[-1]["content"] in texts:
                raise PromptError(
                    f"The prompt {prompt.id!r} is a {one} prompt and a {other} prompt.",
                    "Give every split prompts of its own, or a validation_share.",
                )
    for split in ("validation", "test"):
        found[split].sort(key=_length)
    return found


def _length(prompt: Prompt) -> int:
    return sum(len(message["content"]) for message in prompt.messages)


def _place(prompt: Prompt) -> float:
    digest = hashlib.sha256(prompt.messages[-1]["content"].encode()).digest()
    return int.from_bytes(digest[:6]) / 2**48


def _joined(loaded: Loaded) -> list[Prompt]:
    """All sources' prompts, each text once, with ids that tell sources apart."""
    several = len(loaded) > 1
    found: dict[str, Prompt] = {}
    for number, (source, prompts) in enumerate(loaded, start=1):
        for prompt in limited(prompts, source.limit):
            if not prompt.kind:
                raise PromptError(
                    f"The prompt {prompt.id!r} of {source.load} has no kind.",
                    "Say `kind: harmless`, lookalike or harmful in the study.",
                )
            name = f"{number}-{prompt.id}" if several else prompt.id
            found.setdefault(prompt.messages[-1]["content"], replace(prompt, id=name))
    return list(found.values())
