"""The rule (`tsdi.decoding.rule`) in transformers: a ``LogitsProcessor`` for ``generate``."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from transformers import LogitsProcessor, PreTrainedTokenizerBase

from tsdi.decoding.anchor import Anchor, find_anchor
from tsdi.decoding.condition import RowStrengths, Strength
from tsdi.decoding.rule import subtract_bias
from tsdi.errors import UsageError

if TYPE_CHECKING:
    from tsdi.bias import SafetyBias


class SafetyDebias(LogitsProcessor):
    """Subtracts strength x bias[i] from the logits of response token i.

    One object is for one prompt length, and can be used again for other calls with the same; a
    longer prompt is refused. It keeps no count of calls: the step follows from the length of
    ``input_ids``, so beams, assisted and prompt-lookup decoding (which go back over steps) and
    caches of every kind are right. An assistant model must share the tokenizer: generate hands it
    this processor too. A condition reads the model's logits after the assistant's, so that the
    model's own strength is the one that counts.
    """

    supports_continuous_batching = False  # it shows a processor no step

    def __init__(
        self,
        bias: "SafetyBias",
        prompt_length: int,
        strength: Strength | Sequence[Strength] | Tensor | None = None,
        tokenizer: PreTrainedTokenizerBase | None = None,
    ) -> None:
        """Make a processor for prompts of one (padded) length.

        Args:
            bias: The safety bias.
            prompt_length: Columns of ``input_ids`` given to ``generate``, padding included; 0 with
                ``inputs_embeds``, where generate starts without ids.
            strength: Factor of the bias: one number or a condition, or one per row
                [batch]; with rows repeated by beams or return sequences, each counts for its rows.
                None leaves it to the bias's condition, or takes what it recommends.
            tokenizer: The model's; a bias that begins behind a marker finds it by the tokens'
                texts. Before the marker nothing changes. A prompt that ends with it, or with it and
                one or two tokens such as line breaks, starts at step 0.

        Raises:
            UsageError: If the prompt length is negative; if a strength is none, or none is named
                and none recommended; or if the bias begins behind a marker and there is no
                tokenizer.
        """
        if prompt_length < 0:
            raise UsageError(f"prompt_length must not be negative, not {prompt_length}.")
        self._bias = bias.shift
        self._prompt_length = prompt_length
        used = bias.strength_or_condition(None) if strength is None else strength
        self._strength = RowStrengths(used)
        self._anchor = _anchor(bias.info.anchor, tokenizer)
        self._seen: Tensor | None = None  # ids of the call before

    @property
    def found(self) -> list[float | None]:
        """The strengths that a condition has set, by row (`RowStrengths.found`)."""
        return self._strength.found

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Debiased scores, [rows, width]."""
        self._check(input_ids, scores)
        if self._bias.device != scores.device:
            self._bias = self._bias.to(scores.device)
        first = input_ids.shape[1] == self._prompt_length
        strength = self._strength.at(scores, first=first)
        return subtract_bias(scores, self._step(input_ids), self._bias, strength)

    def _check(self, input_ids: Tensor, scores: Tensor) -> None:
        if input_ids.dim() != 2:
            raise UsageError(
                "The debiasing processor needs input_ids [batch, length]; continuous batching "
                "gives it no step.",
                "Use generate().",
            )
        if input_ids.shape[1] != self._prompt_length and not self._goes_on(input_ids):
            raise UsageError(
                f"prompt_length is {self._prompt_length}, but generate() began with "
                f"{input_ids.shape[1]} ids.",
                "Make a processor for this prompt, with input_ids.shape[1] of the padded batch; 0"
                " with inputs_embeds.",
            )
        self._seen = input_ids
        if scores.shape[1] < self._bias.shape[1]:
            raise UsageError(
                f"The bias is for {self._bias.shape[1]} tokens, the model has {scores.shape[1]}.",
                "Estimate a bias for this model.",
            )

        rows = len(self._strength)
        if self._strength.each and (not rows or len(scores) % rows):
            raise UsageError(
                f"{rows} strengths for {len(scores)} rows.",
                "Give one for all, or one per row of the batch.",
            )

    def _goes_on(self, input_ids: Tensor) -> bool:
        """Whether every row continues a row of the last call by one token.

        Assisted decoding goes back in an answer, and beams change places. A longer prompt that
        begins with all of the last one and its answer is that answer, going on.
        """
        before = input_ids[:, :-1]
        if self._seen is None or not self._prompt_length <= before.shape[1] <= self._seen.shape[1]:
            return False
        seen = self._seen[:, : before.shape[1]].to(before.device)
        if torch.equal(before, seen):
            return True
        return bool((before[:, None] == seen[None]).all(-1).any(1).all())

    def _step(self, input_ids: Tensor) -> Tensor | int:
        """The response position that is predicted next, one for all rows or int64 [rows]."""
        if self._anchor is None:
            return input_ids.shape[1] - self._prompt_length
        return self._anchor.steps(input_ids, self._prompt_length)


def _anchor(marker: str, tokenizer: PreTrainedTokenizerBase | None) -> Anchor | None:
    """The detector of the marker behind which a bias begins; None without a marker."""
    if not marker:
        return None
    if tokenizer is None:
        raise UsageError(
            f"The bias begins behind {marker!r}, which is found by its text.",
            "Name the tokenizer too: logits_processor(..., tokenizer=tokenizer).",
        )
    return find_anchor(tokenizer, marker)
