"""The contract of engines, which generate text with one model.

An engine holds one model and at most one safety bias. It guarantees:

* ``generate`` returns one completion per request, in the order of the requests;
* a request's completion does not depend on its neighbours in the batch (up to rounding);
* greedy decoding and the same seed give the same text;
* with a bias, the logits of step i are the model's minus strength x bias[i] for i < steps, and the
  model's own after that; an engine that cannot keep this says so before it loads weights.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import torch

from tsdi.arguments import Name, check_counts, check_whole, is_number
from tsdi.bias.knobs import Knobs
from tsdi.errors import UsageError
from tsdi.models.shipped import LONGEST, longest_answer

COLDEST, HOTTEST = 1e-3, 100.0
"""Temperatures at which a draw means something: logits over colder ones can be infinite."""

Message = dict[str, str]  # {"role": "user" | "assistant" | "system", "content": text}


@dataclass(frozen=True)
class Request:
    """One chat to be answered, with a strength of its own if it has one.

    Attributes:
        messages: The chat so far, the last message being the user's.
        strength: Factor of the bias; None takes the engine's own strength.
    """

    messages: tuple[Message, ...]
    strength: float | None = None

    @classmethod
    def from_text(cls, text: str) -> "Request":
        """A chat of one user message."""
        return cls(({"role": "user", "content": text},))


@dataclass(frozen=True)
class Sampling:
    """Options of decoding: length, temperature and seed.

    Attributes:
        max_new_tokens: Most tokens in one completion; None is 256, or what the models that come
            with tsdi have room for.
        temperature: 0 is greedy decoding; else from `COLDEST` to `HOTTEST`.
        seed: Decides the draws when the temperature is above 0.
        keep_logits: Return the logits of every step (float32, on the CPU).
        logits_of: The tokens whose logits are then needed, at most 128; an engine may leave the
            others at -inf. Empty means all.
    """

    max_new_tokens: int | None = None
    temperature: float = 0.0
    seed: int = 0
    keep_logits: bool = False
    logits_of: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if self.max_new_tokens is not None:
            check_counts(self, "max_new_tokens")
        check_whole("seed", self.seed, None)
        heat = self.temperature
        if not is_number(heat) or (heat != 0 and not COLDEST <= heat <= HOTTEST):
            raise UsageError(
                f"The temperature is {heat!r}.",
                f"Take 0 (greedy decoding), or {COLDEST:g} to {HOTTEST:g}.",
            )

    @property
    def longest(self) -> int:
        """Most tokens in one completion."""
        return LONGEST if self.max_new_tokens is None else self.max_new_tokens

    def of_model(self, name: Name) -> "Sampling":
        """The same, with a length where there is none: what this model has room for."""
        return replace(self, max_new_tokens=longest_answer(str(name), self.max_new_tokens))


@dataclass(frozen=True)
class Completion:
    """An engine's answer to one request, as text and tokens, and why it ended.

    Attributes:
        text: Text of the answer, thoughts included; of special tokens only those that tell where
            a thought ends.
        token_ids: Its tokens, the end-of-text token included if there was one.
        finish: "stop" if the model ended the answer, "length" if it was cut off, "filter" if a
            server's content filter withheld it or a part of it, "error" if a server turned the
            prompt down for another reason.
        logits: Logits after the rule, [len(token_ids), vocab], if they were asked for.
        in_thought: Whether the prompt had begun a thought, so that the text goes on with it.
        reason: The server's reason, where it turned the prompt down.
        bias_began: False if the bias begins behind a marker (its anchor) that never came, so that
            nothing was subtracted.
        strength: What a condition made the strength; None where none did, or where the engine does
            not say.
    """

    text: str
    token_ids: tuple[int, ...]
    finish: Literal["stop", "length", "filter", "error"]
    logits: torch.Tensor | None = field(default=None, repr=False, compare=False)
    in_thought: bool = False
    reason: str = ""
    bias_began: bool = True
    strength: float | None = field(default=None, compare=False)


class Engine(ABC):
    """Generates completions with one model; see the module's contract."""

    @abstractmethod
    def generate(self, requests: Sequence[Request], sampling: Sampling) -> list[Completion]:
        """Answer all requests as one batch.

        Args:
            requests: Chats, answered together as one batch.
            sampling: Options of decoding.

        Returns:
            One completion per request, in their order.

        Raises:
            PromptError: If a request does not fit the model's context.
        """

    @abstractmethod
    def check(self, request: Request, sampling: Sampling) -> None:
        """Raise PromptError if the request and its answer cannot fit the model's context."""

    def close(self) -> None:  # noqa: B027  # most have nothing to give back
        """Give back memory that would not go with the engine itself, as vLLM's."""

    def at(self, knobs: Knobs) -> "Engine":
        """The engine with its bias at another setting; the weights are the same.

        Raises:
            UsageError: If it subtracts no bias itself.
        """
        raise UsageError(
            "This engine subtracts no bias itself, so that no setting can be tried.",
            "Take transformers, vllm or llama-cpp, with a bias.",
        )
