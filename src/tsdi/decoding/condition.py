"""A condition: the strength for a prompt, from the logits of its first response token.

    h(x) = <w, z> + b                                    z: the model's own logits at step 0
    s(x) = high + (low - high) x sigmoid(h(x) / width)   the strength at every step

h is large where the prompt is harmful. How w and b are found is in `tsdi.condition`. The word is
CAST's (arXiv 2409.05907), whose condition reads hidden states.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from math import isfinite, isnan, nan
from typing import Any

import torch
from torch import Tensor

from tsdi.decoding.rule import LARGEST_STRENGTH, check_strength
from tsdi.errors import MismatchError, UsageError

WIDTHS = 1e-6, 1e6
"""Least and largest width, in units of h."""
LARGEST_SUM = 1e-4
"""Of the weights, as a share of the sum of their sizes: they add up to 0 but for rounding."""


@dataclass(frozen=True, eq=False)
class Condition:
    """A linear function of the logits at step 0 that sets the strength; an immutable value.

    Its weights add up to 0, so that a constant added to all logits changes nothing: it reads
    log-probabilities as well, and only the logits of its own tokens.

    Attributes:
        tokens: Tokens whose logits it reads, int64 [k], ascending.
        weights: w at these tokens, float32 [k]; 0 elsewhere.
        intercept: b.
        low: Strength where the prompt is surely harmful; below 0 the bias is added.
        high: Strength where the prompt is surely harmless.
        width: Width of the change from one to the other, in units of h.
        tokenizer_sha256: SHA-256 of the tokenizer that it was fitted with.
        template_sha256: SHA-256 of the chat template.
        evidence: Cross-validation of its fit (`tsdi.condition.crossvalidation`), as plain objects.

    Raises:
        UsageError: If a field has an invalid value.
    """

    tokens: Tensor = field(repr=False)
    weights: Tensor = field(repr=False)
    intercept: float
    low: float = 0.0
    high: float = 1.0
    width: float = 1.0
    tokenizer_sha256: str = field(default="", repr=False)
    template_sha256: str = field(default="", repr=False)
    evidence: dict[str, Any] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        if wrong := self._wrong():
            raise UsageError(f"This is no condition: {wrong}.", "Fit it again.")

    def _wrong(self) -> str:
        tokens, weights = self.tokens, self.weights
        if tokens.dim() != 1 or tokens.shape != weights.shape or not len(tokens):
            shapes = f"{tuple(tokens.shape)} and {tuple(weights.shape)}"
            return f"tokens and weights have the shapes {shapes}"
        if tokens.dtype != torch.int64 or weights.dtype != torch.float32:
            return f"tokens and weights are {tokens.dtype} and {weights.dtype}"
        if int(tokens[0]) < 0 or bool((tokens.diff() <= 0).any()):
            return "its tokens do not ascend from 0 on"
        if not bool(weights.isfinite().all()):
            return "a weight is NaN or infinite"
        if abs(float(weights.double().sum())) > LARGEST_SUM * float(weights.double().abs().sum()):
            return "its weights do not add up to 0"
        return self._wrong_numbers()

    def _wrong_numbers(self) -> str:
        if not isfinite(self.intercept):
            return f"its intercept is {self.intercept}"
        if not -LARGEST_STRENGTH <= self.low <= self.high <= LARGEST_STRENGTH:
            return (
                f"low and high are {self.low:g} and {self.high:g}, not in order from"
                f" {-LARGEST_STRENGTH:g} to {LARGEST_STRENGTH:g}"
            )
        least, most = WIDTHS
        if not least <= self.width <= most:
            return f"its width is {self.width:g}, not from {least:g} to {most:g}"
        return ""

    @property
    def sha256(self) -> str:
        """Hash of all that decides a strength."""
        numbers = repr((self.intercept, self.low, self.high, self.width)).encode()
        parts = [tensor.contiguous().numpy().tobytes() for tensor in (self.tokens, self.weights)]
        return hashlib.sha256(numbers + b"".join(parts)).hexdigest()

    def score(self, logits: Tensor) -> Tensor:
        """Compute h of prompts, float32 [batch]: above 0 where they are rather harmful.

        Args:
            logits: The model's own at step 0, before any rule, [batch, width].

        Raises:
            MismatchError: If there are none for some of its tokens.
        """
        self.check_width(logits.shape[-1])
        read = logits[:, self.tokens.to(logits.device)].float()
        return read @ self.weights.to(logits.device) + self.intercept

    def strength(self, logits: Tensor) -> Tensor:
        """Compute s of prompts, float32 [batch].

        Where a logit that it reads is no finite number, as a grammar or another processor has ruled
        the token out, nothing is known of the prompt, and the strength is `low`.

        Args:
            logits: The model's own at step 0, before any rule, [batch, width].
        """
        return self.strength_between(logits, self.low, self.high, self.width, 0.0)

    def strength_between(
        self,
        logits: Tensor,
        low: "Tensor | float",
        high: "Tensor | float",
        width: "Tensor | float",
        threshold: "Tensor | float",
    ) -> Tensor:
        """As `strength`, with others than its own low, high and width; of each prompt if [batch].

        Args:
            logits: The model's own at step 0, before any rule, [batch, width].
            low: Strength where a prompt is surely harmful.
            high: Strength where it is surely harmless.
            width: Width of the change between them, in units of h.
            threshold: The h at which the strength is halfway between them.
        """
        score = self.score(logits)
        harmful = torch.sigmoid((score - threshold) / width)
        strength = high + (low - high) * harmful
        return torch.where(score.isfinite(), strength, low)

    def check_belongs(self, tokenizer_sha256: str, template_sha256: str, vocab: int) -> None:
        """Raise MismatchError unless it belongs to a bias with these hashes and tokens."""
        found = {"tokenizer": tokenizer_sha256, "template": template_sha256}
        for what, digest in found.items():
            if getattr(self, f"{what}_sha256") != digest:
                raise MismatchError(
                    f"The condition was fitted with another {what} than the bias's.",
                    "Fit it to the model and the prompt format that the bias is for.",
                )
        self.check_width(vocab)

    def check_width(self, width: int) -> None:
        """Raise MismatchError unless there are logits for all of its tokens."""
        if int(self.tokens[-1]) >= width:
            raise MismatchError(
                f"The condition reads token {int(self.tokens[-1])}, of {width}.",
                "Use it with the model for which it was fitted.",
            )


class RowStrengths:
    """The strength of every row of a batch: a number, or what a condition sets.

    A condition's is fixed at step 0 of each row. Rows that beams or return sequences repeat follow
    one another, have one prompt and so one strength; when beams change places, they do so among
    themselves.

    Args:
        strength: One number or condition for all rows, or one of either per row.

    Raises:
        UsageError: If a number is none, or there are two conditions.
    """

    def __init__(self, strength: "Strength | Sequence[Strength] | Tensor") -> None:
        self.condition, self._named = _split(strength)
        self._read: Tensor | None = None

    def __len__(self) -> int:
        """The number of rows with strengths of their own; 1 if one is for all."""
        return len(self._named) if isinstance(self._named, Tensor) else 1

    @property
    def each(self) -> bool:
        """Whether each row has a strength of its own."""
        return isinstance(self._named, Tensor)

    @property
    def found(self) -> list[float | None]:
        """What the condition has set for each row, as it read them; None where a number is named.

        Empty before step 0, and without a condition.
        """
        read: list[float | None] = [] if self._read is None else self._read.tolist()
        if not isinstance(self._named, Tensor):
            return read
        named = self._named.repeat_interleave(len(read) // len(self._named)).tolist()
        return [one if isnan(own) else None for one, own in zip(read, named, strict=True)]

    def at(self, logits: Tensor, *, first: bool) -> Tensor | float:
        """The strengths at one step: a number for all rows, or float32 [rows].

        Args:
            logits: Logits before the rule, [rows, width].
            first: Whether this is step 0.
        """
        named = self._named
        if isinstance(named, Tensor):
            named = named.repeat_interleave(len(logits) // len(named)).to(logits.device)
        if self.condition is None:
            return named
        if first:
            self._read = self.condition.strength(logits)
        if self._read is None or len(self._read) != len(logits):
            raise UsageError(
                f"The batch has {len(logits)} rows, and another number at its first step.",
                "Make a processor for each call of generate().",
            )
        if not isinstance(named, Tensor):
            return self._read
        return torch.where(named.isnan(), self._read, named)


def _split(
    strength: "Strength | Sequence[Strength] | Tensor",
) -> tuple[Condition | None, Tensor | float]:
    """The condition among strengths, and the numbers, NaN where the condition decides."""
    if isinstance(strength, Condition):
        return strength, nan
    if isinstance(strength, Tensor) and strength.dim():
        strength = strength.tolist()
    if not isinstance(strength, list | tuple):
        return None, check_strength(strength)
    found = {id(one): one for one in strength if isinstance(one, Condition)}
    if len(found) > 1:
        raise UsageError("A batch has one condition at most.", "Answer the prompts in two batches.")
    numbers = [nan if isinstance(one, Condition) else check_strength(one) for one in strength]
    return next(iter(found.values()), None), torch.tensor(numbers, dtype=torch.float32)


Strength = float | Condition
"""How much of a bias is subtracted: a number, or what sets one for each prompt."""
