"""``show``: the most promoted and demoted tokens of a bias, step by step."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerBase

from tsdi.arguments import Name, as_name, check_whole
from tsdi.bias.condition_file import condition_fields
from tsdi.bias.diagnosis import TOKENS_SHOWN, TokenShift, shifted_tokens
from tsdi.bias.safety_bias import SafetyBias
from tsdi.bias.slope_file import slope_fields
from tsdi.models.chat import decode
from tsdi.models.load import load_tokenizer


@dataclass(frozen=True)
class ShownBias:
    """A bias with its most promoted and demoted tokens.

    Attributes:
        bias: The bias.
        promoted: By step, the tokens that it promotes most.
        demoted: By step, the tokens that it demotes most.
        weighted: Whether likely tokens come first, as in a diagnosis; else the largest shifts do.
    """

    bias: SafetyBias
    promoted: list[list[TokenShift]]
    demoted: list[list[TokenShift]]
    weighted: bool

    def to_dict(self) -> dict[str, Any]:
        """Provenance and shown tokens as JSON, without the values."""
        condition, slope = self.bias.condition, self.bias.slope
        return {
            "steps": self.bias.steps,
            "vocab": self.bias.vocab,
            **self.bias.info.model_dump(mode="json"),
            "condition": None if condition is None else condition_fields(condition),
            "slope": None if slope is None else slope_fields(slope),
            "promoted": [[asdict(token) for token in step] for step in self.promoted],
            "demoted": [[asdict(token) for token in step] for step in self.demoted],
        }


def show(
    bias: Name | SafetyBias,
    steps: int = 6,
    tokens: int = 4,
    tokenizer: Name | PreTrainedTokenizerBase | None = None,
) -> ShownBias:
    """The most promoted and demoted tokens of a bias.

    Args:
        bias: Folder or hub id of a safety bias, or the bias.
        steps: Number of steps to show.
        tokens: Tokens per step and direction.
        tokenizer: Folder or hub id of the tokenizer, or the tokenizer; None is the aligned model's.

    Raises:
        UsageError: If steps or tokens are no whole number, or below 1.
        TsdiError: If bias or tokenizer cannot be loaded, or do not belong together.
    """
    check_whole("steps", steps)
    check_whole("tokens", tokens)
    loaded = (
        bias if isinstance(bias, SafetyBias) else SafetyBias.from_pretrained(as_name("bias", bias))
    )
    words = tokenizer or loaded.info.aligned
    if isinstance(words, str | Path):
        words = load_tokenizer(words)
    loaded.check(words)
    kept = [_diagnosed(loaded, words, name, tokens) for name in ("promoted", "demoted")]
    weighted = all(kept)
    if not weighted:
        kept = [shifted_tokens(loaded, words, largest=one, number=tokens) for one in (True, False)]
    promoted, demoted = (rows[:steps] for rows in kept)
    return ShownBias(loaded, promoted, demoted, weighted)


def _diagnosed(
    bias: SafetyBias, tokenizer: PreTrainedTokenizerBase, name: str, number: int
) -> list[list[TokenShift]]:
    """The tokens of a bias's diagnosis; none where it has not as many, or no probabilities."""
    rows = bias.info.diagnosis.get(name, [])
    if number > TOKENS_SHOWN or len(rows) != bias.steps:
        return []
    cut = [row[:number] for row in rows]
    if any(
        one.get("likely") is None or not 0 <= one["token"] < bias.vocab for r in cut for one in r
    ):
        return []
    return [
        [
            TokenShift(
                one["token"], decode(tokenizer, [one["token"]]), one["shift"], one["error"],
                one["likely"],
            )
            for one in row
        ]
        for row in cut
    ]  # fmt: skip
