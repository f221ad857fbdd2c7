"""Settings of estimating a bias."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from transformers import PreTrainedTokenizerBase

from tsdi.arguments import check_counts, check_number, check_whole
from tsdi.bias.paired_rows import LabelledIds
from tsdi.bias.pool import TokenPool
from tsdi.bias.random_prompts import RandomPrompts, random_prompts
from tsdi.errors import UsageError
from tsdi.models.chat import OWN_TEMPLATE, ChatFormat

if TYPE_CHECKING:
    from tsdi.arguments import Name
    from tsdi.suites.load import PromptSource


@dataclass(frozen=True)
class Estimation:
    """Settings that decide a bias's numbers, but for the two models.

    Attributes:
        prompts: Number of random prompts, at most.
        steps: Response positions to estimate.
        prompt_tokens: Random tokens in a prompt, those of the template not counted.
        pool: Token pool, or its name as in ``TokenPool.from_name``.
        ngram: Pool tokens that are drawn together, as they follow one another.
        seed: Decides the random prompts.
        groups: Groups for the batch-means error.
        target_error: Stop at the first of 2, 4, 8, ... prompts per group at which the root mean
            square over tokens of the standard error is at most this at every step, in logits.
        chat: Chat format of prompts; default: the tokenizer's own chat template.
        anchor: End-of-thinking marker after which step 0 is, such as "</think>".
        order: 0 is TSDI; with 1 the bias also follows the logits (`tsdi.bias.first_order`).
        labelled: Harmful and harmless prompts to which a bias of first order is fitted, by name (as
            for `tsdi.generate`, with kinds) or as token ids; None takes the random ones.

    Raises:
        UsageError: If there are too few prompts or groups for an error, or the target is none.
    """

    prompts: int = 512
    steps: int = 16
    prompt_tokens: int = 48
    pool: TokenPool | str = "neutral"
    ngram: int = 1
    seed: int = 0
    groups: int = 16
    target_error: float | None = None
    chat: ChatFormat = OWN_TEMPLATE
    anchor: str = ""
    order: int = 0
    labelled: "LabelledIds | PromptSource | Name | None" = None

    def __post_init__(self) -> None:
        check_counts(self, "prompts", "steps", "prompt_tokens", "ngram", "groups")
        check_whole("seed", self.seed, 0)
        if type(self.order) is not int or self.order not in (0, 1):
            raise UsageError(f"The order is {self.order!r}.", "Take 0, which is TSDI, or 1.")
        if self.labelled is not None and not self.order:
            raise UsageError(
                "Labelled prompts are for a bias of first order.", "Take order 1, or no prompts."
            )
        if self.order and self.anchor:
            raise UsageError("A bias of first order begins at no marker.", "Leave one of them out.")
        if self.groups < 2 or self.prompts < self.groups:
            raise UsageError(
                f"{self.prompts} random prompts in {self.groups} groups give no standard error.",
                "Take at least 2 groups and at least as many prompts as groups.",
            )
        if self.target_error is not None:
            check_number("target_error", self.target_error, above=0)

    def random_prompts(self, tokenizer: PreTrainedTokenizerBase) -> RandomPrompts:
        """The endless list of random prompts for a tokenizer."""
        return random_prompts(
            tokenizer,
            TokenPool.from_name(self.pool, tokenizer),
            prompt_tokens=self.prompt_tokens,
            steps=self.steps,
            seed=self.seed,
            chat_format=self.chat,
            anchor=self.anchor,
            ngram=self.ngram,
        )
