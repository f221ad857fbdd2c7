"""``show``: the most promoted and demoted tokens of a bias, step by step."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerBase

from tsdi.arguments import Name, as_name, check_whole
from tsdi.bias.condition_file import condition_fields
from tsdi.bias.diagnosis import TokenShift, shifted_tokens
from tsdi.bias.safety_bias import SafetyBias
from tsdi.bias.slope_file import slope_fields
from tsdi.models.load import load_tokenizer


@dataclass(frozen=True)
class ShownBias:
    """A bias with its most promoted and demoted tokens.

    Attributes:
        bias: The bias.
        promoted: By step, the tokens that it promotes most.
        demoted: By step, the tokens that it demotes most.
    """

    bias: SafetyBias
    promoted: list[list[TokenShift]]
    demoted: list[list[TokenShift]]

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
    promoted, demoted = (
        shifted_tokens(loaded, words, largest=largest, number=tokens)[:steps]
        for largest in (True, False)
    )
    return ShownBias(loaded, promoted, demoted)
